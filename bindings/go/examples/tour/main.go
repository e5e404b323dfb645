// Command tour shows the usual calls, one after the other: tour MODEL
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"finermoe.example/finermoe"
)

func tour(ctx context.Context, path string) error {
	model, err := finermoe.Open(path, finermoe.Threads(2))
	if err != nil {
		return err
	}
	defer model.Close()
	session, err := model.NewSession(finermoe.ContextLength(512))
	if err != nil {
		return err
	}
	defer session.Close()

	for event, err := range session.Generate(ctx, "A ship", finermoe.MaxTokens(20),
		finermoe.Temperature(0.8), finermoe.Seed(7)) {
		if err != nil {
			return err // errors.Is(err, finermoe.ErrContextLength); ctx.Err() when the context ended it
		}
		fmt.Print(event.Text)
	}
	fmt.Println()

	answer, err := session.ChatText(ctx, []finermoe.Message{{Role: "user", Content: `Define the noun "compass".`}})
	if err != nil {
		return err
	}
	fmt.Println(answer)

	ids, err := model.Tokenizer().Encode("A ship")
	if err != nil {
		return err
	}
	logits, err := session.Append(ctx, ids, finermoe.LogitsAll) // [][]float32
	if err != nil {
		return err
	}
	fmt.Println(len(logits), "rows of", len(logits[0]), "logits")
	return nil
}

func main() {
	flag.Usage = func() { fmt.Fprintln(os.Stderr, "usage: tour MODEL") }
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := tour(context.Background(), flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "tour:", err)
		os.Exit(1)
	}
}
