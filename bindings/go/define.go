// define asks a FineRMoE model for the definition of a word: define MODEL.
package main

import (
	"errors"
	"fmt"
	"os"

	fm "finermoe.example/finermoe"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func code(err error) string {
	var failed *fm.Error
	if !errors.As(err, &failed) {
		return "none"
	}
	return fm.StatusName(failed.Code)
}

func main() {
	var model fm.Model
	var session fm.Session
	var tokenizer fm.Tokenizer
	var chat fm.Chat
	var ids []int32
	var generation, request fm.Generation
	var cancel fm.Cancel
	event := fm.NewEvent()

	check(fm.ModelOpen(os.Args[1], nil, &model))
	check(fm.SessionCreate(model, nil, &session))
	check(fm.ChatCreate(&chat))
	check(fm.ChatAdd(chat, "user", "Define the noun \"lighthouse\"."))
	check(fm.TokenizerOpenModel(model, &tokenizer))
	check(fm.ChatEncode(chat, tokenizer, uint(fm.TEXT_DEFAULT), &ids))
	check(fm.GenerationCreate(session, nil, ids, &generation))
	for event.GetFinishReason() == fm.FINISH_NONE {
		check(fm.GenerationNext(generation, nil, event))
		fmt.Print(event.GetText())
	}
	fmt.Println()

	var missing fm.Model
	fmt.Println("error", code(fm.ModelOpen("/no/such/model", nil, &missing)))

	check(fm.CancelCreate(&cancel))
	fm.CancelRequest(cancel)
	check(fm.SessionReset(session))
	check(fm.GenerationCreateChat(session, nil, chat, 0, &request))
	fmt.Println("cancelled", code(fm.GenerationNext(request, cancel, event)))

	fm.ModelClose(model)
	fm.DeleteModel(model) // any order will do
	fm.DeleteSession(session)
	fm.DeleteChat(chat)
	fm.DeleteTokenizer(tokenizer)
	fm.DeleteGeneration(generation)
	fm.DeleteGeneration(request)
	fm.DeleteCancel(cancel)
	fm.DeleteEvent(event)
	fmt.Println("closed")
}
