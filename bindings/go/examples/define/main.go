// Command define says what a word means, as the answer comes: define MODEL WORD
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"finermoe.example/finermoe"
)

func main() {
	flag.Usage = func() { fmt.Fprintln(os.Stderr, "usage: define MODEL WORD") }
	flag.Parse()
	if flag.NArg() != 2 {
		flag.Usage()
		os.Exit(2)
	}
	question := fmt.Sprintf("Define the noun %q.", flag.Arg(1))
	if err := define(context.Background(), flag.Arg(0), question); err != nil {
		fmt.Fprintln(os.Stderr, "define:", err)
		os.Exit(1)
	}
}

func define(ctx context.Context, path, question string) error {
	model, err := finermoe.Open(path)
	if err != nil {
		return err
	}
	defer model.Close()
	session, err := model.NewSession()
	if err != nil {
		return err
	}
	defer session.Close()
	for event, err := range session.Chat(ctx, []finermoe.Message{{Role: "user", Content: question}}) {
		if err != nil {
			return err
		}
		fmt.Print(event.Text)
	}
	fmt.Println()
	return nil
}
