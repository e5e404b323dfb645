package finermoe

import (
	"context"
	"iter"
	"sync"
	"sync/atomic"

	"finermoe.example/finermoe/internal/low"
)

// TokenLogprob is an alternative of an [Event].
type TokenLogprob struct {
	ID      int32
	Logprob float32
}

// Event is one step of a request.
type Event struct {
	Text         string // complete characters, safe to show; often none
	Token        int32  // the token chosen; -1: none, the request had ended before
	Logprob      float32
	FinishReason FinishReason
	Top          []TokenLogprob // the likeliest tokens, likeliest first, as many as TopLogprobs asked for
}

// readEvent copies what C owns. An event without text or alternatives takes no memory.
func readEvent(event low.Event) Event {
	read := Event{
		Token:        event.GetToken(),
		Logprob:      event.GetLogprob(),
		FinishReason: FinishReason(event.GetFinishReason()),
	}
	if event.GetTextLength() > 0 {
		read.Text = event.GetText()
	}
	if n := event.GetNTop(); n > 0 {
		ids, logprobs := event.GetTopIds(), event.GetTopLogprobs()
		read.Top = make([]TokenLogprob, n)
		for i := range read.Top {
			read.Top[i] = TokenLogprob{ids[i], logprobs[i]}
		}
	}
	return read
}

// Generation is a request on a session, for those who want to look into it: [Session.Generate] is the short way. It is
// for one call at a time: another call that comes meanwhile gets ErrBusy. Close can be called at any time.
//
// The session may be used otherwise between the calls: the next token follows what it holds then.
type Generation struct {
	object *object[low.Generation]
	event  low.Event
	tag    atomic.Uint64                // as it was set
	batch  atomic.Pointer[sync.RWMutex] // of the batch that may be reading an event of this request just now
}

// NewGeneration makes a request with a text. Nothing is computed yet. The caller closes it.
func (s *Session) NewGeneration(prompt string, opts ...GenerateOption) (*Generation, error) {
	return s.newGeneration(opts, func(h low.Session, setup *generateSetup, out *low.Generation) low.Error {
		return low.GenerationCreateText(h, setup.options, prompt, setup.flags, out)
	})
}

// NewGenerationIDs makes a request with ids: at least one, unless the session holds a token to continue from.
func (s *Session) NewGenerationIDs(ids []int32, opts ...GenerateOption) (*Generation, error) {
	return s.newGeneration(opts, func(h low.Session, setup *generateSetup, out *low.Generation) low.Error {
		return low.GenerationCreate(h, setup.options, ids, out)
	})
}

// NewGenerationChat makes a request with a conversation, whose next message comes. What the session already holds of it
// is kept, and what it holds beyond that forgotten.
func (s *Session) NewGenerationChat(chat *Chat, opts ...GenerateOption) (*Generation, error) {
	return s.newGeneration(opts, func(h low.Session, setup *generateSetup, out *low.Generation) (failure low.Error) {
		setup.failed = chat.object.use(func(c low.Chat) low.Error {
			return low.GenerationCreateChat(h, setup.options, c, setup.flags, out)
		})
		return 0
	})
}

// RestoreGeneration makes a request that goes on where one was saved ([Generation.SaveBytes]), on a session that holds
// the same tokens as the other did then.
func (s *Session) RestoreGeneration(data []byte) (*Generation, error) {
	return s.newGeneration(nil, func(h low.Session, _ *generateSetup, out *low.Generation) low.Error {
		return low.GenerationRestoreMemory(h, data, out)
	})
}

func (s *Session) newGeneration(opts []GenerateOption,
	call func(low.Session, *generateSetup, *low.Generation) low.Error) (*Generation, error) {
	setup := &generateSetup{} // the model's defaults
	if len(opts) > 0 {
		made, err := newGenerateSetup(s.model, opts)
		if err != nil {
			return nil, err
		}
		setup = made
	}
	defer setup.free()
	var handle low.Generation
	err := s.object.use(func(h low.Session) low.Error {
		out := new(low.Generation)
		failure := call(h, setup, out)
		handle = *out
		return failure
	})
	if err == nil {
		err = setup.failed
	}
	if err != nil {
		return nil, err
	}
	event := low.NewEvent()
	g := &Generation{event: event}
	g.object = newObject(g, &object[low.Generation]{name: "generation", sharing: exclusive, handle: handle,
		closes: low.GenerationClose, keeps: append([]keeper{s.object}, setup.keeps...),
		frees: func(h low.Generation) { low.GenerationFree(h); low.DeleteEvent(event) }})
	return g, nil
}

// Close ends the request. A second call does nothing.
func (g *Generation) Close() { g.object.close() }

// Events goes on with the request to its finish, event by event. An error is the last thing that comes; after one of
// the context, another call of Events or Next goes on.
func (g *Generation) Events(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		watch, err := watchContext(ctx)
		if err != nil {
			yield(Event{}, err)
			return
		}
		defer watch.stop()
		for {
			event, err := g.next(watch.cancel)
			if !yield(event, watch.explain(err)) || err != nil || event.FinishReason != FinishNone {
				return
			}
		}
	}
}

// Next computes what is missing, chooses a token, appends it to the session, and reports it. After the finish it keeps
// answering the finish with token -1.
func (g *Generation) Next(ctx context.Context) (Event, error) {
	watch, err := watchContext(ctx)
	if err != nil {
		return Event{}, err
	}
	defer watch.stop()
	event, err := g.next(watch.cancel)
	return event, watch.explain(err)
}

