// Command batch goes on from each line of a file, many at a time, one pass over the weights for all: batch MODEL FILE
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"finermoe.example/finermoe"
)

func main() {
	maxTokens := flag.Int("max-tokens", 32, "most tokens for each prompt")
	together := flag.Int("together", 8, "most prompts at a time")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: batch [FLAGS] MODEL FILE")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 2 {
		flag.Usage()
		os.Exit(2)
	}
	if err := batch(flag.Arg(0), flag.Arg(1), *together, finermoe.MaxTokens(*maxTokens)); err != nil {
		fmt.Fprintln(os.Stderr, "batch:", err)
		os.Exit(1)
	}
}

func batch(path, file string, together int, opts ...finermoe.GenerateOption) error {
	prompts, err := readLines(file)
	if err != nil {
		return err
	}
	model, err := finermoe.Open(path)
	if err != nil {
		return err
	}
	defer model.Close()
	batch, err := model.NewBatch()
	if err != nil {
		return err
	}
	defer batch.Close()

	next := 0
	join := func() error { // the next prompt, if there is one
		if next == len(prompts) {
			return nil
		}
		next++
		return batch.AddText(prompts[next-1], uint64(next-1), opts...)
	}
	for range together {
		if err := join(); err != nil {
			return err
		}
	}
	texts := make([]strings.Builder, len(prompts))
	for event, err := range batch.Events(context.Background()) {
		if err := errors.Join(err, event.Err); err != nil {
			return err
		}
		texts[event.Tag].WriteString(event.Text)
		if event.FinishReason == finermoe.FinishNone {
			continue
		}
		fmt.Printf("%d: %s%s\n", event.Tag+1, prompts[event.Tag], texts[event.Tag].String())
		if err := join(); err != nil { // its place is free
			return err
		}
	}
	return nil
}

func readLines(path string) (lines []string, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	scanner := bufio.NewScanner(file)
	for scanner.Scan() {
		if line := strings.TrimSpace(scanner.Text()); line != "" {
			lines = append(lines, line)
		}
	}
	return lines, scanner.Err()
}
