package finermoe

import (
	"context"
	"iter"
	"strings"
	"sync"

	"finermoe.example/finermoe/internal/low"
)

// Session is a sequence of tokens and its KV cache. It is for one call at a time: another call that comes meanwhile,
// from any goroutine, gets ErrBusy and harms nothing. Close can be called at any time.
//
// A session holds every token that was appended to it, given to it as a prompt, or shown by a generation on it.
type Session struct {
	object *object[low.Session]
	model  *Model

	mutex    sync.Mutex
	progress *registration // nil: none
}

// NewSession makes an empty session. The caller closes it.
func (m *Model) NewSession(opts ...SessionOption) (*Session, error) {
	setup, err := newSessionSetup(opts...)
	if err != nil {
		return nil, err
	}
	defer setup.free()
	return m.wrapSession(setup.progress, func(h low.Model, out *low.Session) low.Error {
		return low.SessionCreate(h, setup.options, out)
	})
}

func (m *Model) wrapSession(progress *registration, call func(low.Model, *low.Session) low.Error) (*Session, error) {
	var handle low.Session
	err := m.object.use(func(h low.Model) low.Error {
		out := new(low.Session)
		failure := call(h, out)
		handle = *out
		return failure
	})
	if err != nil {
		return nil, err
	}
	s := &Session{model: m, progress: progress}
	s.object = newObject(s, &object[low.Session]{name: "session", sharing: exclusive, handle: handle,
		closes: low.SessionClose, frees: low.SessionFree, keeps: []keeper{m.object}})
	s.keepProgress(nil)
	return s, nil
}

// Close ends what runs on the session. A second call does nothing.
func (s *Session) Close() {
	s.object.close()
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.progress != nil {
		s.progress.forget()
	}
}

// Append appends tokens, computes them, and gives the logits of the rows that are kept: [kept rows][vocabulary].
//
// After the context has ended it, the session holds the tokens of the chunks that were finished; after another error,
// the tokens that it held before.
func (s *Session) Append(ctx context.Context, ids []int32, keep Logits) ([][]float32, error) {
	return s.append(ctx, func(h low.Session, cancel low.Cancel) low.Error {
		return low.SessionAppend(h, ids, int32(keep), cancel)
	})
}

// AppendRows is Append that keeps chosen rows: strictly ascending indices into ids.
func (s *Session) AppendRows(ctx context.Context, ids []int32, rows []int) ([][]float32, error) {
	return s.append(ctx, func(h low.Session, cancel low.Cancel) low.Error {
		return low.SessionAppendRows(h, ids, rows, cancel)
	})
}

func (s *Session) append(ctx context.Context,
	call func(low.Session, low.Cancel) low.Error) (rows [][]float32, err error) {
	info := low.NewSessionInfo()
	defer low.DeleteSessionInfo(info)
	err = s.object.useContext(ctx, func(h low.Session, cancel low.Cancel) low.Error {
		if failure := call(h, cancel); failure != 0 {
			return failure
		}
		if failure := low.SessionGetInfo(h, info); failure != 0 {
			return failure
		}
		var failure low.Error
		rows, failure = readRows(info.GetNLogits(), func(row int, buffer []float32, needed *int) low.Error {
			return low.SessionLogits(h, row, buffer, len(buffer), needed)
		})
		return failure
	})
	return rows, err
}

// readRows reads rows of equal length into one array.
func readRows(n int, read func(row int, buffer []float32, needed *int) low.Error) ([][]float32, low.Error) {
	if n == 0 {
		return nil, 0
	}
	width := new(int)
	low.ErrorFree(read(0, nil, width)) // asks for the size
	all := make([]float32, n**width)
	rows := make([][]float32, n)
	for i := range rows {
		rows[i] = all[i**width : (i+1)**width : (i+1)**width]
		if failure := read(i, rows[i], width); failure != 0 {
			return nil, failure
		}
	}
	return rows, 0
}

// Logits is a row of logits that the last append kept: [vocabulary].
func (s *Session) Logits(row int) (logits []float32, err error) {
	err = s.object.use(func(h low.Session) (failure low.Error) {
		logits, failure = fill(0, func(buffer []float32, capacity int, needed *int) low.Error {
			return low.SessionLogits(h, row, buffer, capacity, needed)
		})
		return failure
	})
	return logits, err
}

// ReadLogits is Logits into an array that exists already, of at least the vocabulary's length.
func (s *Session) ReadLogits(row int, logits []float32) error {
	return s.object.use(func(h low.Session) low.Error { return low.SessionLogits(h, row, logits, len(logits), nil) })
}

