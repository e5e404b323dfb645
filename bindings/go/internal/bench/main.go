// Command bench says what a generated token and a row of logits cost in Go, for bench/bindings.py to compare with C:
// bench MODEL N_TOKENS REPEATS
//
// It prints one line of JSON: {"seconds_per_token": [one per repeat], "seconds_per_logits_row": [...]}.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"

	"finermoe.example/finermoe"
)

type seconds struct {
	PerToken     []float64 `json:"seconds_per_token"`
	PerLogitsRow []float64 `json:"seconds_per_logits_row"`
}

func perToken(model *finermoe.Model, nTokens int) (float64, error) {
	session, err := model.NewSession()
	if err != nil {
		return 0, err
	}
	defer session.Close()
	generation, err := session.NewGeneration("A lighthouse is", finermoe.IgnoreEOS(true), finermoe.MaxTokens(nTokens))
	if err != nil {
		return 0, err
	}
	defer generation.Close()
	begin := time.Now()
	n := 0
	for _, err := range generation.Events(context.Background()) {
		if err != nil {
			return 0, err
		}
		n++
	}
	return time.Since(begin).Seconds() / float64(n), nil
}

func perLogitsRow(model *finermoe.Model) (float64, error) {
	const reads = 1000
	session, err := model.NewSession()
	if err != nil {
		return 0, err
	}
	defer session.Close()
	rows, err := session.Append(context.Background(), []int32{1}, finermoe.LogitsLast)
	if err != nil {
		return 0, err
	}
	logits := rows[0]
	begin := time.Now()
	for range reads {
		if err := session.ReadLogits(0, logits); err != nil {
			return 0, err
		}
	}
	return time.Since(begin).Seconds() / reads, nil
}

func bench(path string, nTokens, repeats int) (found seconds, err error) {
	model, err := finermoe.Open(path, finermoe.Threads(1))
	if err != nil {
		return found, err
	}
	defer model.Close()
	for range repeats {
		token, err := perToken(model, nTokens)
		if err != nil {
			return found, err
		}
		row, err := perLogitsRow(model)
		if err != nil {
			return found, err
		}
		found.PerToken, found.PerLogitsRow = append(found.PerToken, token), append(found.PerLogitsRow, row)
	}
	return found, nil
}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: bench MODEL N_TOKENS REPEATS")
		os.Exit(2)
	}
	nTokens, errTokens := strconv.Atoi(os.Args[2])
	repeats, errRepeats := strconv.Atoi(os.Args[3])
	if errTokens != nil || errRepeats != nil {
		fmt.Fprintln(os.Stderr, "bench: N_TOKENS and REPEATS are numbers")
		os.Exit(2)
	}
	found, err := bench(os.Args[1], nTokens, repeats)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(found)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}
