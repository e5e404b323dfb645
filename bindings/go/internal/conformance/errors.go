package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"finermoe.example/finermoe"
)

func failure(r *runner, line *row) (results, error) {
	err := r.provoke(line)
	var failed *finermoe.Error
	if !errors.As(err, &failed) {
		return results{"code": fmt.Sprint(err)}, nil
	}
	return results{"code": failed.Name, "expected": failed.Expected, "found": failed.Found}, nil
}

// provoke does what the row says, and gives the error of it.
func (r *runner) provoke(line *row) (err error) {
	switch line.Do {
	case "open":
		_, err = finermoe.Open(filepath.Join(r.folder, line.Path))
	case "open_file":
		err = r.openHostileFile(line)
	case "config":
		_, err = finermoe.ParseConfig([]byte(line.JSON))
	case "tokenizer":
		_, err = finermoe.ParseTokenizer([]byte(line.JSON), nil)
	case "role":
		_, err = finermoe.NewChat(finermoe.Message{Role: line.Role, Content: "text"})
	case "quantize_existing":
		if err := os.WriteFile(filepath.Join(r.folder, "notes.txt"), []byte("mine"), 0o600); err != nil {
			return err
		}
		err = finermoe.Quantize(context.Background(), r.modelPath(line), r.folder, finermoe.Q8)
	case "upcycle":
		err = finermoe.Upcycle(context.Background(), r.modelPath(line), filepath.Join(r.folder, "out"),
			finermoe.GranularityInter(line.GI))
	case "device":
		_, err = finermoe.NewRuntime(finermoe.Device(line.Device))
	case "plan_device":
		err = r.plan(line, func(memory uint64) finermoe.PlanOption {
			return finermoe.PlanDevice("", line.Device, memory)
		})
	case "plan_expert_cache":
		err = r.plan(line, finermoe.PlanExpertCache)
	case "device_weights":
		var limit uint64
		if err := json.Unmarshal(line.Bytes, &limit); err != nil {
			return err
		}
		_, err = finermoe.Open(r.modelPath(line), finermoe.DeviceWeights(limit))
	case "expert_cache":
		var size uint64
		if err := json.Unmarshal(line.Bytes, &size); err != nil {
			return err
		}
		_, err = finermoe.Open(r.modelPath(line), finermoe.ExpertCache(size))
	case "isa":
		var isa finermoe.ISA
		if err := json.Unmarshal(line.Value, &isa); err != nil {
			return err
		}
		_, err = finermoe.NewRuntime(isa)
	case "blas":
		_, err = finermoe.NewRuntime(finermoe.BLAS(filepath.Join(r.folder, line.Path)))
	case "threads_of_executor":
		_, err = finermoe.NewRuntime(finermoe.Executor(finermoe.Goroutines(1), 0))
	default:
		return r.provokeWithModel(line)
	}
	return err
}

func (r *runner) plan(line *row, option func(bytes uint64) finermoe.PlanOption) error {
	var size uint64
	if err := json.Unmarshal(line.Bytes, &size); err != nil {
		return err
	}
	config, err := finermoe.OpenConfig(r.modelPath(line))
	if err != nil {
		return err
	}
	defer config.Close()
	_, err = config.Plan(option(size))
	return err
}

func (r *runner) openHostileFile(line *row) error {
	bytes, err := line.hexadecimal()
	if err != nil {
		return err
	}
	path := filepath.Join(r.folder, "m.safetensors")
	if err := os.WriteFile(path, bytes, 0o600); err != nil {
		return err
	}
	_, err = finermoe.Open(path)
	return err
}

func (r *runner) provokeWithModel(line *row) (err error) {
	if line.Do == "memory_limit" {
		var limit uint64
		if err := json.Unmarshal(line.Bytes, &limit); err != nil {
			return err
		}
		return r.provokeMemoryLimit(line, limit)
	}
	model, err := r.open(line)
	if err != nil {
		return err
	}
	defer model.Close()
	switch line.Do {
	case "session":
		_, err = model.NewSession(finermoe.ContextLength(line.ContextLength))
	case "option":
		opts, listErr := options{line.Option: line.Value}.list()
		if listErr != nil {
			return listErr
		}
		_, err = model.NewGenerationOptions(opts...)
	case "stop":
		_, err = model.NewGenerationOptions(finermoe.Stop(line.Text))
	case "encode_without_tokenizer":
		_, err = model.Tokenizer().Encode("text")
	case "similarity":
		_, err = model.ExpertSimilarity(context.Background(), line.Layer)
	case "trace":
		_, err = model.NewTrace(finermoe.TraceRoutes)
	default:
		session, sessionErr := model.NewSession(line.sessionOptions()...)
		if sessionErr != nil {
			return sessionErr
		}
		defer session.Close()
		return provokeWithSession(model, session, line)
	}
	return err
}

func (r *runner) provokeMemoryLimit(line *row, limit uint64) error {
	model, err := finermoe.Open(r.modelPath(line), finermoe.MemoryLimit(limit))
	if err != nil {
		return err
	}
	defer model.Close()
	_, err = model.NewSession()
	return err
}

func provokeWithSession(model *finermoe.Model, session *finermoe.Session, line *row) (err error) {
	ctx := context.Background()
	switch line.Do {
	case "append":
		_, err = session.Append(ctx, line.IDs, finermoe.LogitsNone)
	case "truncate":
		err = session.Truncate(line.Length)
	case "remove":
		err = session.Remove(line.Begin, line.End)
	case "logits":
		_, err = session.Logits(line.Row)
	case "generate":
		_, err = line.Request.start(session)
	case "chat_without_template":
		_, err = session.ChatText(ctx, []finermoe.Message{{Role: "user", Content: "text"}})
	case "restore":
		bytes, decodeErr := line.hexadecimal()
		if decodeErr != nil {
			return decodeErr
		}
		err = session.RestoreBytes(bytes)
	case "batch_twice":
		err = provokeBatch(model, session)
	default:
		err = fmt.Errorf("no such action: %s", line.Do)
	}
	return err
}

func provokeBatch(model *finermoe.Model, session *finermoe.Session) error {
	batch, err := model.NewBatch()
	if err != nil {
		return err
	}
	defer batch.Close()
	for range 2 {
		generation, err := session.NewGeneration("A ship")
		if err != nil {
			return err
		}
		defer generation.Close()
		if err := batch.Add(generation); err != nil {
			return err
		}
	}
	return nil
}
