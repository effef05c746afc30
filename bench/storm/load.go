package main

import (
	"context"
	"encoding/json"
	"io"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/seed-0f2c7998/perdure/hoststore"
	"github.com/seed-0f2c7998/perdure/internal/livestorm"
	"github.com/seed-0f2c7998/perdure/sim"
)

// counts has the events of a step, as sim.Counts, and how many of the operations that arrived in it have ended and
// failed.
type counts struct {
	Arrived, Attempts, Succeeded, Failed int
	Worked, Wasted                       time.Duration
	Ended, Lost                          int
}

// A report has the measurements of a process so far.
type report struct {
	Steps   []counts  `json:",omitempty"`
	Lost    int       // operations that arrived from the fault's beginning on, and failed
	Latency histogram // of operations that succeeded
	Late    histogram // how much later than they should things happened that a timer had to start
}

func write(w io.Writer, r report) error { return json.NewEncoder(w).Encode(r) }

// add adds the report of another process.
func (r *report) add(o report) {
	for len(r.Steps) < len(o.Steps) {
		r.Steps = append(r.Steps, counts{})
	}
	for i, c := range o.Steps {
		s := &r.Steps[i]
		s.Arrived += c.Arrived
		s.Attempts += c.Attempts
		s.Succeeded += c.Succeeded
		s.Failed += c.Failed
		s.Worked += c.Worked
		s.Wasted += c.Wasted
		s.Ended += c.Ended
		s.Lost += c.Lost
	}
	r.Latency.merge(o.Latency)
	r.Late.merge(o.Late)
}

// A histogram counts times in buckets of Unit, up to 5,000 of them.
type histogram struct {
	Unit   time.Duration
	Counts []int `json:",omitempty"`
}

func newHistogram(unit time.Duration) histogram { return histogram{Unit: unit} }

func (h *histogram) add(d time.Duration) {
	i := int(min(max(d, 0)/h.Unit, 4999))
	h.grow(i + 1)
	h.Counts[i]++
}

func (h *histogram) grow(n int) {
	if n > len(h.Counts) {
		h.Counts = append(h.Counts, make([]int, n-len(h.Counts))...)
	}
}

func (h *histogram) merge(o histogram) {
	h.Unit = o.Unit
	h.grow(len(o.Counts))
	for i, n := range o.Counts {
		h.Counts[i] += n
	}
}

// percentile returns the upper bound of its bucket, 0 without times.
func (h *histogram) percentile(p float64) time.Duration {
	all := 0
	for _, n := range h.Counts {
		all += n
	}
	left := int(math.Ceil(p * float64(all)))
	for i, n := range h.Counts {
		if left -= n; n > 0 && left <= 0 {
			return time.Duration(i+1) * h.Unit
		}
	}
	return 0
}

// serve runs a backend until in ends, and then writes to out how late its timers were.
func serve(_ context.Context, s spec, in io.Reader, out io.Writer) error {
	late := newHistogram(time.Millisecond)
	b, err := livestorm.Start(s.scenario(), s.Start, s.Socket, s.Seed, late.add)
	if err != nil {
		return err
	}
	_, _ = io.WriteString(out, "ready\n")
	_, _ = io.Copy(io.Discard, in)
	b.Close()
	return write(out, report{Late: late})
}

// A load is a process with clients and arriving operations.
type load struct {
	spec spec

	mu     sync.Mutex
	report report // guarded by mu
}

// drive runs a load until in ends. It writes its report to out when all operations have ended, and if the spec says so
// also each 100 ms, since the process may be killed.
func drive(ctx context.Context, s spec, in io.Reader, out io.Writer) error {
	d, err := driverNamed(s.Driver)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()
	l := &load{spec: s}
	l.report.Late, l.report.Latency = newHistogram(time.Millisecond), newHistogram(5*time.Millisecond)
	if s.Reports {
		go l.reportEach(ctx, 100*time.Millisecond, out)
	}
	clients, end, err := l.clients(d)
	if err != nil {
		return err
	}
	l.run(ctx, clients)
	end()
	l.mu.Lock()
	defer l.mu.Unlock()
	return write(out, l.report)
}

// clients returns the clients, each with its own policy.
func (l *load) clients(d driver) (clients []operation, end func(), err error) {
	e := env{}
	end = func() {}
	if l.spec.Store != "" {
		store := hoststore.Open(l.spec.Store)
		if err := store.Err(); err != nil {
			return nil, end, err
		}
		e.store, end = store, store.Close
	}
	for range l.spec.Clients {
		to := &livestorm.Link{Socket: l.spec.Socket, Worked: l.worked}
		e.attempt = func(ctx context.Context) error {
			l.count(func(c *counts) { c.Attempts++ })
			return to.Do(ctx)
		}
		clients = append(clients, d.new(e))
	}
	return clients, end, nil
}

// run lets operations arrive, each at a random client, and waits for them.
func (l *load) run(ctx context.Context, clients []operation) {
	s := l.spec.scenario()
	s.Load.Rate /= float64(l.spec.Processes)
	livestorm.Arrive(ctx, s, l.spec.Start, l.spec.Seed, func(ctx context.Context, arrived, late time.Duration) {
		l.mu.Lock()
		l.at(arrived).Arrived++
		l.report.Late.add(late)
		l.mu.Unlock()
		l.ended(arrived, clients[rand.IntN(len(clients))](ctx))
	})
}

// count changes the figures of the present step.
func (l *load) count(f func(*counts)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(l.at(time.Since(l.spec.Start)))
}

// at returns the figures of an instant. l.mu is locked.
func (l *load) at(t time.Duration) *counts {
	i := int(max(0, t) / sim.Step)
	for len(l.report.Steps) <= i {
		l.report.Steps = append(l.report.Steps, counts{})
	}
	return &l.report.Steps[i]
}

func (l *load) ended(arrived time.Duration, err error) {
	took := time.Since(l.spec.Start) - arrived
	l.count(func(now *counts) {
		then := l.at(arrived)
		then.Ended++
		if err != nil {
			now.Failed++
			then.Lost++
			return
		}
		now.Succeeded++
		l.report.Latency.add(took)
	})
}

func (l *load) worked(took time.Duration, wasted bool) {
	l.count(func(c *counts) {
		c.Worked += took
		if wasted {
			c.Wasted += took
		}
	})
}

func (l *load) reportEach(ctx context.Context, d time.Duration, out io.Writer) {
	ticker := time.NewTicker(d)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		l.mu.Lock()
		_ = write(out, l.report)
		l.mu.Unlock()
	}
}