func (g *Generation) next(cancel low.Cancel) (Event, error) {
	return g.read(func(h low.Generation) low.Error { return low.GenerationNext(h, cancel, g.event) })
}

// Finish ends the request now and gives the text that was held back.
func (g *Generation) Finish() (Event, error) {
	return g.read(func(h low.Generation) low.Error { return low.GenerationFinish(h, g.event) })
}

// read reads the event of a call before another call can change it.
func (g *Generation) read(call func(low.Generation) low.Error) (event Event, err error) {
	if batch := g.batch.Load(); batch != nil {
		if !batch.TryRLock() {
			return Event{}, newError(ErrBusy, "the generation is in use", "one call at a time", "a call of its batch")
		}
		defer batch.RUnlock()
	}
	err = g.object.use(func(h low.Generation) low.Error {
		failure := call(h)
		if failure == 0 {
			event = readEvent(g.event)
		}
		return failure
	})
	return event, err
}

// Append appends tokens that the host chose: a tool's result, a forced beginning. They are no part of any event's text,
// and the request goes on behind them.
func (g *Generation) Append(ids []int32) error {
	return g.object.use(func(h low.Generation) low.Error { return low.GenerationAppend(h, ids) })
}

// Prepare computes the logits of the next token without choosing it, so that they can be read and changed.
func (g *Generation) Prepare(ctx context.Context) error {
	return g.object.useContext(ctx, low.GenerationPrepare)
}

// Logits is what the next token will be chosen from, before any processing: [vocabulary]. It needs Prepare.
func (g *Generation) Logits() (logits []float32, err error) {
	err = g.object.use(func(h low.Generation) (failure low.Error) {
		logits, failure = fill(0, func(buffer []float32, capacity int, needed *int) low.Error {
			return low.GenerationGetLogits(h, buffer, capacity, needed)
		})
		return failure
	})
	return logits, err
}

// ReadLogits is Logits into an array that exists already, of at least the vocabulary's length.
func (g *Generation) ReadLogits(logits []float32) error {
	return g.object.use(func(h low.Generation) low.Error {
		return low.GenerationGetLogits(h, logits, len(logits), nil)
	})
}

// SetLogits replaces them for this step: negative infinity forbids a token. Log-probabilities stay those of the model.
func (g *Generation) SetLogits(logits []float32) error {
	return g.object.use(func(h low.Generation) low.Error { return low.GenerationSetLogits(h, logits) })
}

// SaveBytes is the state of the request without its session: with [Session.SaveBytes] it goes on elsewhere, to the same
// text.
func (g *Generation) SaveBytes() (data []byte, err error) {
	err = g.object.use(func(h low.Generation) (failure low.Error) {
		data, failure = fill(4096, func(buffer []byte, capacity int, needed *int) low.Error {
			return low.GenerationSaveMemory(h, buffer, capacity, needed)
		})
		return failure
	})
	return data, err
}

// GenerationInfo is a request's present state.
type GenerationInfo struct {
	FinishReason   FinishReason
	Prepared       bool // the next token's logits are computed, Next only chooses
	Status         Code // what Next would answer, as far as that is known; 0: it can go on
	NPrompt        int  // tokens of the prompt, the part that the session already held included
	NGenerated     int
	NKept          int // of NPrompt: those that the session held already
	Tag            uint64
	PrefillSeconds float64
	DecodeSeconds  float64
	NDrafted       uint64 // tokens computed ahead ([Lookup], [Draft])
	NAccepted      uint64 // those of them that were then chosen
}

// Info is the request's present state.
func (g *Generation) Info() (GenerationInfo, error) {
	info := low.NewGenerationInfo()
	defer low.DeleteGenerationInfo(info)
	if err := g.object.use(func(h low.Generation) low.Error { return low.GenerationGetInfo(h, info) }); err != nil {
		return GenerationInfo{}, err
	}
	return GenerationInfo{
		FinishReason:   FinishReason(info.GetFinishReason()),
		Prepared:       info.GetPrepared() != 0,
		Status:         Code(info.GetStatus()),
		NPrompt:        info.GetNPrompt(),
		NGenerated:     info.GetNGenerated(),
		NKept:          info.GetNKept(),
		Tag:            info.GetTag(),
		PrefillSeconds: info.GetPrefillSeconds(),
		DecodeSeconds:  info.GetDecodeSeconds(),
		NDrafted:       info.GetNDrafted(),
		NAccepted:      info.GetNAccepted(),
	}, nil
}

// SetTag gives the request a number of the host's own, by which the events of a batch are told apart; 0 by default.
func (g *Generation) SetTag(tag uint64) error {
	err := g.object.use(func(h low.Generation) low.Error { return low.GenerationSetTag(h, tag) })
	if err == nil {
		g.tag.Store(tag)
	}
	return err
}

// SetDraft changes the model that drafts, as [Draft] says: for a request that was restored and has none. A nil model, or
// 0, takes it away. The tokens stay the same.
func (g *Generation) SetDraft(model *Model, n int) error {
	if err := checkCount("n_draft", n); err != nil {
		return err
	}
	if model == nil {
		err := g.object.use(func(h low.Generation) low.Error { return low.GenerationSetDraft(h, 0, 0) })
		return err
	}
	err := use2(g.object, model.object, func(h low.Generation, m low.Model) low.Error {
		return low.GenerationSetDraft(h, m, n)
	})
	if err == nil {
		g.object.keepInstead(model.object, nil)
	}
	return err
}

// Err is the error of the last Next, Prepare or pass of a batch; nil if that succeeded.
func (g *Generation) Err() error { return g.object.use(low.GenerationGetError) }
