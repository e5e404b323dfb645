package finermoe

import (
	"context"
	"os"
	"runtime"
	"testing"
)

func TestOpenBytes(t *testing.T) {
	_, data := singleFile(t)
	shifted := append(make([]byte, 1, len(data)+1), data...)[1:] // at any address
	for _, bytes := range [][]byte{data, shifted} {
		model := must(OpenBytes(bytes))
		session := must(model.NewSession())
		text, err := session.ChatText(t.Context(), define)
		if err != nil || text == "" {
			t.Errorf("%q, %v", text, err)
		}
		session.Close()
		model.Close()
	}
	_, err := OpenBytes(nil)
	fails(t, "no bytes", err, ErrInvalidArgument)
	_, err = OpenBytes([]byte("hello"))
	fails(t, "other bytes", err, ErrHeaderTruncated)
}

// The bytes stay while anything that was made from the model is there, and go after that.
func TestBytesStayInMemory(t *testing.T) {
	_, data := singleFile(t)
	freed := make(chan bool, 1)
	runtime.AddCleanup(&data[0], func(freed chan bool) { freed <- true }, freed)
	session := must(must(OpenBytes(data)).NewSession())
	data = nil
	for range 3 {
		runtime.GC()
		_ = make([]byte, 32<<20) // what would take the place of freed bytes
	}
	text, err := session.ChatText(t.Context(), define)
	if err != nil || text == "" {
		t.Errorf("%q, %v", text, err)
	}
	if len(freed) == 1 {
		t.Error("freed while a session uses them")
	}
	session.Close()
	session = nil
	eventually(t, "the bytes", func() bool { return len(freed) == 1 })
}

func TestOpenFile(t *testing.T) {
	path, _ := singleFile(t)
	for _, name := range []string{path, modelPath} {
		file := must(os.Open(name))
		model, err := OpenFile(file)
		succeeds(t, name, err)
		succeeds(t, "close", file.Close())
		if _, err := must(model.NewSession()).Append(t.Context(), []int32{1}, LogitsLast); err != nil {
			t.Error(err)
		}
		model.Close()
		_, err = OpenFile(file)
		fails(t, "a closed file", err, os.ErrClosed)
	}
}

// An event without text takes no memory, and logits are copied once, into the caller's own array.
func TestAllocations(t *testing.T) {
	opened := openModel(t)
	session := newSession(t, opened, ContextLength(1024))
	silent := must(opened.Tokenizer().Info()).BOSID
	generation := must(session.NewGeneration("A ship", LogitBias(silent, 1000), IgnoreEOS(true), MaxTokens(0)))
	defer generation.Close()
	if event := must(generation.Next(t.Context())); event.Text != "" || event.Token != silent {
		t.Fatalf("%+v", event)
	}
	if n := testing.AllocsPerRun(50, func() { _, _ = generation.Next(context.Background()) }); n != 0 {
		t.Errorf("an event without text: %v allocations", n)
	}

	logits := must(session.Append(t.Context(), []int32{1}, LogitsLast))[0]
	if n := testing.AllocsPerRun(50, func() { _ = session.ReadLogits(0, logits) }); n != 0 {
		t.Errorf("a row of logits: %v allocations", n)
	}
}
