package main

import (
	"context"
	"math"
	"strings"

	"finermoe.example/finermoe"
)

// withRequest opens the row's model and a session, and makes the row's request on it.
func (r *runner) withRequest(line *row, do func(*finermoe.Session, *finermoe.Generation) (results, error),
	opts ...finermoe.SessionOption) (results, error) {
	model, session, err := r.openSession(line, opts...)
	if err != nil {
		return nil, err
	}
	defer model.Close()
	defer session.Close()
	generation, err := line.start(session)
	if err != nil {
		return nil, err
	}
	defer generation.Close()
	return do(session, generation)
}

func generate(r *runner, line *row) (results, error) {
	return r.withRequest(line, func(_ *finermoe.Session, generation *finermoe.Generation) (results, error) {
		var text strings.Builder
		tokens, logprobs, top := []int32{}, []float32{}, [][]int32{}
		finish := finermoe.FinishNone
		for event, err := range generation.Events(context.Background()) {
			if err != nil {
				return nil, err
			}
			text.WriteString(event.Text)
			finish = event.FinishReason
			if event.Token < 0 {
				continue
			}
			tokens, logprobs = append(tokens, event.Token), append(logprobs, event.Logprob)
			var ids []int32
			for _, alternative := range event.Top {
				ids = append(ids, alternative.ID)
			}
			top = append(top, ids)
		}
		return results{"tokens": tokens, "text": text.String(), "finish_reason": finish.String(), "logprobs": logprobs,
			"top": top}, nil
	})
}

func generationInfo(r *runner, line *row) (results, error) {
	return r.withRequest(line, func(_ *finermoe.Session, generation *finermoe.Generation) (results, error) {
		if _, err := textToTheEnd(generation); err != nil {
			return nil, err
		}
		info, err := generation.Info()
		found := fields(info)
		found["finish_reason"] = info.FinishReason.String()
		return found, err
	})
}

func optionsInfo(r *runner, line *row) (results, error) {
	model, err := r.open(line)
	if err != nil {
		return nil, err
	}
	defer model.Close()
	opts, err := line.Options.list()
	if err != nil {
		return nil, err
	}
	options, err := model.NewGenerationOptions(opts...)
	if err != nil {
		return nil, err
	}
	defer options.Close()
	info, err := options.Info()
	return fields(info), err
}

func hook(r *runner, line *row) (results, error) {
	return r.withRequest(line, func(_ *finermoe.Session, generation *finermoe.Generation) (results, error) {
		ctx := context.Background()
		var tokens []int32
		for {
			if err := generation.Prepare(ctx); err != nil {
				return nil, err
			}
			logits, err := generation.Logits()
			if err != nil {
				return nil, err
			}
			logits[argmax(logits)] = float32(math.Inf(-1))
			if err := generation.SetLogits(logits); err != nil {
				return nil, err
			}
			event, err := generation.Next(ctx)
			if err != nil {
				return nil, err
			}
			tokens = append(tokens, event.Token)
			if event.FinishReason != finermoe.FinishNone {
				return results{"tokens": tokens}, nil
			}
		}
	})
}

func appendInTheMiddle(r *runner, line *row) (results, error) {
	return r.withRequest(line, func(_ *finermoe.Session, generation *finermoe.Generation) (results, error) {
		var text strings.Builder
		var tokens []int32
		for {
			if len(tokens) == line.After {
				if err := generation.Append(line.Insert); err != nil {
					return nil, err
				}
			}
			event, err := generation.Next(context.Background())
			if err != nil {
				return nil, err
			}
			tokens = append(tokens, event.Token)
			text.WriteString(event.Text)
			if event.FinishReason != finermoe.FinishNone {
				return results{"tokens": tokens, "text": text.String()}, nil
			}
		}
	})
}

// someText is the text of the next n events.
func someText(generation *finermoe.Generation, n int) (string, error) {
	var text strings.Builder
	for range n {
		event, err := generation.Next(context.Background())
		if err != nil {
			return "", err
		}
		text.WriteString(event.Text)
	}
	return text.String(), nil
}

func finish(r *runner, line *row) (results, error) {
	return r.withRequest(line, func(_ *finermoe.Session, generation *finermoe.Generation) (results, error) {
		text, err := someText(generation, line.After)
		if err != nil {
			return nil, err
		}
		event, err := generation.Finish()
		return results{"text": text + event.Text, "finish_reason": event.FinishReason.String()}, err
	})
}

func resume(r *runner, line *row) (results, error) {
	var savedSession, savedRequest []byte
	var text strings.Builder
	tokens := []int32{}
	take := func(event finermoe.Event) {
		text.WriteString(event.Text)
		if event.Token >= 0 {
			tokens = append(tokens, event.Token)
		}
	}
	_, err := r.withRequest(line, func(session *finermoe.Session, generation *finermoe.Generation) (results, error) {
		for range line.After {
			event, err := generation.Next(context.Background())
			if err != nil {
				return nil, err
			}
			take(event)
		}
		var err error
		if savedSession, err = session.SaveBytes(); err != nil {
			return nil, err
		}
		savedRequest, err = generation.SaveBytes()
		return nil, err
	})
	if err != nil {
		return nil, err
	}
	model, session, err := r.openSession(line)
	if err != nil {
		return nil, err
	}
	defer model.Close()
	defer session.Close()
	if err := session.RestoreBytes(savedSession); err != nil {
		return nil, err
	}
	generation, err := session.RestoreGeneration(savedRequest)
	if err != nil {
		return nil, err
	}
	defer generation.Close()
	if line.Draft != nil {
		model, n, err := draftModel(line.Draft)
		if err != nil {
			return nil, err
		}
		if err := generation.SetDraft(model, n); err != nil {
			return nil, err
		}
	}
	for event, err := range generation.Events(context.Background()) {
		if err != nil {
			return nil, err
		}
		take(event)
	}
	return results{"tokens": tokens, "text": text.String()}, nil
}

func goOn(r *runner, line *row) (results, error) {
	return r.withRequest(line, func(session *finermoe.Session, generation *finermoe.Generation) (results, error) {
		first, err := textToTheEnd(generation)
		if err != nil {
			return nil, err
		}
		more := request{Prompt: text{string: line.More}, NoSpecialTokens: true, Options: line.Options}
		second, err := more.text(session)
		return results{"texts": []string{first, second}}, err
	})
}

func sampler(_ *runner, line *row) (results, error) {
	opts, err := line.Options.list()
	if err != nil {
		return nil, err
	}
	sampler, err := finermoe.NewSampler(opts...)
	if err != nil {
		return nil, err
	}
	defer sampler.Close()
	if err := sampler.AcceptPrompt(line.Prompt.ids); err != nil {
		return nil, err
	}
	var tokens []int32
	for range line.N {
		id, err := sampler.Choose(line.Logits)
		if err != nil {
			return nil, err
		}
		if err := sampler.Accept(id); err != nil {
			return nil, err
		}
		tokens = append(tokens, id)
	}
	return results{"tokens": tokens}, nil
}
