package finermoe

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestContextEndsInAPrefill(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reached := uint64(0)
	session := newSession(t, openModel(t, Threads(1)), Chunk(1), ContextLength(2048), Progress(
		func(phase string, done, total uint64) error {
			if done == 3 {
				cancel()
			}
			reached = done
			return nil
		}))
	ids := longPrompt(1500)
	_, err := session.Append(ctx, ids, LogitsLast)
	fails(t, "the append", err, context.Canceled)
	fails(t, "the append", err, ErrCancelled)
	info := must(session.Info())
	if info.Length == 0 || info.Length >= len(ids) || uint64(info.Length) > reached {
		t.Errorf("the session holds %d tokens after %d of %d", info.Length, reached, len(ids))
	}

	// It goes on where it was.
	succeeds(t, "no progress", session.SetProgress(nil))
	_, err = session.Append(t.Context(), ids[info.Length:info.Length+5], LogitsLast)
	succeeds(t, "going on", err)
	succeeds(t, "reset", session.Reset())
	text, err := session.ChatText(t.Context(), define)
	if err != nil || text != definition {
		t.Errorf("%q, %v", text, err)
	}
}

func TestContextEndsARequest(t *testing.T) {
	session := newSession(t, openModel(t))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	var last error
	for _, err := range session.Generate(ctx, "A ship", MaxTokens(0), IgnoreEOS(true)) {
		if n++; n == 5 {
			cancel()
		}
		last = err
	}
	fails(t, "the request", last, ctx.Err())
	if n < 5 || n > 2000 {
		t.Errorf("%d events", n)
	}
	// A context that has ended computes nothing.
	length := must(session.Info()).Length
	_, err := session.Append(ctx, []int32{1}, LogitsNone)
	fails(t, "an append", err, context.Canceled)
	if now := must(session.Info()).Length; now != length {
		t.Errorf("%d tokens became %d", length, now)
	}
}

func TestDeadline(t *testing.T) {
	session := newSession(t, openModel(t, Threads(1)), ContextLength(2048), Chunk(8))
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err := session.Append(ctx, longPrompt(2000), LogitsNone)
	fails(t, "the append", err, context.DeadlineExceeded)
}

func TestContextOfEverythingElse(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Open(modelPath, WithContext(ended), VerifyWeights(true))
	fails(t, "open", err, context.Canceled)
	model := openModel(t, WithContext(t.Context()))
	_, err = model.ExpertSimilarity(ended, 0)
	fails(t, "similarity", err, context.Canceled)
	_, err = newSession(t, model).Score(ended, []int32{1, 2})
	fails(t, "score", err, context.Canceled)
	out := t.TempDir() + "/out"
	fails(t, "quantize", Quantize(ended, modelPath, out, Q8), context.Canceled)
	fails(t, "upcycle", Upcycle(ended, densePath, out), context.Canceled)
	fails(t, "synthesize", Synthesize(ended, modelPath, out, SourceDType), context.Canceled)
	_, err = Verify(ended, modelPath, nil)
	fails(t, "verify", err, context.Canceled)

	batch := must(model.NewBatch())
	defer batch.Close()
	succeeds(t, "add", batch.AddText("A ship", 1, MaxTokens(3)))
	_, err = batch.Step(ended)
	fails(t, "step", err, context.Canceled)
	_, _, err = batch.Next(ended)
	fails(t, "next", err, context.Canceled)
	for _, err := range batch.Events(ended) {
		fails(t, "events", err, context.Canceled)
	}
	n := 0
	for event, err := range batch.Events(t.Context()) { // it goes on
		succeeds(t, "events", errors.Join(err, event.Err))
		n++
	}
	if n != 3 {
		t.Errorf("%d events", n)
	}
}
