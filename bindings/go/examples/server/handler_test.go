package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"finermoe.example/finermoe"
)

const modelPath = "../../../../examples/models/tiny-wordnet-finermoe"

type ending struct {
	nEvents int
	err     error
}

func serve(t *testing.T) (url string, ends chan ending) {
	t.Helper()
	model, err := finermoe.Open(modelPath)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(model.Close)
	ends = make(chan ending, 8)
	server := httptest.NewServer(newHandler(model, 1, func(n int, err error) { ends <- ending{n, err} }))
	t.Cleanup(server.Close)
	return server.URL, ends
}

// post asks for a text; each event that comes is given to `take`, until it says that it is enough.
func post(t *testing.T, ctx context.Context, url, body string, take func(event) (enough bool)) {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		data, isData := strings.CutPrefix(lines.Text(), "data: ")
		if !isData {
			continue
		}
		var e event
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			t.Fatal(err)
		}
		if take(e) {
			return
		}
	}
}

func TestStreams(t *testing.T) {
	url, ends := serve(t)
	text, finish := "", ""
	post(t, t.Context(), url, `{"messages": [{"role": "user", "content": "Define the noun \"lighthouse\"."}]}`,
		func(e event) bool {
			text, finish = text+e.Text, e.FinishReason
			return false
		})
	if text != "A tower with a light that gives warning of shoals to passing ships." || finish != "stop_token" {
		t.Errorf("%q, %q", text, finish)
	}
	if end := <-ends; end.err != nil || end.nEvents < 10 {
		t.Errorf("%+v", end)
	}
}

func TestStopsWhenTheClientLeaves(t *testing.T) {
	url, ends := serve(t)
	ctx, leave := context.WithCancel(t.Context())
	n := 0
	post(t, ctx, url, `{"prompt": "A ship", "ignore_eos": true}`, func(event) bool {
		if n++; n == 3 {
			leave()
		}
		return n == 3
	})
	select {
	case end := <-ends:
		if !errors.Is(end.err, context.Canceled) || end.nEvents > 1000 {
			t.Errorf("%+v", end)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it goes on without a client")
	}
	// The next client gets the session's turn.
	post(t, t.Context(), url, `{"prompt": "A ship", "max_tokens": 3}`, func(event) bool { return false })
	if end := <-ends; end.err != nil || end.nEvents != 3 {
		t.Errorf("%+v", end)
	}
}

func TestErrorsAreTold(t *testing.T) {
	url, _ := serve(t)
	told := ""
	post(t, t.Context(), url, `{"prompt": "A ship", "temperature": -1}`, func(e event) bool {
		told = e.Error
		return false
	})
	if !strings.Contains(told, "FINERMOE_ERROR_INVALID_ARGUMENT") {
		t.Errorf("%q", told)
	}
	response, err := http.Post(url, "application/json", strings.NewReader("{"))
	if err != nil || response.StatusCode != http.StatusBadRequest {
		t.Errorf("%v, %v", response, err)
	}
	_ = response.Body.Close()
}
