package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"

	"finermoe.example/finermoe"
)

func logits(r *runner, line *row) (results, error) {
	model, session, err := r.openSession(line)
	if err != nil {
		return nil, err
	}
	defer model.Close()
	defer session.Close()
	kept, err := appendKeeping(session, line)
	if err != nil {
		return nil, err
	}
	var likeliest []int
	for _, values := range kept {
		likeliest = append(likeliest, argmax(values))
	}
	return results{"values": columns(kept, line.Columns), "argmax": likeliest}, nil
}

// appendKeeping appends the row's ids and keeps what it says.
func appendKeeping(session *finermoe.Session, line *row) ([][]float32, error) {
	ctx := context.Background()
	var rows []int
	if json.Unmarshal(line.Keep, &rows) == nil {
		return session.AppendRows(ctx, line.IDs, rows)
	}
	if string(line.Keep) == `"all"` {
		return session.Append(ctx, line.IDs, finermoe.LogitsAll)
	}
	return session.Append(ctx, line.IDs, finermoe.LogitsLast)
}

func columns(rows [][]float32, columns []int) [][]float32 {
	values := make([][]float32, len(rows))
	for i, row := range rows {
		for _, column := range columns {
			values[i] = append(values[i], row[column])
		}
	}
	return values
}

func hidden(r *runner, line *row) (results, error) {
	keep := finermoe.HiddenKeep
	if line.Only {
		keep = finermoe.HiddenOnly
	}
	model, session, err := r.openSession(line, keep)
	if err != nil {
		return nil, err
	}
	defer model.Close()
	defer session.Close()
	if _, err := session.AppendRows(context.Background(), line.IDs, line.Rows); err != nil {
		return nil, err
	}
	states := make([][]float32, len(line.Rows))
	for i := range states {
		if states[i], err = session.Hidden(i); err != nil {
			return nil, err
		}
	}
	info, err := session.Info()
	return results{"values": columns(states, line.Columns), "n_logits": info.NLogits}, err
}

func score(r *runner, line *row) (results, error) {
	model, session, err := r.openSession(line)
	if err != nil {
		return nil, err
	}
	defer model.Close()
	defer session.Close()
	scores, err := session.Score(context.Background(), line.IDs)
	if err != nil {
		return nil, err
	}
	logprobs := make([]*float32, len(scores.Logprobs)) // nil is null
	for i := range logprobs {
		if !math.IsNaN(float64(scores.Logprobs[i])) {
			logprobs[i] = &scores.Logprobs[i]
		}
	}
	return results{"logprobs": logprobs, "likeliest": scores.Likeliest}, nil
}

// stage is a session that steps are done on, with what they saved.
type stage struct {
	session *finermoe.Session // the last fork
	all     []*finermoe.Session
	file    string
	memory  []byte
}

func (s *stage) do(step step) (any, error) {
	var err error
	switch what := step.word(0); what {
	case "generate":
		var request request
		if err := step.get(1, &request); err != nil {
			return nil, err
		}
		return request.text(s.session)
	case "keep_prefix":
		kept, err := s.session.KeepPrefix(step.ids(1))
		return []int{kept}, err
	case "append":
		_, err = s.session.Append(context.Background(), step.ids(1), finermoe.LogitsNone)
	case "truncate":
		err = s.session.Truncate(step.number(1))
	case "remove":
		err = s.session.Remove(step.number(1), step.number(2))
	case "set_context_length":
		err = s.session.SetContextLength(step.number(1))
	case "reset":
		err = s.session.Reset()
	case "fork":
		var fork *finermoe.Session
		if fork, err = s.session.Fork(); err == nil {
			s.session, s.all = fork, append(s.all, fork)
		}
	case "save":
		err = s.session.Save(s.file)
	case "restore":
		err = s.session.Restore(s.file)
	case "save_memory":
		s.memory, err = s.session.SaveBytes()
	case "restore_memory":
		err = s.session.RestoreBytes(s.memory)
	default:
		err = fmt.Errorf("no such step: %s", what)
	}
	if err != nil {
		return nil, err
	}
	info, err := s.session.Info()
	return info.Length, err
}

func session(r *runner, line *row) (results, error) {
	model, first, err := r.openSession(line)
	if err != nil {
		return nil, err
	}
	defer model.Close()
	stage := &stage{session: first, all: []*finermoe.Session{first}, file: filepath.Join(r.folder, "session")}
	defer func() {
		for _, session := range stage.all {
			session.Close()
		}
	}()
	var done []any
	for _, step := range line.Steps {
		result, err := stage.do(step)
		if err != nil {
			return nil, err
		}
		done = append(done, result)
	}
	tokens, err := stage.session.Tokens()
	if err != nil {
		return nil, err
	}
	last := []int32{tokens[len(tokens)-1]} // again, to see the logits behind all
	kept, err := stage.session.Append(context.Background(), last, finermoe.LogitsLast)
	if err != nil {
		return nil, err
	}
	return results{"results": done, "tokens": tokens, "argmax": argmax(kept[0])}, nil
}

func sessionInfo(r *runner, line *row) (results, error) {
	model, session, err := r.openSession(line)
	if err != nil {
		return nil, err
	}
	defer model.Close()
	defer session.Close()
	if _, err := session.Append(context.Background(), line.IDs, finermoe.LogitsLast); err != nil {
		return nil, err
	}
	info, err := session.Info()
	return fields(info), err
}

func routes(r *runner, line *row) (results, error) {
	model, session, err := r.openSession(line)
	if err != nil {
		return nil, err
	}
	defer model.Close()
	defer session.Close()
	trace, err := model.NewTrace(finermoe.TraceRoutes | finermoe.TraceLogits | finermoe.TraceUsage)
	if err != nil {
		return nil, err
	}
	defer trace.Close()
	if err := session.SetTrace(trace); err != nil {
		return nil, err
	}
	if _, err := session.Append(context.Background(), line.IDs, finermoe.LogitsNone); err != nil {
		return nil, err
	}
	return readTrace(trace, line.MoELayer)
}

func readTrace(trace *finermoe.Trace, layer int) (results, error) {
	layers, err := trace.Layers()
	if err != nil {
		return nil, err
	}
	positions, err := trace.Positions()
	if err != nil {
		return nil, err
	}
	experts, err := trace.Experts(layer)
	if err != nil {
		return nil, err
	}
	weights, err := trace.Weights(layer)
	if err != nil {
		return nil, err
	}
	groups, err := trace.Groups(layer)
	if err != nil {
		return nil, err
	}
	logits, err := trace.Logits(layer)
	if err != nil {
		return nil, err
	}
	var likeliest []int
	for _, values := range logits {
		likeliest = append(likeliest, argmax(values))
	}
	usage, err := trace.Usage(layer)
	if err != nil {
		return nil, err
	}
	sum, largest := uint64(0), uint64(0)
	for _, count := range usage {
		sum, largest = sum+count, max(largest, count)
	}
	loss, err := trace.BalanceLoss(layer)
	return results{"layers": layers, "positions": positions, "experts": experts, "weights": weights, "groups": groups,
		"usage": []uint64{sum, largest}, "balance_loss": loss, "logits_argmax": likeliest}, err
}
