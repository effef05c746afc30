package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"
)

const (
	networkFactor = 10 // samples over loopback take so many times longer: their calls take as much longer
	sliceCalls    = 8
)

// mingle makes a round of samples over loopback. What the machine does meanwhile costs more than what is looked for, so
// a sample is made of slices of a few calls, in turn with those of the other cells and in another order each time, and
// the median slice counts. Client and server take turns on one processor: how two of them wake each other costs several
// times what is looked for, and never twice the same. Each round has new connections, for some stay slower than others.
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
	slices := make(map[library][]float64, len(c.names))
	end := time.Now().Add(each * networkFactor * time.Duration(len(c.names)))
	for again := true; again; again = time.Now().Before(end) {
		for _, i := range rand.Perm(len(c.names)) {
			name := c.names[i]
			took, err := slice(ctx, c.calls[name])
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			slices[name] = append(slices[name], took)
		}
	}
	for name, used := range r {
		used.ns = median(slices[name], func(ns float64) float64 { return ns })
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

// memory returns what a call allocates, once it is connected.
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
