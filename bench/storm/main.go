// Command storm plays the storms of package sim live: a backend that fails, and clients with this library and with others
// that call it. It prints the lost traffic, beside the simulated figures, and fails if the two differ.
//
//	go run ./storm [-driver regexp] [-fault regexp] [-rate n] [-runs n] [-parallel n] [-clients n] [-processes n]
//	  [-shared] [-kill] [-out directory]
//
// The backend is a separate process, with workers that sleep instead of working; so are the clients. They talk over a
// socket, in a protocol of a few bytes. A run counts only if the machine was fast enough, which is measured. At a lower
// -rate the backend is smaller in proportion, and the load the same 80 %.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// settings are the flags.
type settings struct {
	driver, fault       string
	rate                float64
	runs, parallel      int
	clients, processes  int
	shared, kill        bool
	out                 string
	rest                []string // arguments that are no flags
	duration, from, end time.Duration
}

func main() {
	slog.SetDefault(slog.New(slog.DiscardHandler)) // or each transition and retry would be a line
	if ran, err := child(os.Args); ran {
		exit(err)
	}
	var s settings
	flag.StringVar(&s.driver, "driver", "", "only drivers whose name this regular `expression` matches")
	flag.StringVar(&s.fault, "fault", "", "only faults whose name this regular `expression` matches")
	flag.Float64Var(&s.rate, "rate", 1600, "operations a second; the backend is in proportion")
	flag.IntVar(&s.runs, "runs", 3, "runs of each storm, of which the median counts")
	flag.IntVar(&s.parallel, "parallel", 1, "storms at a time")
	flag.IntVar(&s.clients, "clients", 20, "clients, each with a policy of its own")
	flag.IntVar(&s.processes, "processes", 1, "processes that the clients are spread over")
	flag.BoolVar(&s.shared, "shared", false, "all clients share the state of one host file; only for drivers of this library")
	flag.BoolVar(&s.kill, "kill", false, "kill a process a second at random, and start another")
	flag.StringVar(&s.out, "out", "", "`directory` for the table, the picture (storm.svg) and all figures (storm.json)")
	flag.Parse()
	s.rest = flag.Args()
	s.duration, s.from, s.end = 22*time.Second, 4*time.Second, 9*time.Second
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	exit(run(ctx, os.Stdout, os.Stderr, s))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "storm:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// run plays all storms, and writes the table to w and its progress to progress.
func run(ctx context.Context, w, progress io.Writer, s settings) error {
	cells, err := s.cells()
	if err != nil {
		return err
	}
	var list []*cell
	for range s.runs {
		list = append(list, cells...)
	}
	fmt.Fprintf(progress, "%d storms, about %v\n", len(list),
		(time.Duration(len(list)/s.parallel+1) * (s.duration + 4*time.Second)).Round(time.Minute))
	n := newTurns(ctx, progress, len(list))
	if err := all(list, s.parallel, n.play); err != nil {
		return err
	}
	if err := all(cells, runtime.NumCPU(), func(c *cell) error { return c.simulate(ctx) }); err != nil {
		return err
	}
	var table strings.Builder
	fmt.Fprintf(&table, "%s %s/%s, %d processors; %.0f operations a second for %v, the fault from %v to %v; median of %d runs\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), s.rate, s.duration, s.from, s.end, s.runs)
	writeTables(&table, cells)
	if _, err := io.WriteString(w, table.String()); err != nil {
		return err
	}
	if err := s.save(table.String(), cells); err != nil {
		return err
	}
	if bad := check(cells); bad != nil {
		return errors.New("live and simulated do not agree, or the machine was too slow:\n" + strings.Join(bad, "\n"))
	}
	return nil
}

// cells returns the chosen drivers in the chosen faults.
func (s settings) cells() (cells []*cell, err error) {
	driver, err := regexp.Compile(s.driver)
	if err != nil {
		return nil, fmt.Errorf("-driver: %w", err)
	}
	fault, err := regexp.Compile(s.fault)
	if err != nil {
		return nil, fmt.Errorf("-fault: %w", err)
	}
	one, err := s.spec()
	if err != nil {
		return nil, err
	}
	for _, f := range storms() {
		for _, d := range drivers() {
			if fault.MatchString(f) && driver.MatchString(d.name) && (d.ours || !s.shared) {
				one.Fault, one.Driver = f, d.name
				cells = append(cells, &cell{Driver: d.name, Fault: f, spec: one, twin: d.twin})
			}
		}
	}
	if len(cells) == 0 {
		return nil, fmt.Errorf("-driver %q and -fault %q match nothing; faults: %q", s.driver, s.fault, storms())
	}
	return cells, nil
}

// spec returns the settings that all storms share.
func (s settings) spec() (spec, error) {
	one := spec{Rate: s.rate, Duration: s.duration, From: s.from, To: s.end, Processes: s.processes, Kill: s.kill}
	switch {
	case len(s.rest) > 0:
		return one, fmt.Errorf("%q: must be flags", s.rest)
	case !(s.rate >= 40 && s.rate <= 100_000): // NaN neither
		return one, fmt.Errorf("-rate %v: must be 40 to 100000: one worker is 80 %% busy at 40", s.rate)
	case s.runs < 1 || s.parallel < 1:
		return one, fmt.Errorf("-runs %d, -parallel %d: must be above 0", s.runs, s.parallel)
	case s.processes < 1 || s.clients < 1 || s.clients%s.processes != 0:
		return one, fmt.Errorf("-clients %d, -processes %d: must be above 0, and as many clients in each process", s.clients, s.processes)
	case s.kill && s.processes < 2:
		return one, fmt.Errorf("-kill: -processes %d must be above 1", s.processes)
	}
	one.Clients = s.clients / s.processes
	if s.shared {
		one.Store = "shared" // play puts it in its own directory
	}
	return one, nil
}

// save writes the files.
func (s settings) save(table string, cells []*cell) error {
	if s.out == "" {
		return nil
	}
	for _, c := range cells {
		for i := range c.Runs {
			if c.Runs[i].Lost != c.median().Lost {
				c.Runs[i].Steps = nil // a megabyte and more
			}
		}
	}
	text, err := json.Marshal(cells)
	if err != nil {
		return err
	}
	picture, err := draw(cells)
	if err != nil {
		return err
	}
	write := func(name, text string) error {
		return os.WriteFile(filepath.Join(s.out, name), []byte(text), 0o644) //nolint:gosec // figures are no secret
	}
	return errors.Join(os.MkdirAll(s.out, 0o755), write("storm.md", table), write("storm.svg", picture), write("storm.json", string(text))) //nolint:gosec // as above
}
