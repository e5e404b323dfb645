package finermoe

import (
	"errors"
	"io/fs"
	"os"
	"testing"
)

func TestErrors(t *testing.T) {
	model := openModel(t)
	_, err := model.NewSession(ContextLength(1_000_000_000))
	fails(t, "a context that is too long", err, ErrContextLength)
	var failed *Error
	if !errors.As(err, &failed) {
		t.Fatalf("not an *Error: %T", err)
	}
	if failed.Code != ErrContextLength || failed.Name != "FINERMOE_ERROR_CONTEXT_LENGTH" || failed.Message == "" ||
		failed.Expected != "at most 2048" || failed.Found != "1000000000" {
		t.Errorf("%+v", failed)
	}
	if errors.Is(err, ErrBusy) || errors.Is(err, fs.ErrNotExist) {
		t.Error("an error is not another one")
	}

	_, err = Open("no-such-model")
	fails(t, "a file that is not there", err, ErrFileNotFound)
	fails(t, "a file that is not there", err, fs.ErrNotExist)
	fails(t, "a file that is not there", err, os.ErrNotExist)
	out := t.TempDir()
	succeeds(t, "write", os.WriteFile(out+"/notes.txt", nil, 0o600))
	err = Quantize(t.Context(), modelPath, out, Q8)
	fails(t, "an output that is there", err, ErrFileExists)
	fails(t, "an output that is there", err, fs.ErrExist)
}

func TestWhatCWouldMisread(t *testing.T) {
	_, err := Open(modelPath + "\x00.other")
	fails(t, "a path with a NUL", err, ErrInvalidArgument)
	_, err = NewChat(Message{"user\x00x", "text"})
	fails(t, "a role with a NUL", err, ErrInvalidArgument)
	_, err = NewGenerationOptions(MaxTokens(-1))
	fails(t, "a negative count", err, ErrInvalidArgument)
	_, err = NewRuntime(Threads(-1))
	fails(t, "negative threads", err, ErrInvalidArgument)

	session := newSession(t, openModel(t))
	fails(t, "a negative length", session.Truncate(-1), ErrInvalidArgument)
	_, err = session.AppendRows(t.Context(), []int32{1, 2}, []int{-1})
	fails(t, "a negative row", err, ErrInvalidArgument)
	fails(t, "an array that is too short", session.ReadLogits(0, nil), ErrState)
	if _, err = session.Append(t.Context(), []int32{1}, LogitsLast); err != nil {
		t.Fatal(err)
	}
	fails(t, "an array that is too short", session.ReadLogits(0, make([]float32, 10)), ErrBufferTooSmall)
}

func TestOptionsExcludeEachOther(t *testing.T) {
	runtime, err := NewRuntime(Threads(1))
	if err != nil {
		t.Fatal(err)
	}
	defer runtime.Close()
	_, err = Open(modelPath, WithRuntime(runtime), Threads(2))
	fails(t, "two runtimes", err, ErrInvalidArgument)
}

func TestEnumeratorsHaveNames(t *testing.T) {
	for want, named := range map[string]interface{ String() string }{
		"bf16": BF16, "stop_token": FinishStopToken, "error": FinishError, "warning": LogWarning, "avx2": ISAAVX2,
		"gpu": DeviceGPU, "special": TokenSpecial, "fast": PrecisionFast, "-1": SourceDType, "99": ISA(99),
	} {
		if named.String() != want {
			t.Errorf("expected %s, found %s", want, named)
		}
	}
}
