package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"
)

// A figure is the result of a cell: the median over its rounds.
type figure struct {
	ns, margin float64 // nanoseconds a call, and half the width of its 95 % confidence interval
	bytes      float64 // allocated by a call
	allocs     float64
}

// A sample is the result of one short run of a cell.
type sample struct{ ns, bytes, allocs float64 }

// A round is a sample of each cell of a row, taken one after the other.
type round map[library]sample

// A course is a row that is being measured: its calls, and the rounds so far.
type course struct {
	scenario
	names  []library // the columns in which it has a cell
	calls  map[library]call
	rounds []round
}

func newCourse(s scenario) *course {
	c := &course{scenario: s, calls: make(map[library]call, len(s.cells))}
	for _, name := range libraries() {
		if set, ok := s.cells[name]; ok {
			c.names = append(c.names, name)
			c.calls[name] = set(s.operation())
		}
	}
	return c
}

// measure goes through all scenarios repeatedly, a round each, so that a period in which the machine is busy affects
// a small part of every row and not all of one row.
func measure(ctx context.Context, scenarios []scenario, rounds int, each time.Duration) ([]row, error) {
	courses := make([]*course, len(scenarios))
	for i, s := range scenarios {
		courses[i] = newCourse(s)
	}
	for range rounds {
		for _, c := range courses {
			if err := c.playRound(ctx, each); err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	rows := make([]row, len(courses))
	for i, c := range courses {
		rows[i] = row{c.name, c.figures()}
	}
	return rows, nil
}

// playRound takes one sample of each cell, of about so long each.
func (c *course) playRound(ctx context.Context, each time.Duration) error {
	if c.hangUp != nil {
		return c.mingle(ctx, each)
	}
	if err := flag.Set("test.benchtime", each.String()); err != nil {
		return err
	}
	n := len(c.rounds)
	c.rounds = append(c.rounds, make(round, len(c.names)))
	for i := range c.names {
		name := c.names[(n+i)%len(c.names)] // each is the first as often as the others
		got, err := c.sample(ctx, c.calls[name])
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		c.rounds[n][name] = got
	}
	return nil
}

// figures returns the results of the calmer half of the rounds. The figure of the bare call is absolute, any other is
// the difference to the bare call of the same round.
func (c *course) figures() map[library]figure {
	calm := calmer(c.rounds)
	figures := make(map[library]figure, len(c.names))
	for _, name := range c.names {
		samples := make([]sample, len(calm))
		for i, r := range calm {
			samples[i] = r[name].over(name, r[bareCall])
		}
		figures[name] = summary(samples)
	}
	return figures
}

// calmer returns the half of the rounds in which the machine was least busy: in which all cells together were
// fastest, each relative to its own median.
func calmer(rounds []round) []round {
	slowness := make(map[*round]float64, len(rounds))
	for name := range rounds[0] {
		typical := median(rounds, func(r round) float64 { return r[name].ns })
		for i, r := range rounds {
			slowness[&rounds[i]] += r[name].ns / typical
		}
	}
	order := make([]*round, len(rounds))
	for i := range rounds {
		order[i] = &rounds[i]
	}
	slices.SortStableFunc(order, func(a, b *round) int { return cmp.Compare(slowness[a], slowness[b]) })
	calm := make([]round, (len(rounds)+1)/2)
	for i := range calm {
		calm[i] = *order[i]
	}
	return calm
}

// over returns the difference of s and floor, or s for the bare call itself.
func (s sample) over(name library, floor sample) sample {
	if name == bareCall {
		return s
	}
	return sample{s.ns - floor.ns, s.bytes - floor.bytes, s.allocs - floor.allocs}
}

// sample measures c for as long as the flag test.benchtime says.
func (s scenario) sample(ctx context.Context, c call) (sample, error) {
	var failed error
	r := testing.Benchmark(func(b *testing.B) { //nolint:thelper // the benchmark itself
		b.ReportAllocs()
		if s.parallel {
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := c(ctx); (err != nil) != s.refused {
						b.Errorf("call returned %v", err)
					}
				}
			})
			return
		}
		for b.Loop() {
			if err := c(ctx); (err != nil) != s.refused {
				failed = fmt.Errorf("call returned %w", err)
				b.FailNow()
			}
		}
	})
	if r.N == 0 {
		return sample{}, errors.Join(errors.New("failed"), failed)
	}
	n := float64(r.N)
	return sample{float64(r.T.Nanoseconds()) / n, float64(r.MemBytes) / n, float64(r.MemAllocs) / n}, nil
}

