// Command chat answers line by line, and remembers what was said: chat [FLAGS] MODEL
//
// Ctrl-C stops an answer, or ends the program where none is being given; so does the end of the input.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"finermoe.example/finermoe"
)

func main() {
	system := flag.String("system", "", "a message that tells the model how to answer")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: chat [FLAGS] MODEL")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := chat(flag.Arg(0), *system); err != nil {
		fmt.Fprintln(os.Stderr, "chat:", err)
		os.Exit(1)
	}
}

func chat(path, system string) error {
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

	var messages []finermoe.Message
	if system != "" {
		messages = append(messages, finermoe.Message{Role: "system", Content: system})
	}
	lines := bufio.NewScanner(os.Stdin)
	for fmt.Print("> "); lines.Scan(); fmt.Print("> ") {
		messages = append(messages, finermoe.Message{Role: "user", Content: lines.Text()})
		answer, err := answer(session, messages)
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
		messages = append(messages, finermoe.Message{Role: "assistant", Content: answer})
	}
	fmt.Println()
	return lines.Err()
}

// answer prints the next message as it comes. What the session holds of the conversation is not computed again.
func answer(session *finermoe.Session, messages []finermoe.Message) (string, error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var text strings.Builder
	defer fmt.Println()
	for event, err := range session.Chat(ctx, messages) {
		if err != nil {
			return text.String(), err
		}
		fmt.Print(event.Text)
		text.WriteString(event.Text)
	}
	return text.String(), nil
}
