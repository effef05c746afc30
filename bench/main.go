// Command bench measures this library beside its peers, and prints one table.
//
//	go run . [-quick] [-rounds n] [-time d] [-only regexp]
//
// Each cell is the time over the bare call, which has its own column. All cells are measured in turns, many times
// and briefly, so that other load on the machine affects all of them alike. The rows are in scenarios.go, the setup of
// each peer in the file of its name.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/hoststore"
)

func main() {
	rounds := flag.Int("rounds", 101, "how often each cell is measured")
	each := flag.Duration("time", 2*time.Millisecond, "how long one measurement takes")
	quick := flag.Bool("quick", false, "one very short round: shows that it works, not how fast it is")
	only := flag.String("only", "", "measure only the rows whose name this regular expression matches")
	slog.SetDefault(slog.New(slog.DiscardHandler)) // or it would write of refusals, once a minute
	testing.Init()
	flag.Parse()
	if *quick {
		*rounds, *each = 1, time.Millisecond
	}
	if err := run(os.Stdout, *rounds, *each, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run measures the rows whose names match the regexp only, and writes the table to w.
func run(w io.Writer, rounds int, each time.Duration, only string) (err error) {
	if rounds < 1 || each <= 0 {
		return fmt.Errorf("-rounds %d, -time %v: both must be above 0", rounds, each)
	}
	match, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	server := newServer()
	defer server.Close()
	calls, err := newGRPCServer(ctx)
	if err != nil {
		return err
	}
	defer calls.close()
	dir, err := os.MkdirTemp("", "perdure-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	store := hoststore.Open(filepath.Join(dir, "cells"))
	defer store.Close()

	writeHead(w, rounds, each)
	var chosen []scenario
	for _, s := range slices.Concat(scenarios(store), httpScenarios(server), grpcScenarios(calls)) {
		if match.MatchString(s.name) {
			chosen = append(chosen, s)
		}
	}
	rows, err := measure(ctx, chosen, rounds, each)
	if err != nil {
		return err
	}
	return writeTable(w, rows)
}

// writeHead writes the versions, the machine and the method.
func writeHead(w io.Writer, rounds int, each time.Duration) {
	fmt.Fprintf(w, "%s %s/%s, GOMAXPROCS %d; median of the calmer half of %d rounds of %v,\n"+
		"± its 95 %% confidence interval; over loopback on one processor, in rounds of %v, slices of %d calls\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0), rounds, each, networkFactor*each, sliceCalls)
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return
	}
	for _, name := range libraries() {
		for _, m := range info.Deps {
			if path, ok := modules()[name]; ok && strings.HasPrefix(m.Path, path) {
				fmt.Fprintf(w, "%-11s  %s %s\n", name, m.Path, m.Version)
			}
		}
	}
	fmt.Fprintln(w)
}
