package main

import (
	"context"
	"fmt"

	"finermoe.example/finermoe"
)

// running is a member of a batch with what came of it.
type running struct {
	*member
	session    *finermoe.Session
	generation *finermoe.Generation
	text       string
	finish     finermoe.FinishReason
	err        error
}

// party is a batch with its members by their tags.
type party struct {
	model   *finermoe.Model
	batch   *finermoe.Batch
	members map[uint64]*running
}

func (r *runner) newParty(line *row) (*party, error) {
	model, err := r.open(line)
	if err != nil {
		return nil, err
	}
	p := &party{model: model, members: map[uint64]*running{}}
	if p.batch, err = model.NewBatch(); err != nil {
		p.close()
		return nil, err
	}
	for i := range line.Members {
		if err := p.make(&line.Members[i]); err != nil {
			p.close()
			return nil, err
		}
	}
	return p, nil
}

func (p *party) make(member *member) (err error) {
	m := &running{member: member}
	p.members[member.Tag] = m
	if m.session, err = p.model.NewSession(); err != nil {
		return err
	}
	if m.generation, err = member.start(m.session); err != nil {
		return err
	}
	return m.generation.SetTag(member.Tag)
}

func (p *party) close() {
	for _, m := range p.members {
		if m.generation != nil {
			m.generation.Close()
		}
		if m.session != nil {
			m.session.Close()
		}
	}
	if p.batch != nil {
		p.batch.Close()
	}
	p.model.Close()
}

// run runs until no member is left; `between` is called before each event with their number so far.
func (p *party) run(between func(nEvents int)) error {
	if err := p.joinAndLeave(0); err != nil {
		return err
	}
	for n := 0; ; n++ {
		between(n)
		event, ok, err := p.batch.Next(context.Background())
		if err != nil || !ok {
			return err
		}
		m := p.members[event.Tag]
		m.text += event.Text
		m.finish, m.err = event.FinishReason, event.Err
		if err := p.joinAndLeave(n + 1); err != nil {
			return err
		}
	}
}

func (p *party) joinAndLeave(nEvents int) error {
	for _, m := range p.members {
		if m.JoinAfter == nEvents {
			if err := p.batch.Add(m.generation); err != nil {
				return err
			}
		}
		if m.LeaveAfter != nil && *m.LeaveAfter == nEvents {
			if err := p.batch.Remove(m.generation); err != nil {
				return err
			}
		}
	}
	return nil
}

func batch(r *runner, line *row) (results, error) {
	p, err := r.newParty(line)
	if err != nil {
		return nil, err
	}
	defer p.close()
	if err := p.run(func(int) {}); err != nil {
		return nil, err
	}
	texts, finishes := map[string]string{}, map[string]string{}
	for tag, m := range p.members {
		finishes[fmt.Sprint(tag)] = m.finish.String()
		if m.finish != finermoe.FinishNone {
			texts[fmt.Sprint(tag)] = m.text
		}
	}
	return results{"texts": texts, "finish": finishes}, nil
}

func batchError(r *runner, line *row) (results, error) {
	p, err := r.newParty(line)
	if err != nil {
		return nil, err
	}
	defer p.close()
	failing := p.members[line.Closes]
	err = p.run(func(nEvents int) {
		if nEvents == line.CloseAfter {
			failing.session.Close()
		}
	})
	if err != nil {
		return nil, err
	}
	texts := map[string]string{}
	for tag, m := range p.members {
		if m != failing {
			texts[fmt.Sprint(tag)] = m.text
		}
	}
	return results{"texts": texts, "code": codeOf(failing.err)}, nil
}
