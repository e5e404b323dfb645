package finermoe

import (
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// panics calls, and reports what it panicked with.
func panics(call func()) (with any) {
	defer func() { with = recover() }()
	call()
	return nil
}

func TestPanicOfProgress(t *testing.T) {
	model := openModel(t)
	session := newSession(t, model, Chunk(1), Progress(func(_ string, done, _ uint64) error {
		if done == 3 {
			panic("at the third")
		}
		return nil
	}))
	with := panics(func() { _, _ = session.Append(t.Context(), longPrompt(20), LogitsNone) })
	if with != "at the third" {
		t.Errorf("%v came out of Append", with)
	}
	with = panics(func() {
		for event, err := range session.GenerateIDs(t.Context(), longPrompt(20)) {
			t.Error("an event", event, err)
		}
	})
	if with != "at the third" {
		t.Errorf("%v came out of Generate", with)
	}
	succeeds(t, "another function", session.SetProgress(nil))
	_, err := session.Append(t.Context(), []int32{1}, LogitsLast)
	succeeds(t, "the session afterwards", err)

	loud := Progress(func(string, uint64, uint64) error { panic("at once") })
	out := t.TempDir() + "/out"
	for what, call := range map[string]func(){
		"Open":     func() { _, _ = Open(modelPath, VerifyWeights(true), loud) },
		"Quantize": func() { _ = Quantize(t.Context(), modelPath, out, Q8, loud) },
		"Upcycle":  func() { _ = Upcycle(t.Context(), densePath, out, loud) },
		"Verify": func() {
			_, _ = Verify(t.Context(), modelPath, func(string, uint64, uint64) error { panic("at once") })
		},
		"Batch.Next": func() {
			batch := must(model.NewBatch())
			defer batch.Close()
			session := must(model.NewSession(loud))
			defer session.Close()
			generation := must(session.NewGenerationIDs(longPrompt(20)))
			defer generation.Close()
			succeeds(t, "add", batch.Add(generation))
			_, _, _ = batch.Next(t.Context())
		},
	} {
		if with := panics(call); with != "at once" {
			t.Errorf("%v came out of %s", with, what)
		}
	}
}

func TestErrorOfProgress(t *testing.T) {
	enough := errors.New("enough")
	stop := Progress(func(string, uint64, uint64) error { return enough })
	_, err := Open(modelPath, VerifyWeights(true), stop)
	fails(t, "open", err, enough)
	fails(t, "open", err, ErrCancelled)
	session := newSession(t, openModel(t), Chunk(1), stop)
	_, err = session.Append(t.Context(), longPrompt(20), LogitsNone)
	fails(t, "append", err, enough)
	fork := must(session.Fork())
	defer fork.Close()
	session.Close()
	_, err = fork.Append(t.Context(), longPrompt(20), LogitsNone)
	fails(t, "the progress of a fork", err, enough)
}

func TestPanicOfLog(t *testing.T) {
	with := panics(func() {
		model, err := Open(modelPath, Log(func(LogLevel, string) { panic("no paper") }))
		succeeds(t, "open", err)
		defer model.Close()
	})
	if with != "no paper" {
		t.Errorf("%v", with)
	}
}

func TestExecutor(t *testing.T) {
	var after sync.WaitGroup
	strange := map[string]ExecutorFunc{
		"goroutines": Goroutines(4),
		"nothing":    func(int, func(int)) {},
		"twice": func(n int, task func(int)) {
			for i := range 2 * n {
				task(i % n)
			}
		},
		"no such task": func(n int, task func(int)) { task(-1); task(n) },
		"too late": func(_ int, task func(int)) {
			after.Add(1)
			go func() { defer after.Done(); runtime.Gosched(); task(0) }()
		},
	}
	want := must(newSession(t, openModel(t)).Append(t.Context(), longPrompt(30), LogitsLast))[0]
	for what, execute := range strange {
		session := newSession(t, openModel(t, Executor(execute, 3)))
		logits, err := session.Append(t.Context(), longPrompt(30), LogitsLast)
		succeeds(t, what, err)
		for i := range want {
			if logits[0][i] != want[i] {
				t.Errorf("%s: another result", what)
				break
			}
		}
	}
	after.Wait()
}

func TestPanicOfExecutor(t *testing.T) {
	var calls atomic.Int64
	model := openModel(t, Executor(func(n int, task func(int)) {
		if calls.Add(1) == 3 {
			panic("on strike")
		}
		Goroutines(2)(n, task)
	}, 2))
	session := newSession(t, model)
	if with := panics(func() { _, _ = session.Append(t.Context(), []int32{1, 2, 3}, LogitsLast) }); with != "on strike" {
		t.Errorf("%v", with)
	}
	text, err := session.ChatText(t.Context(), define)
	if err != nil || text != definition {
		t.Errorf("%q, %v", text, err)
	}
}

func TestCallbacksUseTheLibrary(t *testing.T) {
	model := openModel(t)
	var session *Session
	session = newSession(t, model, Chunk(4), Progress(func(string, uint64, uint64) error {
		_, err := session.Info()
		fails(t, "the session in its own callback", err, ErrBusy)
		other := must(model.NewSession())
		defer other.Close()
		_, err = other.Append(t.Context(), []int32{1}, LogitsNone)
		succeeds(t, "another session", err)
		return nil
	}))
	_, err := session.Append(t.Context(), longPrompt(12), LogitsNone)
	succeeds(t, "append", err)
}

func TestLogMessages(t *testing.T) {
	var messages []string
	openModel(t, Log(func(level LogLevel, message string) {
		messages = append(messages, level.String()+": "+message)
	}))
	if len(messages) == 0 || !strings.HasPrefix(messages[0], "information: opened a finer_moe model") {
		t.Errorf("%q", messages)
	}
}

func TestAnotherProgressTakesThePlace(t *testing.T) {
	session := newSession(t, openModel(t), Progress(func(string, uint64, uint64) error { return errors.New("the first") }))
	kept := len(session.object.keeps)
	heard := 0
	for range 3 {
		succeeds(t, "progress", session.SetProgress(func(string, uint64, uint64) error { heard++; return nil }))
	}
	_, err := session.Append(t.Context(), longPrompt(600), LogitsNone)
	succeeds(t, "append", err)
	if heard == 0 || len(session.object.keeps) != kept {
		t.Errorf("heard %d times, %d things kept", heard, len(session.object.keeps))
	}
}

func TestCallbacksAreLetGo(t *testing.T) {
	freed := make(chan bool, 1)
	func() {
		model := must(Open(modelPath))
		session := must(model.NewSession())
		big := new([1 << 20]byte)
		runtime.AddCleanup(big, func(chan bool) { freed <- true }, freed)
		succeeds(t, "progress", session.SetProgress(func(string, uint64, uint64) error {
			_, _ = session.Info() // the function refers to the session that refers to it
			big[0]++
			return nil
		}))
		session.Close()
		model.Close()
	}()
	eventually(t, "what a callback refers to", func() bool { return len(freed) == 1 })
}