// Hidden is the hidden state after the last norm of a row that the last append kept: [hidden size]. It needs HiddenKeep
// or HiddenOnly.
func (s *Session) Hidden(row int) (hidden []float32, err error) {
	err = s.object.use(func(h low.Session) (failure low.Error) {
		hidden, failure = fill(0, func(buffer []float32, capacity int, needed *int) low.Error {
			return low.SessionHidden(h, row, buffer, capacity, needed)
		})
		return failure
	})
	return hidden, err
}

// Scores is what a model thinks of a text, token by token.
type Scores struct {
	Logprobs  []float32 // natural logarithm of each token's probability; NaN for the first of a session
	Likeliest []int32   // the token that was likeliest in its place; -1 for the first of a session
}

// Score appends tokens and gives the log-probability of each, without keeping logits. After any error the session holds
// what it held before.
func (s *Session) Score(ctx context.Context, ids []int32) (Scores, error) {
	scores := Scores{make([]float32, len(ids)), make([]int32, len(ids))}
	err := s.object.useContext(ctx, func(h low.Session, cancel low.Cancel) low.Error {
		return low.SessionScore(h, ids, cancel, scores.Logprobs, scores.Likeliest, len(ids), nil)
	})
	if err != nil {
		return Scores{}, err
	}
	return scores, nil
}

// SessionInfo is a session's present state.
type SessionInfo struct {
	KVDType         DType
	Precision       Precision
	QuantizedDTypes uint32 // of weights whose products use quantized activations: bits 1 << DType; else Fast is as Exact
	Length          int    // tokens held
	ContextLength   int    // most it can hold
	NLogits         int    // rows of logits kept by the last append
	NHidden         int    // rows of hidden states kept by the last append
	NComputed       int    // of Length: the others wait for the next call that computes
	KVBytes         uint64
}

// Info is the session's present state.
func (s *Session) Info() (SessionInfo, error) {
	info := low.NewSessionInfo()
	defer low.DeleteSessionInfo(info)
	if err := s.object.use(func(h low.Session) low.Error { return low.SessionGetInfo(h, info) }); err != nil {
		return SessionInfo{}, err
	}
	return SessionInfo{
		KVDType:         DType(info.GetKvDtype()),
		Precision:       Precision(info.GetPrecision()),
		QuantizedDTypes: info.GetQuantizedDtypes(),
		Length:          info.GetLength(),
		ContextLength:   info.GetContextLength(),
		NLogits:         info.GetNLogits(),
		NHidden:         info.GetNHidden(),
		NComputed:       info.GetNComputed(),
		KVBytes:         info.GetKvBytes(),
	}, nil
}

// Tokens is the tokens held.
func (s *Session) Tokens() (ids []int32, err error) {
	err = s.object.use(func(h low.Session) (failure low.Error) {
		ids, failure = fill(0, func(buffer []int32, capacity int, needed *int) low.Error {
			return low.SessionTokens(h, buffer, capacity, needed)
		})
		return failure
	})
	return ids, err
}

// Truncate forgets all tokens from length on.
func (s *Session) Truncate(length int) error {
	return s.object.use(func(h low.Session) low.Error { return low.SessionTruncate(h, length) })
}

// Reset forgets all tokens.
func (s *Session) Reset() error { return s.object.use(low.SessionReset) }

// KeepPrefix keeps as many tokens as the session and ids have in common from the start, and forgets all others. It
// returns how many it kept: append ids[kept:] then.
func (s *Session) KeepPrefix(ids []int32) (kept int, err error) {
	out := new(int)
	err = s.object.use(func(h low.Session) low.Error { return low.SessionKeepPrefix(h, ids, out) })
	return *out, err
}

// Remove removes the tokens [begin, end) and shifts later tokens down, which only approximates recomputing them.
func (s *Session) Remove(begin, end int) error {
	return s.object.use(func(h low.Session) low.Error { return low.SessionRemove(h, begin, end) })
}

// SetContextLength gives the session room for another number of tokens; 0 is the default.
func (s *Session) SetContextLength(nTokens int) error {
	return s.object.use(func(h low.Session) low.Error { return low.SessionSetContextLength(h, nTokens) })
}

// SetProgress tells another function how far long prompts have come; nil: none.
func (s *Session) SetProgress(hear ProgressFunc) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	before := s.progress
	registered, err := progress{hear}.with(func(function, user uintptr) error {
		return s.object.use(func(h low.Session) low.Error { return low.SessionSetProgress(h, function, user) })
	})
	if err != nil {
		return err
	}
	s.progress = registered
	s.keepProgress(before)
	return nil
}

