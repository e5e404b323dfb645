// Command upcycle makes a Mixture-of-Experts model from a dense one: upcycle [FLAGS] DENSE OUT
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"github.com/schollz/progressbar/v3"

	"finermoe.example/finermoe"
)

func main() {
	preset := flag.String("preset", "finermoe", "what to begin with")
	granularity := flag.Int("g-i", 0, "granularity G_I of the intermediate dimension; 0: the preset's")
	seed := flag.Uint64("seed", 0, "of every random draw")
	overwrite := flag.Bool("overwrite", false, "replace a model that is there")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: upcycle [FLAGS] DENSE OUT")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 2 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt) // Ctrl-C leaves no file behind
	defer stop()
	err := finermoe.Upcycle(ctx, flag.Arg(0), flag.Arg(1), finermoe.Preset(*preset),
		finermoe.GranularityInter(*granularity), finermoe.Seed(*seed),
		finermoe.Overwrite(*overwrite), finermoe.Progress(bars()))
	if err != nil {
		fmt.Fprintln(os.Stderr, "upcycle:", err)
		os.Exit(1)
	}
}

// bars shows a bar for each phase.
func bars() finermoe.ProgressFunc {
	var bar *progressbar.ProgressBar
	shown := ""
	return func(phase string, done, total uint64) error {
		if phase != shown {
			bar, shown = progressbar.DefaultBytes(int64(total), phase), phase
		}
		return bar.Set64(int64(done))
	}
}
