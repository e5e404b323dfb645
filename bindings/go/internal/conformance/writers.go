package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"finermoe.example/finermoe"
)

// sumOf is the SHA-256 of the weights in a folder.
func sumOf(folder string) (results, error) {
	bytes, err := os.ReadFile(filepath.Join(folder, "model.safetensors"))
	sum := sha256.Sum256(bytes)
	return results{"sha256": hex.EncodeToString(sum[:])}, err
}

func (r *runner) out() string { return filepath.Join(r.folder, "out") }

// upcycleMakers turn the value of an option into one of the package.
var upcycleMakers = map[string]func(json.RawMessage) (finermoe.UpcycleOption, error){
	"g_i":             upcycleMaker(finermoe.GranularityInter),
	"r_i":             upcycleMaker(finermoe.ExpansionInter),
	"g_o":             upcycleMaker(finermoe.GranularityOutput),
	"r_o":             upcycleMaker(finermoe.ExpansionOutput),
	"t_i":             upcycleMaker(finermoe.TopInter),
	"shared_expert":   upcycleMaker(finermoe.SharedExpert),
	"separate_router": upcycleMaker(finermoe.SeparateRouter),
	"down_scale":      upcycleMaker(finermoe.DownScale),
	"drop_ratio":      upcycleMaker(finermoe.DropRatio),
	"concat_proj": upcycleMaker(func(name string) finermoe.UpcycleOption {
		return map[string]finermoe.ConcatProj{"none": finermoe.ConcatProjNone, "normal": finermoe.ConcatProjNormal,
			"zero": finermoe.ConcatProjZero}[name]
	}),
	"router_init": upcycleMaker(func(name string) finermoe.UpcycleOption {
		return map[string]finermoe.RouterInit{"normal": finermoe.RouterInitNormal,
			"virtual_group": finermoe.RouterInitVirtualGroup}[name]
	}),
}

func upcycleMaker[T any](option func(T) finermoe.UpcycleOption) func(json.RawMessage) (finermoe.UpcycleOption, error) {
	return func(raw json.RawMessage) (finermoe.UpcycleOption, error) {
		var value T
		err := json.Unmarshal(raw, &value)
		return option(value), err
	}
}

func upcycle(r *runner, line *row) (results, error) {
	opts := []finermoe.UpcycleOption{finermoe.Preset(line.Preset), finermoe.Seed(line.Seed)}
	for name, raw := range line.Options {
		make, known := upcycleMakers[name]
		if !known {
			return nil, fmt.Errorf("no such option: %s", name)
		}
		opt, err := make(raw)
		if err != nil {
			return nil, err
		}
		opts = append(opts, opt)
	}
	if err := finermoe.Upcycle(context.Background(), r.modelPath(line), r.out(), opts...); err != nil {
		return nil, err
	}
	return sumOf(r.out())
}

func (r *runner) quantize(line *row, opts ...finermoe.QuantizeOption) error {
	for _, pair := range line.Overrides {
		opts = append(opts, finermoe.Override(pair[0], dtypes[pair[1]]))
	}
	return finermoe.Quantize(context.Background(), r.modelPath(line), r.out(), dtypes[line.DType], opts...)
}

func quantize(r *runner, line *row) (results, error) {
	if err := r.quantize(line); err != nil {
		return nil, err
	}
	return sumOf(r.out())
}

func synthesize(r *runner, line *row) (results, error) {
	err := finermoe.Synthesize(context.Background(), r.modelPath(line), r.out(), dtypes[line.DType],
		finermoe.Seed(line.Seed))
	if err != nil {
		return nil, err
	}
	return sumOf(r.out())
}

func verify(r *runner, line *row) (results, error) {
	files, err := finermoe.Verify(context.Background(), r.modelPath(line), nil)
	list := make([][5]any, len(files))
	for i, file := range files {
		list[i] = [5]any{file.Name, file.NTensors, file.NNaN, file.NInfinite, file.SHA256}
	}
	return results{"files": list}, err
}

func writerProgress(r *runner, line *row) (results, error) {
	var heard heard
	err := r.quantize(line, finermoe.Progress(heard.hear))
	return heard.results(), err
}

func writerCancel(r *runner, line *row) (results, error) {
	enough := errors.New("enough")
	failed := r.quantize(line, finermoe.Progress(func(string, uint64, uint64) error { return enough }))
	if !errors.Is(failed, enough) {
		return nil, fmt.Errorf("the error of the callback does not come out: %w", failed)
	}
	left := []string{}
	entries, err := os.ReadDir(r.folder)
	for _, entry := range entries {
		left = append(left, entry.Name())
	}
	return results{"code": codeOf(failed), "left": left}, err
}

func writerExists(r *runner, line *row) (results, error) {
	if err := r.quantize(line); err != nil {
		return nil, err
	}
	failed := r.quantize(line)
	err := r.quantize(line, finermoe.Overwrite(true))
	return results{"code": codeOf(failed), "replaced": err == nil}, err
}