// keepProgress keeps the present function for progress, instead of another.
func (s *Session) keepProgress(before *registration) {
	var more, less keeper
	if s.progress != nil {
		more = s.progress
	}
	if before != nil {
		less = before
	}
	s.object.keepInstead(more, less)
}

// Fork makes a second session that begins as a copy of this one. The caller closes it.
func (s *Session) Fork() (*Session, error) {
	var fork *Session
	var failed error
	err := s.object.use(func(h low.Session) low.Error {
		fork, failed = s.model.wrapSession(nil, func(_ low.Model, out *low.Session) low.Error {
			return low.SessionFork(h, out)
		})
		return 0
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return nil, err
	}
	s.mutex.Lock()
	progress := s.progress
	s.mutex.Unlock()
	if progress != nil { // of its own, since that of the first session goes with it
		if err := fork.SetProgress(progress.hears()); err != nil {
			fork.Close()
			return nil, err
		}
	}
	return fork, nil
}

// Save writes tokens and cache to a file, which appears when it is whole.
func (s *Session) Save(path string) error {
	if err := checkPaths(path); err != nil {
		return err
	}
	return s.object.use(func(h low.Session) low.Error { return low.SessionSave(h, path) })
}

// Restore replaces the session's content by a saved one of the same model and cache type. A refused file changes
// nothing.
func (s *Session) Restore(path string) error {
	if err := checkPaths(path); err != nil {
		return err
	}
	return s.object.use(func(h low.Session) low.Error { return low.SessionRestore(h, path) })
}

// SaveBytes is what Save writes, in memory.
func (s *Session) SaveBytes() (data []byte, err error) {
	err = s.object.use(func(h low.Session) (failure low.Error) {
		data, failure = fill(0, func(buffer []byte, capacity int, needed *int) low.Error {
			return low.SessionSaveMemory(h, buffer, capacity, needed)
		})
		return failure
	})
	return data, err
}

// RestoreBytes is Restore from memory.
func (s *Session) RestoreBytes(data []byte) error {
	return s.object.use(func(h low.Session) low.Error { return low.SessionRestoreMemory(h, data) })
}

// SetTrace records what the router does with tokens that are computed later; nil: nothing any more.
func (s *Session) SetTrace(trace *Trace) error {
	if trace == nil {
		return s.object.use(func(h low.Session) low.Error { return low.SessionSetTrace(h, 0) })
	}
	return use2(s.object, trace.object, low.SessionSetTrace)
}

// Generate goes on from a text, event by event. The request ends with the loop, and the session keeps what it showed.
//
//	for event, err := range session.Generate(ctx, "A ship", finermoe.MaxTokens(20)) {
//
// An error is the last thing that comes; where the context ended the request, errors.Is finds ctx.Err() in it.
func (s *Session) Generate(ctx context.Context, prompt string, opts ...GenerateOption) iter.Seq2[Event, error] {
	return stream(ctx, func() (*Generation, error) { return s.NewGeneration(prompt, opts...) })
}

// GenerateIDs is Generate with a prompt of ids.
func (s *Session) GenerateIDs(ctx context.Context, ids []int32, opts ...GenerateOption) iter.Seq2[Event, error] {
	return stream(ctx, func() (*Generation, error) { return s.NewGenerationIDs(ids, opts...) })
}

// Chat is Generate with a conversation, whose next message comes. What the session already holds of it is kept and not
// computed again.
func (s *Session) Chat(ctx context.Context, messages []Message, opts ...GenerateOption) iter.Seq2[Event, error] {
	return stream(ctx, func() (*Generation, error) {
		chat, err := NewChat(messages...)
		if err != nil {
			return nil, err
		}
		defer chat.Close()
		return s.NewGenerationChat(chat, opts...)
	})
}

// GenerateText is the whole text of Generate.
func (s *Session) GenerateText(ctx context.Context, prompt string, opts ...GenerateOption) (string, error) {
	return textOf(s.Generate(ctx, prompt, opts...))
}

// ChatText is the whole text of Chat.
func (s *Session) ChatText(ctx context.Context, messages []Message, opts ...GenerateOption) (string, error) {
	return textOf(s.Chat(ctx, messages, opts...))
}

func textOf(events iter.Seq2[Event, error]) (string, error) {
	var text strings.Builder
	for event, err := range events {
		if err != nil {
			return text.String(), err
		}
		text.WriteString(event.Text)
	}
	return text.String(), nil
}

func stream(ctx context.Context, begin func() (*Generation, error)) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		generation, err := begin()
		if err != nil {
			yield(Event{}, err)
			return
		}
		defer generation.Close()
		generation.Events(ctx)(yield)
	}
}
