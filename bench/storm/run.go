package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/livestorm"
	"github.com/seed-0f2c7998/perdure/sim"
)

// A spec has the settings of a process, as JSON in its arguments.
type spec struct {
	Fault     string  // name of one of sim.Storms
	Rate      float64 // operations a second; the backend is in proportion
	Duration  time.Duration
	From, To  time.Duration // of the fault
	Driver    string
	Clients   int // of each process
	Processes int
	Store     string // file of the cells that all clients share; "": each has its own
	Kill      bool   // processes are killed at random
	Reports   bool   // now and then, not only at the end
	Socket    string
	Start     time.Time
	Seed      uint64
}

// storms returns the names of the scenarios that can be played live.
func storms() (names []string) {
	for _, s := range livestorm.Storms() {
		names = append(names, s.Name)
	}
	return names
}

// scenario returns the simulated scenario without the clients' policy.
func (s spec) scenario() sim.Scenario {
	x := livestorm.At(s.Rate, livestorm.Storms()[slices.Index(storms(), s.Fault)]) // storms has named it
	x.Duration = s.Duration
	x.Faults[0].From, x.Faults[0].To = s.From, s.To
	x.Clients.Processes, x.Clients.Shared = s.Clients*s.Processes, s.Store != ""
	return x
}

// child runs one of the processes of a run, if the arguments say so.
func child(args []string) (ran bool, err error) {
	if len(args) != 3 {
		return false, nil
	}
	roles := map[string]func(context.Context, spec, io.Reader, io.Writer) error{"storm-backend": serve, "storm-load": drive}
	role, ok := roles[args[1]]
	if !ok {
		return false, nil
	}
	var s spec
	if err := json.Unmarshal([]byte(args[2]), &s); err != nil {
		return true, err
	}
	return true, role(context.Background(), s, os.Stdin, os.Stdout)
}

// A process is a running child.
type process struct {
	cmd    *exec.Cmd
	in     io.Closer
	out    *bufio.Reader
	stderr bytes.Buffer
	ended  chan struct{} // is closed when read has ended
	last   report        // of those that it has written
	err    error
}

func start(ctx context.Context, role string, s spec) (*process, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.CommandContext(ctx, self, role, string(text)), ended: make(chan struct{})}
	p.cmd.Stderr = &p.stderr
	if s.Processes > 1 {
		p.cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	}
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.in, p.out = in, bufio.NewReader(out)
	return p, p.cmd.Start()
}

// read keeps the last report that the process has written, until it ends.
func (p *process) read() {
	defer close(p.ended)
	for {
		line, err := p.out.ReadBytes('\n')
		if err != nil {
			break
		}
		var r report
		if json.Unmarshal(line, &r) == nil {
			p.last = r
		}
	}
	if err := p.cmd.Wait(); err != nil {
		p.err = fmt.Errorf("%w: %s", err, strings.TrimSpace(p.stderr.String()))
	}
}

// play plays a storm once, and returns the measurements of all its processes.
func play(ctx context.Context, s spec) (_ figures, err error) {
	dir, err := os.MkdirTemp("", "perdure-storm-")
	if err != nil {
		return figures{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.Socket, s.Start = filepath.Join(dir, "backend"), time.Now().Add(time.Second+time.Duration(s.Processes)*50*time.Millisecond)
	if s.Store != "" {
		s.Store = filepath.Join(dir, "cells")
	}
	backend, err := start(ctx, "storm-backend", s)
	if err != nil {
		return figures{}, err
	}
	if _, err := backend.out.ReadString('\n'); err != nil {
		return figures{}, fmt.Errorf("the backend: %w: %s", err, backend.stderr.String())
	}
	go backend.read()
	all, err := loads(ctx, s)
	backend.in.Close()
	<-backend.ended
	return measure(s, all, backend.last.Late), errors.Join(err, backend.err)
}

// loads runs the processes of the clients, and returns their reports together.
func loads(ctx context.Context, s spec) (all report, err error) {
	var running []*process
	begin := func(i int) (*process, error) {
		mine := s
		mine.Seed, mine.Reports = s.Seed*10_000+uint64(i), s.Kill //nolint:gosec // it is positive
		p, err := start(ctx, "storm-load", mine)
		if err == nil {
			go p.read()
		}
		return p, err
	}
	for i := range s.Processes {
		p, err := begin(i)
		if err != nil {
			return all, err
		}
		running = append(running, p)
	}
	if s.Kill {
		killed, err := killer(ctx, s, running, begin)
		if err != nil {
			return all, err
		}
		for _, p := range killed {
			all.add(p.last)
		}
	}
	for _, p := range running {
		<-p.ended
		all.add(p.last)
		err = errors.Join(err, p.err)
	}
	return all, err
}

// killer kills a process a second at a random moment, from just before the fault until it has been over for as long as it
// lasted, and starts another in its place at once. It returns the processes that it has killed.
func killer(ctx context.Context, s spec, running []*process, begin func(int) (*process, error)) (killed []*process, err error) {
	random := rand.New(rand.NewPCG(s.Seed, 5))
	from, to := s.From-500*time.Millisecond, 2*s.To-s.From
	for n, at := 0, from; at < to; n++ {
		at += time.Duration(random.ExpFloat64() * float64(time.Second))
		timer := time.NewTimer(time.Until(s.Start.Add(at)))
		select {
		case <-ctx.Done():
			return killed, ctx.Err()
		case <-timer.C:
		}
		i := random.IntN(len(running))
		if err := running[i].cmd.Process.Kill(); err != nil {
			return killed, err
		}
		<-running[i].ended
		killed = append(killed, running[i])
		if running[i], err = begin(s.Processes + n); err != nil {
			return killed, err
		}
	}
	return killed, nil
}

// all calls f with each element of list, several at a time, until one fails.
func all[T any](list []T, parallel int, f func(T) error) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	var running sync.WaitGroup
	free := make(chan struct{}, parallel)
	for _, x := range list {
		free <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		running.Go(func() {
			defer func() { <-free }()
			if err := f(x); err != nil {
				cancel(err)
			}
		})
	}
	running.Wait()
	return context.Cause(ctx)
}

// turns play storms, each again if the harness was too slow for it.
type turns struct {
	ctx      context.Context //nolint:containedctx // of all of them
	progress io.Writer

	mu   sync.Mutex // guards the cells, too
	n    int
	all  int
	seed uint64
}

func newTurns(ctx context.Context, progress io.Writer, all int) *turns {
	return &turns{ctx: ctx, progress: progress, all: all}
}

// play plays the storm of c until a run counts, three times at most.
func (t *turns) play(c *cell) error {
	for range 3 {
		t.mu.Lock()
		t.seed++
		s := c.spec
		s.Seed = t.seed
		t.mu.Unlock()
		f, err := play(t.ctx, s)
		if err != nil {
			return fmt.Errorf("%s, %s: %w", c.Fault, c.Driver, err)
		}
		t.mu.Lock()
		note := ""
		if f.valid() {
			c.Runs = append(c.Runs, f)
			t.n++
		} else {
			c.Late++
			note = "; does not count"
		}
		fmt.Fprintf(t.progress, "%d of %d: %s, %s: %.2f s lost; late %v, backend %v%s\n", t.n, t.all, c.Fault, c.Driver, f.Lost, f.Late, f.Backend, note)
		t.mu.Unlock()
		if f.valid() {
			return nil
		}
	}
	return nil
}
