package main

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"finermoe.example/finermoe"
)

// beside calls a function on another goroutine; what it returns waits for its end.
func beside(call func()) (wait func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		call()
	}()
	return func() { <-done }
}

func cancel(r *runner, line *row) (results, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if line.Where == "prefill" {
		third := finermoe.Progress(func(_ string, done, _ uint64) error {
			if done == 3 && ctx.Err() == nil {
				cancel()
				return ctx.Err()
			}
			return nil
		})
		return r.cancelled(line, ctx, func() {}, finermoe.Chunk(1), third)
	}
	return r.cancelled(line, ctx, func() {
		wait := beside(cancel)
		wait()
	})
}

// cancelled runs the row's request until ctx ends it, calling afterThird after the third event, and then goes on.
func (r *runner) cancelled(line *row, ctx context.Context, afterThird func(),
	opts ...finermoe.SessionOption) (results, error) {
	return r.withRequest(line, func(_ *finermoe.Session, generation *finermoe.Generation) (results, error) {
		var text strings.Builder
		code := ""
		for events := 0; code == ""; events++ {
			if events == 3 {
				afterThird()
			}
			event, err := generation.Next(ctx)
			if err != nil {
				code = codeOf(err)
			}
			text.WriteString(event.Text)
		}
		rest, err := textToTheEnd(generation)
		return results{"code": code, "text": text.String() + rest}, err
	}, opts...)
}

func cancelledBefore(r *runner, line *row) (results, error) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return r.withRequest(line, func(_ *finermoe.Session, generation *finermoe.Generation) (results, error) {
		_, failed := generation.Next(ctx)
		text, err := textToTheEnd(generation)
		return results{"code": codeOf(failed), "text": text}, err
	})
}

// closedWhileRunning is what a request that would go on and on ends with when another goroutine calls `end` after three
// events.
func closedWhileRunning(session *finermoe.Session, end func()) string {
	events := 0
	for _, err := range session.Generate(context.Background(), "A ship", finermoe.MaxTokens(0), finermoe.IgnoreEOS(true)) {
		if err != nil {
			return codeOf(err)
		}
		if events++; events == 3 {
			defer beside(end)()
		}
	}
	return "the request has ended"
}

func closeSession(r *runner, line *row) (results, error) {
	model, session, err := r.openSession(line)
	if err != nil {
		return nil, err
	}
	defer model.Close()
	code := closedWhileRunning(session, session.Close)
	other, err := textOn(model, &line.Request)
	return results{"code": code, "other": other["text"]}, err
}

func closeModel(r *runner, line *row) (results, error) {
	model, session, err := r.openSession(line)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	second, err := r.open(line)
	if err != nil {
		return nil, err
	}
	defer second.Close()
	code := closedWhileRunning(session, model.Close)
	other, err := textOn(second, &line.Request)
	return results{"code": code, "other": other["text"]}, err
}

// four is one object of each kind that can be closed while it is used.
type four struct {
	model      *finermoe.Model
	session    *finermoe.Session
	generation *finermoe.Generation
	batch      *finermoe.Batch
}

func (r *runner) openFour(line *row) (f four, err error) {
	if f.model, f.session, err = r.openSession(line); err != nil {
		return f, err
	}
	if f.generation, err = f.session.NewGeneration("A ship"); err != nil {
		return f, err
	}
	if f.batch, err = f.model.NewBatch(); err != nil {
		return f, err
	}
	return f, f.batch.Add(f.generation)
}

func closed(r *runner, line *row) (results, error) {
	f, err := r.openFour(line)
	if err != nil {
		return nil, err
	}
	defer f.model.Close()
	ctx := context.Background()
	switch line.Object {
	case "model":
		f.model.Close()
		_, err = f.session.Append(ctx, []int32{1}, finermoe.LogitsNone)
	case "session":
		f.session.Close()
		_, err = f.session.Append(ctx, []int32{1}, finermoe.LogitsNone)
	case "generation":
		f.generation.Close()
		_, err = f.generation.Next(ctx)
	case "batch":
		f.batch.Close()
		_, err = f.batch.Step(ctx)
	}
	return results{"code": codeOf(err)}, nil
}

func closeTwice(r *runner, line *row) (results, error) {
	for _, reversed := range []bool{false, true} {
		f, err := r.openFour(line)
		if err != nil {
			return nil, err
		}
		closes := []func(){f.model.Close, f.session.Close, f.generation.Close, f.batch.Close}
		if reversed {
			slices.Reverse(closes)
		}
		for range 2 {
			for _, close := range closes {
				close()
			}
		}
	}
	return results{"closed": true}, nil
}

func twoModels(r *runner, line *row) (results, error) {
	var generations []*finermoe.Generation
	for _, name := range line.Models {
		model, err := finermoe.Open(examplePath(name), finermoe.Threads(2))
		if err != nil {
			return nil, err
		}
		defer model.Close()
		session, err := model.NewSession()
		if err != nil {
			return nil, err
		}
		defer session.Close()
		generation, err := line.start(session)
		if err != nil {
			return nil, err
		}
		defer generation.Close()
		generations = append(generations, generation)
	}
	texts := make([]string, len(generations))
	over := make([]bool, len(generations))
	for slices.Contains(over, false) {
		for i, generation := range generations {
			event, err := generation.Next(context.Background()) // the finish again where it is over
			if err != nil {
				return nil, err
			}
			texts[i] += event.Text
			over[i] = event.FinishReason != finermoe.FinishNone
		}
	}
	return results{"texts": texts}, nil
}

func manySessions(r *runner, line *row) (results, error) {
	model, err := r.open(line)
	if err != nil {
		return nil, err
	}
	defer model.Close()
	sessions := make([]*finermoe.Session, line.N)
	for i := range sessions {
		if sessions[i], err = model.NewSession(line.sessionOptions()...); err != nil {
			return nil, err
		}
		defer sessions[i].Close()
	}
	const nGoroutines = 4
	var mutex sync.Mutex
	distinct, failed := map[string]bool{}, error(nil)
	var all sync.WaitGroup
	for first := range nGoroutines {
		all.Add(1)
		go func() {
			defer all.Done()
			for i := first; i < len(sessions); i += nGoroutines {
				text, err := seededText(sessions[i], line, uint64(i))
				mutex.Lock()
				distinct[text] = true
				if err != nil {
					failed = err
				}
				mutex.Unlock()
			}
		}()
	}
	all.Wait()
	return results{"texts": slices.Sorted(maps.Keys(distinct)), "n_distinct": len(distinct)}, failed
}

func seededText(session *finermoe.Session, line *row, seed uint64) (string, error) {
	opts, err := line.Options.list()
	if err != nil {
		return "", err
	}
	return session.GenerateText(context.Background(), line.Prompt.string, append(opts, finermoe.Seed(seed))...)
}

// busy uses a session from a second goroutine while it computes, which is when progress is told.
func busy(r *runner, line *row) (results, error) {
	model, session, err := r.openSession(line)
	if err != nil {
		return nil, err
	}
	defer model.Close()
	defer session.Close()
	var second error
	err = session.SetProgress(func(string, uint64, uint64) error {
		wait := beside(func() { _, second = session.Append(context.Background(), []int32{1}, finermoe.LogitsNone) })
		wait()
		return nil
	})
	if err != nil {
		return nil, err
	}
	_, err = session.GenerateText(context.Background(), "A ship", finermoe.MaxTokens(1))
	return results{"busy": codeOf(second) == "FINERMOE_ERROR_BUSY"}, err
}
