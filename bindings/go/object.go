package finermoe

import (
	"context"
	"runtime"
	"slices"
	"sync"

	"finermoe.example/finermoe/internal/low"
)

// sharing says what an object does with a call that comes while another one runs.
type sharing int

const (
	shared    sharing = iota // the library decides: it computes, or answers ErrBusy
	exclusive                // ErrBusy: what a call gives must be read before the next one
	waiting                  // it waits: for objects that the library leaves unguarded, whose calls are short
)

// object is the C side of a Go object. It is freed when it was closed and its last call is over, so that no order of
// calls, on any goroutines, touches freed memory.
type object[H ~uintptr] struct {
	name    string
	sharing sharing
	closes  func(H) // ends what runs on it; nil where the library has no such call
	frees   func(H)
	keeps   []keeper // what C uses as long as it has this object

	turn   sync.Mutex // of exclusive and waiting calls
	mutex  sync.Mutex // of what follows
	handle H
	calls  int
	closed bool
}

// keeper is what an object keeps: another object, a callback, or memory.
type keeper interface {
	// outcome takes what a callback left for the call that it came from: what it panicked with, or its error.
	outcome() (panicked any, failed error)
}

// newObject takes over a C object, which is freed once `owner`, the Go object that it stands behind, is unreachable.
func newObject[H ~uintptr, Owner any](owner *Owner, o *object[H]) *object[H] {
	runtime.AddCleanup(owner, func(o *object[H]) { o.end(nil) }, o)
	return o
}

// use calls with the C object, unless it is closed. What a callback did in the call, a panic or an error, comes out.
func (o *object[H]) use(call func(H) low.Error) error {
	switch o.sharing {
	case exclusive:
		if !o.turn.TryLock() {
			return newError(ErrBusy, "the "+o.name+" is in use", "one call at a time", "another call")
		}
		defer o.turn.Unlock()
	case waiting:
		o.turn.Lock()
		defer o.turn.Unlock()
	case shared:
	}
	if err := o.begin(); err != nil {
		return err
	}
	defer o.finish()
	return settle(o, check(call(o.handle)))
}

// useContext is use for a call that ends with the context.
func (o *object[H]) useContext(ctx context.Context, call func(H, low.Cancel) low.Error) error {
	watch, err := watchContext(ctx)
	if err != nil {
		return err
	}
	defer watch.stop()
	return watch.explain(o.use(func(handle H) low.Error { return call(handle, watch.cancel) }))
}

// keepInstead keeps one thing instead of another; either may be nil.
func (o *object[H]) keepInstead(more, less keeper) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	keeps := slices.DeleteFunc(slices.Clone(o.keeps), func(kept keeper) bool { return kept == less })
	if more != nil {
		keeps = append(keeps, more)
	}
	o.keeps = keeps
}

func (o *object[H]) begin() error {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	if o.closed {
		return newError(ErrClosed, "the "+o.name+" is closed", "an open "+o.name, "a closed one")
	}
	o.calls++
	return nil
}

func (o *object[H]) finish() {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	o.calls--
	o.freeIfOver()
}

// close ends what runs on the object, and frees it.
func (o *object[H]) close() { o.end(o.closes) }

func (o *object[H]) end(closes func(H)) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	if o.closed {
		return
	}
	o.closed = true
	if closes != nil {
		closes(o.handle)
	}
	o.freeIfOver()
}

func (o *object[H]) freeIfOver() {
	if o.closed && o.calls == 0 {
		o.frees(o.handle)
	}
}

func (o *object[H]) outcome() (any, error) {
	o.mutex.Lock()
	keeps := o.keeps
	o.mutex.Unlock()
	return outcomeOf(keeps)
}

// use2 is use with two objects.
func use2[A, B ~uintptr](a *object[A], b *object[B], call func(A, B) low.Error) error {
	var inner error
	err := a.use(func(handleA A) low.Error {
		inner = b.use(func(handleB B) low.Error { return call(handleA, handleB) })
		return 0
	})
	if err == nil {
		err = inner
	}
	return err
}

// create gives what a call of the low layer makes.
func create[H any](call func(*H) low.Error) (H, error) {
	var made H
	err := check(call(&made))
	return made, err
}

// fill gives what comes out of a call through (buffer, capacity, needed). `room` is a guess that saves a second call.
func fill[T any](room int, call func(buffer []T, capacity int, needed *int) low.Error) ([]T, low.Error) {
	needed := 0
	for {
		buffer := make([]T, room)
		failure := call(buffer, room, &needed)
		if failure == 0 {
			return buffer[:needed], 0
		}
		if Code(low.ErrorCode(failure)) != ErrBufferTooSmall || needed <= room {
			return nil, failure
		}
		low.ErrorFree(failure)
		room = needed
	}
}

// A watch raises a cancel object when a context ends.
type watch struct {
	ctx     context.Context
	cancel  low.Cancel // 0: none
	unwatch func() bool

	mutex sync.Mutex
	over  bool
}

// noWatch is of contexts that never end.
var noWatch = &watch{}

// spareCancels are lowered and in nobody's use. They make a call with a context cheaper.
var spareCancels = make(chan low.Cancel, 16)

func watchContext(ctx context.Context) (*watch, error) {
	if ctx.Done() == nil {
		return noWatch, nil
	}
	w := &watch{ctx: ctx}
	select {
	case w.cancel = <-spareCancels:
	default:
		cancel, err := create(low.CancelCreate)
		if err != nil {
			return nil, err
		}
		w.cancel = cancel
	}
	if ctx.Err() != nil {
		low.CancelRequest(w.cancel) // before the call, not beside it
		return w, nil
	}
	w.unwatch = context.AfterFunc(ctx, w.request)
	return w, nil
}

func (w *watch) request() {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if !w.over {
		low.CancelRequest(w.cancel)
	}
}

// explain makes the context's error a part of an error that the context brought about.
func (w *watch) explain(err error) error {
	if err != nil && w.cancel != 0 && low.CancelRequested(w.cancel) != 0 {
		return because(err, w.ctx.Err())
	}
	return err
}

func (w *watch) stop() {
	if w.cancel == 0 {
		return
	}
	if w.unwatch != nil {
		w.unwatch()
	}
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.over = true
	if low.CancelRequested(w.cancel) != 0 {
		low.CancelReset(w.cancel)
	}
	select {
	case spareCancels <- w.cancel:
	default:
		low.CancelFree(w.cancel)
	}
}
