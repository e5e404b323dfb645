package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"

	"finermoe.example/finermoe"
)

func config(r *runner, line *row) (results, error) {
	config, err := finermoe.OpenConfig(r.modelPath(line))
	if err != nil {
		return nil, err
	}
	defer config.Close()
	return fields(config.ConfigInfo), nil
}

func configJSON(r *runner, line *row) (results, error) {
	config, err := finermoe.OpenConfig(r.modelPath(line))
	if err != nil {
		return nil, err
	}
	defer config.Close()
	json, err := config.JSON()
	if err != nil {
		return nil, err
	}
	file, err := os.ReadFile(filepath.Join(r.modelPath(line), "config.json"))
	if err != nil || !bytes.Equal(json, file) {
		return results{}, err
	}
	return results{"bytes": len(json)}, nil
}

func plan(r *runner, line *row) (results, error) {
	config, err := finermoe.OpenConfig(r.modelPath(line))
	if err != nil {
		return nil, err
	}
	defer config.Close()
	plan, err := config.Plan(finermoe.Sessions(line.Sessions), finermoe.ContextLength(line.ContextLength),
		finermoe.Threads(line.Threads))
	return fields(plan), err
}

func system(*runner, *row) (results, error) {
	devices, err := finermoe.Devices("")
	if err != nil {
		return nil, err
	}
	info, err := finermoe.System()
	known := slices.Contains([]string{"portable", "avx2", "avx2-vnni", "avx512", "amx"}, info.Kernels)
	return results{"devices": devices[0].Name, "kernels_known": known}, err
}

func profiledRuntime(r *runner, line *row) (results, error) {
	runtime, err := finermoe.NewRuntime(finermoe.Threads(line.Threads), finermoe.MemoryLimit(line.MemoryLimit),
		finermoe.Profile(line.Profile))
	if err != nil {
		return nil, err
	}
	defer runtime.Close()
	model, err := finermoe.Open(r.modelPath(line), finermoe.WithRuntime(runtime))
	if err != nil {
		return nil, err
	}
	defer model.Close()
	if _, err := appendAll(model, line.IDs); err != nil {
		return nil, err
	}
	info, err := runtime.Info()
	if err != nil {
		return nil, err
	}
	found := fields(info)
	if found["operations"], _, err = called(runtime); err != nil {
		return nil, err
	}
	if err := runtime.ResetProfile(); err != nil {
		return nil, err
	}
	_, found["calls_after_reset"], err = called(runtime)
	return found, err
}

// called is the operations of a runtime that were called, sorted, and their number.
func called(runtime *finermoe.Runtime) (names []string, n int, err error) {
	operations, err := runtime.Operations()
	names = []string{}
	for _, operation := range operations {
		if operation.NCalls > 0 {
			names = append(names, operation.Name)
		}
	}
	slices.Sort(names)
	return names, len(names), err
}

// appendAll appends ids on a session of its own, and gives the last row of logits.
func appendAll(model *finermoe.Model, ids []int32) ([]float32, error) {
	session, err := model.NewSession()
	if err != nil {
		return nil, err
	}
	defer session.Close()
	logits, err := session.Append(context.Background(), ids, finermoe.LogitsLast)
	if err != nil {
		return nil, err
	}
	return logits[0], nil
}

// singleFile makes a copy of the row's model as a single file.
func (r *runner) singleFile(line *row) (string, error) {
	path := filepath.Join(r.folder, "q8.safetensors")
	return path, finermoe.Quantize(context.Background(), r.modelPath(line), path, finermoe.Q8)
}

func textOn(model *finermoe.Model, request *request) (results, error) {
	session, err := model.NewSession()
	if err != nil {
		return nil, err
	}
	defer session.Close()
	text, err := request.text(session)
	return results{"text": text}, err
}

func openMemory(r *runner, line *row) (results, error) {
	path, err := r.singleFile(line)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	model, err := finermoe.OpenBytes(data, finermoe.Threads(2))
	if err != nil {
		return nil, err
	}
	defer model.Close()
	return textOn(model, &line.request)
}

func openFD(r *runner, line *row) (results, error) {
	path, err := r.singleFile(line)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	model, err := finermoe.OpenFile(file, finermoe.Threads(2))
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return nil, err
	}
	defer model.Close()
	return textOn(model, &line.request)
}

func expertCache(r *runner, line *row) (results, error) {
	model, err := r.open(line)
	if err != nil {
		return nil, err
	}
	defer model.Close()
	info, err := model.ExpertCache()
	return fields(info), err
}

func expertSimilarity(r *runner, line *row) (results, error) {
	model, err := r.open(line)
	if err != nil {
		return nil, err
	}
	defer model.Close()
	similarity, err := model.ExpertSimilarity(context.Background(), line.Layer)
	return results{"similarity": similarity}, err
}

func executor(r *runner, line *row) (results, error) {
	var tasks atomic.Int64
	onGoroutines := finermoe.Goroutines(2)
	counted := func(n int, task func(int)) {
		tasks.Add(int64(n))
		onGoroutines(n, task)
	}
	model, err := finermoe.Open(r.modelPath(line), finermoe.Executor(counted, 2))
	if err != nil {
		return nil, err
	}
	defer model.Close()
	logits, err := appendAll(model, line.IDs)
	if err != nil {
		return nil, err
	}
	return results{"argmax": argmax(logits), "tasks_ran": tasks.Load() > 0}, nil
}

func logged(r *runner, line *row) (results, error) {
	folder := filepath.Join(r.folder, "model")
	if err := os.CopyFS(folder, os.DirFS(r.modelPath(line))); err != nil {
		return nil, err
	}
	tokenizer := filepath.Join(folder, "tokenizer.json")
	if err := os.WriteFile(tokenizer, []byte("{"), 0o600); err != nil {
		return nil, err
	}
	levels := map[finermoe.LogLevel]bool{}
	model, err := finermoe.Open(folder, finermoe.Log(func(level finermoe.LogLevel, _ string) { levels[level] = true }))
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
	if _, err := generation.Next(context.Background()); err != nil {
		return nil, err
	}
	distinct := []finermoe.LogLevel{}
	for level := range levels {
		distinct = append(distinct, level)
	}
	slices.Sort(distinct)
	return results{"levels": distinct}, nil
}

// heard is what a function for progress heard.
type heard struct {
	phases      []string
	done, total uint64
}

func (h *heard) hear(phase string, done, total uint64) error {
	if !slices.Contains(h.phases, phase) {
		h.phases = append(h.phases, phase)
	}
	h.done, h.total = done, total
	return nil
}

func (h *heard) results() results {
	return results{"phases": h.phases, "complete": h.done == h.total && h.phases != nil}
}

func loadProgress(r *runner, line *row) (results, error) {
	var heard heard
	model, err := r.open(line, finermoe.VerifyWeights(true), finermoe.Progress(heard.hear))
	if err != nil {
		return nil, err
	}
	defer model.Close()
	return heard.results(), nil
}
