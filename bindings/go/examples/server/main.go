// Command server streams texts over HTTP as server-sent events: server [FLAGS] MODEL
//
//	curl -N -d '{"prompt": "A ship", "max_tokens": 20}' localhost:8080/generate
//
// A request ends when its client leaves.
package main

import (
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	"finermoe.example/finermoe"
)

func main() {
	address := flag.String("address", "localhost:8080", "where to listen")
	sessions := flag.Int("sessions", 4, "requests that compute at a time; others wait")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: server [FLAGS] MODEL")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	model, err := finermoe.Open(flag.Arg(0))
	if err != nil {
		log.Fatal(err)
	}
	defer model.Close()
	mux := http.NewServeMux()
	mux.Handle("POST /generate", newHandler(model, *sessions, func(nEvents int, err error) {
		log.Printf("%d events, error: %v", nEvents, err)
	}))
	server := &http.Server{Addr: *address, Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}
