package finermoe

import (
	"context"
	"runtime"
	"slices"
	"testing"
)

// everything is one object of each kind.
type everything struct {
	runtime    *Runtime
	config     *Config
	model      *Model
	tokenizer  *Tokenizer
	decoder    *Decoder
	chat       *Chat
	session    *Session
	trace      *Trace
	options    *GenerationOptions
	generation *Generation
	batch      *Batch
	sampler    *Sampler
}

func must[T any](made T, err error) T {
	if err != nil {
		panic(err)
	}
	return made
}

func openEverything() everything {
	var e everything
	e.runtime = must(NewRuntime(Threads(1)))
	e.model = must(Open(modelPath, WithRuntime(e.runtime)))
	e.config = must(e.model.Config())
	e.tokenizer = must(OpenTokenizer(modelPath))
	e.decoder = must(e.tokenizer.NewDecoder())
	e.chat = must(NewChat(define...))
	e.session = must(e.model.NewSession(Progress(func(string, uint64, uint64) error { return nil })))
	e.trace = must(e.model.NewTrace(TraceUsage))
	e.options = must(e.model.NewGenerationOptions(MaxTokens(4)))
	e.generation = must(e.session.NewGenerationChat(e.chat, e.options))
	e.batch = must(e.model.NewBatch())
	e.sampler = must(NewSampler())
	if err := e.session.SetTrace(e.trace); err != nil {
		panic(err)
	}
	if err := e.batch.Add(e.generation); err != nil {
		panic(err)
	}
	return e
}

func (e *everything) closes() []func() {
	return []func(){e.runtime.Close, e.config.Close, e.model.Close, e.tokenizer.Close, e.decoder.Close, e.chat.Close,
		e.session.Close, e.trace.Close, e.options.Close, e.generation.Close, e.batch.Close, e.sampler.Close}
}

// uses calls something of each object, and gives the errors by its name.
func (e *everything) uses(ctx context.Context) map[string]error {
	errors := map[string]error{}
	_, errors["runtime"] = e.runtime.Info()
	_, errors["config"] = e.config.JSON()
	_, errors["model"] = e.model.NewSession()
	_, errors["tokenizer"] = e.tokenizer.Encode("A ship")
	_, errors["decoder"] = e.decoder.Push(1)
	errors["chat"] = e.chat.Add("user", "text")
	_, errors["session"] = e.session.Tokens()
	_, errors["trace"] = e.trace.Info()
	_, errors["options"] = e.options.Info()
	_, errors["generation"] = e.generation.Next(ctx)
	_, errors["batch"] = e.batch.Step(ctx)
	_, errors["sampler"] = e.sampler.Choose([]float32{1, 2})
	return errors
}

func TestClosingInAnyOrder(t *testing.T) {
	for first := range 12 {
		e := openEverything()
		for what, err := range e.uses(t.Context()) {
			succeeds(t, what, err)
		}
		closes := e.closes()
		order := slices.Concat(closes[first:], closes[:first])
		if first%2 == 1 {
			slices.Reverse(order)
		}
		for _, close := range slices.Concat(order, order) {
			close()
		}
		for what, err := range e.uses(t.Context()) {
			fails(t, what+" after it was closed", err, ErrClosed)
		}
	}
}

func TestUseAfterTheModelIsClosed(t *testing.T) {
	e := openEverything()
	e.model.Close()
	errors := e.uses(t.Context())
	for _, what := range []string{"runtime", "config", "tokenizer", "decoder", "chat", "options", "sampler"} {
		succeeds(t, what, errors[what])
	}
	for _, what := range []string{"model", "generation"} {
		fails(t, what, errors[what], ErrClosed)
	}
	_, err := e.session.Append(t.Context(), []int32{1}, LogitsNone)
	fails(t, "session", err, ErrClosed)
	_, err = e.model.Tokenizer().Encode("text")
	fails(t, "a tokenizer that was not asked for before", err, ErrClosed)
	for _, close := range e.closes() {
		close()
	}
}

func TestWhatIsUnreachableIsFreed(t *testing.T) {
	shared := must(NewRuntime(Threads(1)))
	defer shared.Close()
	for range 5 {
		model := must(Open(modelPath, WithRuntime(shared), CopyWeights(true)))
		session := must(model.NewSession())
		must(session.Append(t.Context(), []int32{1, 2}, LogitsLast))
		for _, err := range session.Generate(t.Context(), "A ship") {
			succeeds(t, "generate", err)
			break // the generation goes with the loop
		}
	}
	if used := must(shared.Info()).MemoryUsed; used == 0 {
		t.Fatal("nothing was counted")
	}
	eventually(t, "the memory of models that nobody closed", func() bool { return must(shared.Info()).MemoryUsed == 0 })
}

func TestASessionKeepsItsModel(t *testing.T) {
	session := must(must(Open(modelPath)).NewSession())
	defer session.Close()
	for range 3 {
		runtime.GC()
	}
	text, err := session.ChatText(t.Context(), define, Temperature(0))
	if err != nil || text != definition {
		t.Errorf("%q, %v", text, err)
	}
}

func TestGarbageCollectionInTheMiddle(t *testing.T) {
	text := ""
	for event, err := range must(openModel(t).NewSession()).Chat(t.Context(), define) {
		succeeds(t, "chat", err)
		runtime.GC()
		text += event.Text
	}
	if text != definition {
		t.Errorf("%q", text)
	}
}

func TestManyCyclesInLittleMemory(t *testing.T) {
	shared := must(NewRuntime(Threads(1)))
	defer shared.Close()
	for range 50 {
		model := must(Open(modelPath, WithRuntime(shared)))
		session := must(model.NewSession(ContextLength(64)))
		must(session.Append(t.Context(), []int32{1}, LogitsLast))
		session.Close()
		model.Close()
	}
	info := must(shared.Info())
	if info.MemoryUsed != 0 || info.MemoryPeak > 64<<20 {
		t.Errorf("%d bytes are used, and were %d at most", info.MemoryUsed, info.MemoryPeak)
	}
}