// summary returns the medians of samples, which must not be empty.
func summary(samples []sample) figure {
	ns := sorted(samples, func(s sample) float64 { return s.ns })
	return figure{
		ns:     quantile(ns, 0.5),
		margin: margin(ns),
		bytes:  median(samples, func(s sample) float64 { return s.bytes }),
		allocs: median(samples, func(s sample) float64 { return s.allocs }),
	}
}

func median[T any](samples []T, of func(T) float64) float64 {
	return quantile(sorted(samples, of), 0.5)
}

func sorted[T any](samples []T, of func(T) float64) []float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = of(s)
	}
	slices.Sort(values)
	return values
}

// margin returns half the width of the 95 % confidence interval of the median, from order statistics: it holds for any
// distribution.
func margin(values []float64) float64 {
	n := float64(len(values))
	reach := 0.98 / math.Sqrt(n) // of a quantile: 1.96 standard deviations of a binomial share of one half
	return (quantile(values, min(0.5+reach, 1)) - quantile(values, max(0.5-reach, 0))) / 2
}

// quantile returns the value below which the share q of the sorted values lies, between two of them in proportion.
func quantile(values []float64, q float64) float64 {
	at := q * float64(len(values)-1)
	i := int(at)
	if i+1 == len(values) {
		return values[i]
	}
	return values[i] + (at-float64(i))*(values[i+1]-values[i])
}

const (
	networkFactor = 10 // samples over loopback take so many times longer: their calls take as much longer
	sliceCalls    = 8
	calmSlice     = 0.25
)

// mingle makes a round of samples over loopback. The noise of the machine is larger than the measured difference, so a
// sample is made of slices of a few calls, in turns with those of the other cells and in a different order each time; the
// sample is the first quartile of its slices, since the slower half measures the machine. Client and server share one
// processor: two processors take several times the measured difference to wake each other, and that time varies. Each
// round has new connections, since some connections stay slower than others.
func (c *course) mingle(ctx context.Context, each time.Duration) error {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	c.hangUp()
	r := make(round, len(c.names))
	for _, i := range rand.Perm(len(c.names)) {
		name := c.names[i]
		c.calls[name] = c.cells[name](c.operation())
		used, err := memory(ctx, c.calls[name])
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		r[name] = used
	}
	taken := make(map[library][]float64, len(c.names))
	end := time.Now().Add(each * networkFactor * time.Duration(len(c.names)))
	for again := true; again; again = time.Now().Before(end) {
		for _, i := range rand.Perm(len(c.names)) {
			name := c.names[i]
			took, err := slice(ctx, c.calls[name])
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			taken[name] = append(taken[name], took)
		}
	}
	for name, used := range r {
		slices.Sort(taken[name])
		used.ns = quantile(taken[name], calmSlice)
		r[name] = used
	}
	c.rounds = append(c.rounds, r)
	return nil
}

// slice makes a few calls, and returns how many nanoseconds one of them took.
func slice(ctx context.Context, c call) (float64, error) {
	start := time.Now()
	for range sliceCalls {
		if err := c(ctx); err != nil {
			return 0, err
		}
	}
	return float64(time.Since(start).Nanoseconds()) / sliceCalls, nil
}

// memory returns the bytes and allocations of a call on an existing connection.
func memory(ctx context.Context, c call) (used sample, err error) {
	if _, err := slice(ctx, c); err != nil {
		return sample{}, err
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := slice(ctx, c); err != nil {
		return sample{}, err
	}
	runtime.ReadMemStats(&after)
	return sample{
		bytes:  float64(after.TotalAlloc-before.TotalAlloc) / sliceCalls,
		allocs: float64(after.Mallocs-before.Mallocs) / sliceCalls,
	}, nil
}
