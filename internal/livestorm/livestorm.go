// Package livestorm plays the storms of package sim live: a [Backend] that fails, a [Link] to it, and operations that
// [Arrive].
package livestorm

import (
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/seed-0f2c7998/perdure/sim"
)

// Storms returns those of sim.Storms that a Backend can play: those with one fault.
func Storms() (all []sim.Scenario) {
	for _, s := range sim.Storms() {
		if len(s.Faults) == 1 {
			all = append(all, s)
		}
	}
	return all
}

// At returns s at another rate of operations, with a backend in proportion.
func At(rate float64, s sim.Scenario) sim.Scenario {
	scale := rate / s.Load.Rate
	s.Backend.Workers = int(math.Round(scale * float64(s.Backend.Workers)))
	s.Backend.Queue = int(math.Round(scale * float64(s.Backend.Queue)))
	s.Load.Rate = rate
	return s
}

// Arrive calls do with each operation of s, at random instants from start on, until s ends or ctx is done, and waits for
// the calls. Each has a goroutine of its own, and a context with the deadline of the clients. arrived is since start, and
// late how much later than it should the operation arrived.
func Arrive(ctx context.Context, s sim.Scenario, start time.Time, seed uint64, do func(ctx context.Context, arrived, late time.Duration)) {
	random := rand.New(rand.NewPCG(seed, 3))
	var running sync.WaitGroup
	defer running.Wait()
	timer := time.NewTimer(time.Until(start))
	defer timer.Stop()
	at := max(0, time.Since(start)) // a process that takes the place of a killed one begins late
	for {
		at += time.Duration(random.ExpFloat64() / s.Load.Rate * float64(time.Second))
		if at >= s.Duration {
			return
		}
		if left := time.Until(start.Add(at)); left > 0 {
			timer.Reset(left)
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
		}
		arrived := time.Since(start)
		late := arrived - at
		running.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, s.Clients.Deadline)
			defer cancel()
			do(ctx, arrived, late)
		})
	}
}
