package finermoe

import (
	"errors"
	"testing"
)

// The session that AddText makes goes with its request, and does not wait for the garbage collector.
func TestBatchFreesWhatItBrought(t *testing.T) {
	model := openModel(t)
	shared := must(model.Runtime())
	defer shared.Close()
	batch := must(model.NewBatch())
	succeeds(t, "add", batch.AddText("A ship", 1, MaxTokens(3)))
	for event, err := range batch.Events(t.Context()) {
		succeeds(t, "events", errors.Join(err, event.Err))
	}
	before := must(shared.Info()).MemoryUsed // what is left is the model's scratch
	for range 3 {
		succeeds(t, "add", batch.AddText("A ship", 1, MaxTokens(3)))
	}
	during := must(shared.Info()).MemoryUsed
	for event, err := range batch.Events(t.Context()) {
		succeeds(t, "events", errors.Join(err, event.Err))
	}
	after := must(shared.Info()).MemoryUsed
	if during <= before || after >= during {
		t.Errorf("%d bytes, then %d, then %d", before, during, after)
	}
	succeeds(t, "add", batch.AddText("A ship", 1))
	batch.Close()
	if closed := must(shared.Info()).MemoryUsed; closed > after {
		t.Errorf("%d bytes after the batch was closed, %d before", closed, after)
	}
	fails(t, "a closed batch", batch.AddText("A ship", 1), ErrClosed)
}

// A member that cannot go on fails alone, also where others have its tag.
func TestBatchErrorsWithEqualTags(t *testing.T) {
	model := openModel(t)
	batch := must(model.NewBatch())
	defer batch.Close()
	failing := newSession(t, model)
	for _, session := range []*Session{newSession(t, model), failing, newSession(t, model)} {
		generation := must(session.NewGeneration("A ship", MaxTokens(5)))
		defer generation.Close()
		succeeds(t, "tag", generation.SetTag(7))
		succeeds(t, "add", batch.Add(generation))
	}
	failing.Close()
	nErrors, nFinished := 0, 0
	for event, err := range batch.Events(t.Context()) {
		succeeds(t, "events", err)
		if event.Tag != 7 {
			t.Errorf("the tag %d", event.Tag)
		}
		switch event.FinishReason {
		case FinishNone:
		case FinishError:
			nErrors++
			fails(t, "the failing one", event.Err, ErrClosed)
		default:
			nFinished++
			succeeds(t, "another one", event.Err)
		}
	}
	if nErrors != 1 || nFinished != 2 {
		t.Errorf("%d failed, %d finished", nErrors, nFinished)
	}
}

func TestBatchStepByStep(t *testing.T) {
	model := openModel(t)
	batch := must(model.NewBatch())
	defer batch.Close()
	text := map[*Generation]string{}
	for range 2 {
		generation := must(newSession(t, model).NewGenerationChat(must(NewChat(define...))))
		defer generation.Close()
		succeeds(t, "add", batch.Add(generation))
		text[generation] = ""
	}
	for {
		nActive, err := batch.Step(t.Context())
		succeeds(t, "step", err)
		if err != nil || nActive == 0 {
			break
		}
		for generation := range text {
			if must(generation.Info()).Prepared {
				text[generation] += must(generation.Next(t.Context())).Text
			}
		}
	}
	for _, found := range text {
		if found != definition {
			t.Errorf("%q", found)
		}
	}
}
