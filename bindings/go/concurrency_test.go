package finermoe

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"
)

func TestClosingWhileOthersUse(t *testing.T) {
	for what, end := range map[string]func(*everything){
		"model": func(e *everything) { e.model.Close() }, "session": func(e *everything) { e.session.Close() },
		"generation": func(e *everything) { e.generation.Close() },
		"all": func(e *everything) {
			for _, close := range e.closes() {
				close()
			}
		},
	} {
		e := openEverything()
		succeeds(t, "remove", e.batch.Remove(e.generation))
		e.generation.Close()
		e.generation = must(e.session.NewGeneration("A ship", MaxTokens(0), IgnoreEOS(true)))
		var others sync.WaitGroup
		for range 3 {
			others.Add(1)
			go func() {
				defer others.Done()
				e.uses(context.Background())
			}()
		}
		others.Add(1)
		go func() {
			defer others.Done()
			time.Sleep(5 * time.Millisecond)
			end(&e)
		}()
		var last error
		for begin := time.Now(); time.Since(begin) < 10*time.Second; {
			_, err := e.generation.Next(t.Context())
			if err != nil && !errors.Is(err, ErrBusy) {
				last = err
				break
			}
		}
		fails(t, what, last, ErrClosed)
		others.Wait()
		for _, close := range e.closes() {
			close()
		}
	}
}

// Goroutines move between threads while a request goes on, and hand it to each other.
func TestGoroutinesThatMove(t *testing.T) {
	session := newSession(t, openModel(t, Threads(2)))
	generation := must(session.NewGenerationChat(must(NewChat(define...))))
	defer generation.Close()
	text := make(chan string, 1)
	text <- ""
	done := false
	for !done {
		step := make(chan bool)
		go func() {
			runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
			event, err := generation.Next(t.Context())
			succeeds(t, "next", err)
			text <- <-text + event.Text
			step <- err != nil || event.FinishReason != FinishNone
		}()
		done = <-step
	}
	if all := <-text; all != definition {
		t.Errorf("%q", all)
	}
}

func TestOneCallAtATime(t *testing.T) {
	session := newSession(t, openModel(t))
	generation := must(session.NewGeneration("A ship", MaxTokens(200), IgnoreEOS(true)))
	defer generation.Close()
	var mutex sync.Mutex
	nEvents, nBusy := 0, 0
	var all sync.WaitGroup
	for range 4 {
		all.Add(1)
		go func() {
			defer all.Done()
			for {
				event, err := generation.Next(context.Background())
				mutex.Lock()
				switch {
				case errors.Is(err, ErrBusy):
					nBusy++
				case err != nil:
					t.Error(err)
				case event.Token >= 0:
					nEvents++
				}
				mutex.Unlock()
				if err == nil && event.FinishReason != FinishNone {
					return
				}
			}
		}()
	}
	all.Wait()
	if nEvents != 200 {
		t.Errorf("%d events, %d refused", nEvents, nBusy)
	}
}

// What the library leaves unguarded waits.
func TestSharedWithoutHarm(t *testing.T) {
	model := openModel(t)
	chat := must(NewChat())
	decoder := must(model.Tokenizer().NewDecoder())
	sampler := must(NewSampler(Temperature(1), Seed(3)))
	var all sync.WaitGroup
	for range 4 {
		all.Add(1)
		go func() {
			defer all.Done()
			for range 50 {
				succeeds(t, "chat", chat.Add("user", "text"))
				_, err := decoder.Push(32)
				succeeds(t, "decoder", err)
				id, err := sampler.Choose([]float32{1, 2, 3})
				succeeds(t, "sampler", err)
				succeeds(t, "sampler", sampler.Accept(id))
				_, err = model.Tokenizer().Encode("A ship")
				succeeds(t, "tokenizer", err)
			}
		}()
	}
	all.Wait()
	if n := len(must(chat.Messages())); n != 200 {
		t.Errorf("%d messages", n)
	}
}

// The events of a batch are read by one goroutine while others use its members.
func TestBatchBesideItsMembers(t *testing.T) {
	model := openModel(t)
	batch := must(model.NewBatch())
	defer batch.Close()
	var members []*Generation
	for tag := range 3 {
		generation := must(newSession(t, model).NewGeneration("A ship", MaxTokens(40), IgnoreEOS(true), Temperature(1),
			Seed(uint64(tag))))
		defer generation.Close()
		succeeds(t, "tag", generation.SetTag(uint64(tag)))
		succeeds(t, "add", batch.Add(generation))
		members = append(members, generation)
	}
	var all sync.WaitGroup
	stop := make(chan bool)
	for _, member := range members {
		all.Add(1)
		go func() {
			defer all.Done()
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := member.Next(context.Background()); err != nil && !errors.Is(err, ErrBusy) {
					t.Error(err)
				}
				_, _ = member.Info()
				time.Sleep(time.Millisecond)
			}
		}()
	}
	for range 2000 {
		_, ok, err := batch.Next(t.Context())
		if err != nil && !errors.Is(err, ErrBusy) {
			t.Error(err)
		}
		if err == nil && !ok {
			break
		}
	}
	close(stop)
	all.Wait()
}
