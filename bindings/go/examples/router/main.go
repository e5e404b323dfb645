// Command router shows which experts each token of a text goes to, and with what weights: router MODEL TEXT
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"text/tabwriter"

	"finermoe.example/finermoe"
)

func main() {
	flag.Usage = func() { fmt.Fprintln(os.Stderr, "usage: router MODEL TEXT") }
	flag.Parse()
	if flag.NArg() != 2 {
		flag.Usage()
		os.Exit(2)
	}
	if err := router(flag.Arg(0), flag.Arg(1)); err != nil {
		fmt.Fprintln(os.Stderr, "router:", err)
		os.Exit(1)
	}
}

func router(path, text string) error {
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
	trace, err := model.NewTrace(finermoe.TraceRoutes | finermoe.TraceUsage)
	if err != nil {
		return err
	}
	defer trace.Close()
	if err := session.SetTrace(trace); err != nil {
		return err
	}
	ids, err := model.Tokenizer().Encode(text)
	if err != nil {
		return err
	}
	if _, err := session.Append(context.Background(), ids, finermoe.LogitsNone); err != nil {
		return err
	}
	return print(model.Tokenizer(), ids, trace)
}

// print writes a row for each token and a column for each layer, and the balance of the layers below.
func print(tokenizer *finermoe.Tokenizer, ids []int32, trace *finermoe.Trace) error {
	layers, err := trace.Layers()
	if err != nil {
		return err
	}
	experts := make([][][]int32, len(layers))   // [layer][token][k]
	weights := make([][][]float32, len(layers)) // the same
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprint(table, "token")
	for i, layer := range layers {
		if experts[i], err = trace.Experts(i); err != nil {
			return err
		}
		if weights[i], err = trace.Weights(i); err != nil {
			return err
		}
		_, _ = fmt.Fprintf(table, "\tlayer %d", layer)
	}
	for row, id := range ids {
		token, _, err := tokenizer.Token(id)
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(table, "\n%q", token)
		for i := range layers {
			_, _ = fmt.Fprint(table, "\t")
			for k, expert := range experts[i][row] {
				_, _ = fmt.Fprintf(table, "%d (%.2f) ", expert, weights[i][row][k])
			}
		}
	}
	_, _ = fmt.Fprint(table, "\nbalance loss")
	for i := range layers {
		loss, err := trace.BalanceLoss(i)
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(table, "\t%.3f", loss)
	}
	_, _ = fmt.Fprintln(table)
	return table.Flush()
}
