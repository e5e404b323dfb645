package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"finermoe.example/finermoe"
)

// request is the body of POST /generate.
type request struct {
	Prompt      string             `json:"prompt"`
	Messages    []finermoe.Message `json:"messages"` // instead of a prompt
	MaxTokens   int                `json:"max_tokens"`
	Temperature float64            `json:"temperature"`
	Seed        uint64             `json:"seed"`
	IgnoreEOS   bool               `json:"ignore_eos"`
}

// event is the data of one server-sent event.
type event struct {
	Text         string `json:"text"`
	FinishReason string `json:"finish_reason,omitempty"`
	Error        string `json:"error,omitempty"`
}

// handler streams texts of a model.
type handler struct {
	model *finermoe.Model
	turns chan struct{}                // as many as requests may compute at a time
	ended func(nEvents int, err error) // hears how each request ended
}

func newHandler(model *finermoe.Model, nSessions int, ended func(int, error)) *handler {
	return &handler{model, make(chan struct{}, nSessions), ended}
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var asked request
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&asked); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	n, err := h.stream(r.Context(), &asked, func(e event) error { return send(w, e) })
	if err != nil && r.Context().Err() == nil { // the client is still there
		_ = send(w, event{Error: err.Error()})
	}
	h.ended(n, err)
}

// stream sends the events of a request until it ends, or the context does because the client has left.
func (h *handler) stream(ctx context.Context, asked *request, send func(event) error) (nEvents int, err error) {
	select {
	case h.turns <- struct{}{}:
		defer func() { <-h.turns }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	session, err := h.model.NewSession()
	if err != nil {
		return 0, err
	}
	defer session.Close()
	opts := []finermoe.GenerateOption{finermoe.MaxTokens(asked.MaxTokens), finermoe.Temperature(asked.Temperature),
		finermoe.Seed(asked.Seed), finermoe.IgnoreEOS(asked.IgnoreEOS)}
	events := session.Generate(ctx, asked.Prompt, opts...)
	if asked.Messages != nil {
		events = session.Chat(ctx, asked.Messages, opts...)
	}
	for made, err := range events {
		if err != nil {
			return nEvents, err
		}
		nEvents++
		e := event{Text: made.Text}
		if made.FinishReason != finermoe.FinishNone {
			e.FinishReason = made.FinishReason.String()
		}
		if e == (event{}) {
			continue // a token that completes no character
		}
		if err := send(e); err != nil {
			return nEvents, err
		}
	}
	return nEvents, nil
}

// send writes one server-sent event, at once.
func send(w http.ResponseWriter, e event) error {
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "data: %s\n\n", data); err != nil {
		return err
	}
	return http.NewResponseController(w).Flush()
}
