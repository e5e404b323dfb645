// Command generate goes on from a text, as it comes: generate [FLAGS] MODEL PROMPT
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"finermoe.example/finermoe"
)

func main() {
	maxTokens := flag.Int("max-tokens", 64, "most tokens to generate")
	temperature := flag.Float64("temperature", 0, "0: always the likeliest token")
	seed := flag.Uint64("seed", 0, "of the random stream")
	threads := flag.Int("threads", 0, "threads that compute; 0: as many as this process may use")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: generate [FLAGS] MODEL PROMPT")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 2 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt) // Ctrl-C ends the request
	defer stop()
	err := generate(ctx, flag.Arg(0), flag.Arg(1), finermoe.Threads(*threads), finermoe.MaxTokens(*maxTokens),
		finermoe.Temperature(*temperature), finermoe.Seed(*seed))
	if err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func generate(ctx context.Context, path, prompt string, threads finermoe.ModelOption,
	opts ...finermoe.GenerateOption) error {
	model, err := finermoe.Open(path, threads)
	if err != nil {
		return err
	}
	defer model.Close()
	session, err := model.NewSession()
	if err != nil {
		return err
	}
	defer session.Close()

	fmt.Print(prompt)
	for event, err := range session.Generate(ctx, prompt, opts...) {
		if err != nil {
			return err
		}
		fmt.Print(event.Text)
	}
	fmt.Println()
	return nil
}
