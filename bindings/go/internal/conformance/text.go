package main

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"finermoe.example/finermoe"
)

// withTokenizer opens the row's model for a behaviour of its tokenizer.
func (r *runner) withTokenizer(line *row, do func(*finermoe.Tokenizer) (results, error)) (results, error) {
	model, err := r.open(line)
	if err != nil {
		return nil, err
	}
	defer model.Close()
	return do(model.Tokenizer())
}

func encode(r *runner, line *row) (results, error) {
	return r.withTokenizer(line, func(tokenizer *finermoe.Tokenizer) (results, error) {
		ids, offsets, err := tokenizer.EncodeOffsets(line.input(), line.flags()...)
		if err != nil {
			return nil, err
		}
		pairs := make([][2]int, len(offsets))
		for i, offset := range offsets {
			pairs[i] = [2]int{offset.Begin, offset.End}
		}
		count, err := tokenizer.Count(line.input(), line.flags()...)
		return results{"ids": ids, "offsets": pairs, "count": count}, err
	})
}

func encodeRepeated(r *runner, line *row) (results, error) {
	return r.withTokenizer(line, func(tokenizer *finermoe.Tokenizer) (results, error) {
		text := strings.Repeat(line.input(), line.Times)
		ids, err := tokenizer.Encode(text)
		if err != nil {
			return nil, err
		}
		decoded, err := tokenizer.Decode(ids)
		if err != nil {
			return nil, err
		}
		if decoded != text {
			return results{}, nil // which lacks everything
		}
		return results{"count": len(ids), "first": ids[:8], "last": ids[len(ids)-8:]}, nil
	})
}

func (line *row) decodeFlags() (flags []finermoe.TextFlag) {
	if line.ShowSpecial {
		flags = append(flags, finermoe.ShowSpecial)
	}
	return flags
}

func decode(r *runner, line *row) (results, error) {
	return r.withTokenizer(line, func(tokenizer *finermoe.Tokenizer) (results, error) {
		text, err := tokenizer.Decode(line.IDs, line.decodeFlags()...)
		return results{"text": text}, err
	})
}

func streamDecode(r *runner, line *row) (results, error) {
	return r.withTokenizer(line, func(tokenizer *finermoe.Tokenizer) (results, error) {
		decoder, err := tokenizer.NewDecoder(line.decodeFlags()...)
		if err != nil {
			return nil, err
		}
		defer decoder.Close()
		var pieces []string
		for _, id := range line.IDs {
			piece, err := decoder.Push(id)
			if err != nil {
				return nil, err
			}
			pieces = append(pieces, piece)
		}
		rest, err := decoder.Flush()
		return results{"pieces": append(pieces, rest)}, err
	})
}

func token(r *runner, line *row) (results, error) {
	return r.withTokenizer(line, func(tokenizer *finermoe.Tokenizer) (results, error) {
		var tokens [][2]string
		for _, id := range line.IDs {
			bytes, kind, err := tokenizer.Token(id)
			if err != nil {
				return nil, err
			}
			tokens = append(tokens, [2]string{hex.EncodeToString(bytes), kind.String()})
		}
		return results{"tokens": tokens}, nil
	})
}

func find(r *runner, line *row) (results, error) {
	var list []string
	if err := json.Unmarshal(line.Bytes, &list); err != nil {
		return nil, err
	}
	return r.withTokenizer(line, func(tokenizer *finermoe.Tokenizer) (results, error) {
		var ids []int32
		for _, digits := range list {
			bytes, err := hex.DecodeString(digits)
			if err != nil {
				return nil, err
			}
			id, found, err := tokenizer.Find(bytes)
			if err != nil {
				return nil, err
			}
			if !found {
				id = -1
			}
			ids = append(ids, id)
		}
		return results{"ids": ids}, nil
	})
}

func chatPrompt(r *runner, line *row) (results, error) {
	return r.withTokenizer(line, func(tokenizer *finermoe.Tokenizer) (results, error) {
		chat, err := finermoe.NewChat(line.Messages...)
		if err != nil {
			return nil, err
		}
		defer chat.Close()
		flags := line.flags()
		if line.NoGenerationPrompt {
			flags = append(flags, finermoe.NoGenerationPrompt)
		}
		ids, err := chat.Encode(tokenizer, flags...)
		if err != nil {
			return nil, err
		}
		text, err := chat.Render(tokenizer, flags...)
		return results{"ids": ids, "text": text}, err
	})
}

func chatEdit(_ *runner, line *row) (results, error) {
	chat, err := finermoe.NewChat()
	if err != nil {
		return nil, err
	}
	defer chat.Close()
	for _, edit := range line.Edits {
		switch edit.word(0) {
		case "add":
			err = chat.Add(edit.word(1), edit.word(2))
		case "set":
			err = chat.Set(edit.number(1), edit.word(2))
		case "truncate":
			err = chat.Truncate(edit.number(1))
		case "remove":
			err = chat.Remove(edit.number(1), edit.number(2))
		}
		if err != nil {
			return nil, err
		}
	}
	messages, err := chat.Messages()
	var pairs [][2]string
	for _, message := range messages {
		pairs = append(pairs, [2]string{message.Role, message.Content})
	}
	return results{"messages": pairs}, err
}

func tokenizerInfo(r *runner, line *row) (results, error) {
	return r.withTokenizer(line, func(tokenizer *finermoe.Tokenizer) (results, error) {
		info, err := tokenizer.Info()
		return fields(info), err
	})
}

func tokenizerMemory(r *runner, line *row) (results, error) {
	json, err := os.ReadFile(filepath.Join(r.modelPath(line), "tokenizer.json"))
	if err != nil {
		return nil, err
	}
	configJSON, err := os.ReadFile(filepath.Join(r.modelPath(line), "tokenizer_config.json"))
	if err != nil {
		return nil, err
	}
	tokenizer, err := finermoe.ParseTokenizer(json, configJSON)
	if err != nil {
		return nil, err
	}
	defer tokenizer.Close()
	ids, err := tokenizer.Encode(line.input())
	return results{"ids": ids}, err
}
