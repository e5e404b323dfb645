package finermoe

import (
	"context"
	"iter"
	"sync"

	"finermoe.example/finermoe/internal/low"
)

// Batch is requests of one model that advance together, one pass over the weights for all. It is for one call at a
// time: another call that comes meanwhile gets ErrBusy. Close can be called at any time.
type Batch struct {
	object *object[low.Batch]
	model  *Model
	event  low.Event
	tag    *uint64 // where C puts the tag of an event

	// Held while an event is made and read: its text is a member's, which must not go on meanwhile.
	reading sync.RWMutex
	mutex   sync.Mutex               // of members
	members map[*Generation]*Session // with the session that a member brought along, which goes with it, or nil
}

// NewBatch makes a batch without members. The caller closes it.
func (m *Model) NewBatch() (*Batch, error) {
	var handle low.Batch
	err := m.object.use(func(h low.Model) low.Error {
		out := new(low.Batch)
		failure := low.BatchCreate(h, out)
		handle = *out
		return failure
	})
	if err != nil {
		return nil, err
	}
	event := low.NewEvent()
	b := &Batch{model: m, event: event, tag: new(uint64), members: map[*Generation]*Session{}}
	b.object = newObject(b, &object[low.Batch]{name: "batch", sharing: exclusive, handle: handle,
		closes: low.BatchClose, keeps: []keeper{m.object},
		frees: func(h low.Batch) { low.BatchFree(h); low.DeleteEvent(event) }})
	return b, nil
}

// Close ends what the batch computes. Members that were added by Add stay. A second call does nothing.
func (b *Batch) Close() {
	b.object.close()
	b.mutex.Lock()
	defer b.mutex.Unlock()
	for generation := range b.members {
		b.leave(generation)
	}
}

// Add lets a request join, between any two steps. It should be in one batch only, which keeps it alive.
func (b *Batch) Add(generation *Generation) error { return b.add(generation, nil) }

func (b *Batch) add(generation *Generation, brought *Session) error {
	if err := use2(b.object, generation.object, low.BatchAdd); err != nil {
		return err
	}
	generation.batch.Store(&b.reading)
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.members[generation] = brought
	return nil
}

// AddText lets a request with a text join, on a session of its own, which is closed when the request leaves. The tag
// comes with its events.
func (b *Batch) AddText(prompt string, tag uint64, opts ...GenerateOption) error {
	session, err := b.model.NewSession()
	if err != nil {
		return err
	}
	generation, err := session.NewGeneration(prompt, opts...)
	if err != nil {
		session.Close()
		return err
	}
	if err = generation.SetTag(tag); err == nil {
		err = b.add(generation, session)
	}
	if err != nil {
		generation.Close()
		session.Close()
	}
	return err
}

// Remove lets a request leave, between any two steps.
func (b *Batch) Remove(generation *Generation) error {
	if err := use2(b.object, generation.object, low.BatchRemove); err != nil {
		return err
	}
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.leave(generation)
	return nil
}

// leave lets go of a member, with the mutex held.
func (b *Batch) leave(generation *Generation) {
	brought := b.members[generation]
	delete(b.members, generation)
	generation.batch.CompareAndSwap(&b.reading, nil)
	if brought != nil {
		generation.Close()
		brought.Close()
	}
}

// Step makes one pass over the weights for every member that is not prepared, and returns how many have not finished
// and can go on. Then [Generation.Next] of those that [Generation.Info] calls prepared only chooses. The short way is
// Events.
func (b *Batch) Step(ctx context.Context) (nActive int, err error) {
	active := new(int)
	err = b.object.useContext(ctx, func(h low.Batch, cancel low.Cancel) low.Error {
		return low.BatchStep(h, cancel, active)
	})
	return *active, b.settle(err)
}

// BatchEvent is one step of one member of a batch.
type BatchEvent struct {
	Event
	Tag uint64 // of the member
	Err error  // why the member cannot go on, with FinishError; the others do not notice
}

// Next is the next event of any member: members take turns, and one leaves with its last event. ok is false where no
// member is left.
func (b *Batch) Next(ctx context.Context) (event BatchEvent, ok bool, err error) {
	watch, err := watchContext(ctx)
	if err != nil {
		return BatchEvent{}, false, err
	}
	defer watch.stop()
	event, ok, err = b.next(watch.cancel)
	return event, ok, watch.explain(err)
}

// Events is the events of all members until none is left. Members can join and leave meanwhile.
func (b *Batch) Events(ctx context.Context) iter.Seq2[BatchEvent, error] {
	return func(yield func(BatchEvent, error) bool) {
		watch, err := watchContext(ctx)
		if err != nil {
			yield(BatchEvent{}, err)
			return
		}
		defer watch.stop()
		for {
			event, ok, err := b.next(watch.cancel)
			if err == nil && !ok {
				return
			}
			if !yield(event, watch.explain(err)) || err != nil {
				return
			}
		}
	}
}

func (b *Batch) next(cancel low.Cancel) (event BatchEvent, ok bool, err error) {
	err = b.object.use(func(h low.Batch) low.Error {
		b.reading.Lock()
		defer b.reading.Unlock()
		failure := low.BatchNext(h, cancel, b.tag, b.event)
		if failure == 0 {
			event = BatchEvent{Event: readEvent(b.event), Tag: *b.tag}
		}
		return failure
	})
	if err = b.settle(err); err != nil {
		return BatchEvent{}, false, err
	}
	if event.FinishReason != FinishNone {
		event.Err = b.finished(event)
	}
	return event, event.Token >= 0 || event.FinishReason != FinishNone, nil
}

// finished lets go of the member that an event was the last one of, and gives the error that it failed with.
func (b *Batch) finished(event BatchEvent) (failed error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	for generation := range b.members {
		if generation.tag.Load() != event.Tag {
			continue
		}
		info, err := generation.Info() // of one that was closed, the error says so
		if err == nil && info.FinishReason == FinishNone && info.Status == 0 {
			continue // another one with this tag
		}
		if event.FinishReason == FinishError {
			failed = generation.Err()
		}
		b.leave(generation)
		return failed
	}
	return nil
}

// settle ends a call: what a callback of a member's session did comes out of it.
func (b *Batch) settle(err error) error {
	if nOutcomes.Load() == 0 {
		return err
	}
	b.mutex.Lock()
	var keeps []keeper
	for generation := range b.members {
		keeps = append(keeps, generation.object)
	}
	b.mutex.Unlock()
	return settle(keepers(keeps), err)
}

type keepers []keeper

func (k keepers) outcome() (any, error) { return outcomeOf(k) }
