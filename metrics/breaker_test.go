package metrics_test

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/metrics"
	"github.com/seed-0f2c7998/perdure/retry"
)

func silent(context.Context, circuit.Transition) {}

// openSeconds returns perdure_breaker_open_seconds_total of b.
func openSeconds(b *circuit.Breaker) float64 {
	var r metrics.Registry
	r.Watch(b)
	return values(r.Snapshot(), "perdure_breaker_open")["perdure_breaker_open_seconds_total "+b.Name()]
}

// The open seconds grow while the breaker is open, and only then: not while it waits, half
// open, for a call that probes it, and not while it is isolated.
func TestOpenSeconds(t *testing.T) {
	for _, store := range []circuit.Store{nil, new(circuit.Memory)} {
		synctest.Test(t, func(t *testing.T) {
			b := circuit.New("b", circuit.Config{FailureThreshold: 2, RecoveryTimeout: 30 * time.Second, Observe: silent, Store: store})
			fail := func() {
				_ = b.Do(t.Context(), func(context.Context) error { return errDown })
			}
			for i, step := range []struct {
				do   func()
				wait time.Duration
				want float64
			}{
				{func() {}, time.Hour, 0},
				{func() { fail(); fail() }, 10 * time.Second, 10},
				{fail, 10 * time.Second, 20}, // refused
				{func() {}, time.Hour, 30},   // half open from 30 s on
				{fail, 10 * time.Second, 40}, // a probe that fails
				{b.Reset, time.Hour, 40},
				{b.Trip, 5 * time.Second, 45},
				{b.Isolate, time.Hour, 45},
				{b.Reset, time.Hour, 45},
				{func() { fail(); fail() }, 0, 45},
				{func() {}, 45 * time.Second, 75},
				{func() { _ = b.Do(t.Context(), func(context.Context) error { return nil }) }, time.Hour, 75},
			} {
				step.do()
				<-time.After(step.wait)
				if got := openSeconds(b); got < step.want-0.01 || got > step.want+0.01 {
					t.Errorf("after step %d: %v s, want %v", i, got, step.want)
				}
			}
		})
	}
}

// With a gate, the open seconds are the time in which it is limited.
func TestOpenSecondsOfAGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := circuit.New("gate", circuit.Config{Gate: circuit.FailFast, Observe: silent})
		fail := func(err error) {
			_ = b.Do(t.Context(), func(context.Context) error { return err })
		}
		for range 20 {
			fail(nil)
		}
		for range 10 {
			fail(retry.Transient(errDown))
		}
		limited := time.Now()
		var r metrics.Registry
		r.Watch(b)
		for range 100 {
			<-time.After(50 * time.Millisecond)
			fail(retry.Transient(errDown))
		}
		got := values(r.Snapshot(), "perdure_")
		if took := time.Since(limited).Seconds(); got["perdure_breaker_open_seconds_total gate"] != took || got["perdure_gate_limited gate"] != 1 {
			t.Errorf("after %v s at a gate that is limited: %v", took, got)
		}
		if got["perdure_breaker_refusals_total gate gate"] == 0 {
			t.Errorf("no refusals by the gate: %v", got)
		}
		b.Reset()
		before := openSeconds(b)
		<-time.After(time.Hour)
		if got := openSeconds(b); got != before || before == 0 {
			t.Errorf("%v s when the limit is lifted, then %v", before, got)
		}
	})
}

// A breaker is always four series of state, of which one is 1; its refusals have a reason.
func TestStatesAndRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r metrics.Registry
		b := circuit.New("b", circuit.Config{RecoveryTimeout: time.Minute, Observe: silent})
		limit := circuit.New("limit", circuit.Config{Rate: 0.01, Burst: 1})
		r.Watch(b, limit, nil)
		refuse := func(b *circuit.Breaker) {
			if _, err := b.Acquire(); err == nil {
				t.Error("the call is admitted")
			}
		}
		state := func(want string) {
			t.Helper()
			n := 0
			for _, f := range r.Snapshot().Families {
				for _, s := range f.Samples {
					if f.Name != "perdure_breaker_state" || s.Labels[0].Value != "b" {
						continue
					}
					n++
					if is := s.Labels[1].Value; (s.Value == 1) != (is == want) {
						t.Errorf("%s is %v, want the state %s", is, s.Value, want)
					}
				}
			}
			if n != 4 {
				t.Errorf("%d series of state, want 4", n)
			}
		}
		state("closed")
		b.Trip()
		state("open")
		refuse(b)
		<-time.After(time.Hour)
		state("half-open")
		if _, err := b.Acquire(); err != nil {
			t.Fatal(err)
		}
		refuse(b)
		refuse(b)
		b.Isolate()
		state("isolated")
		refuse(b)
		b.Reset()
		for range 5 {
			p, err := b.Acquire()
			if err != nil {
				t.Fatal(err)
			}
			p.Throttled(time.Hour)
		}
		refuse(b)
		for range 2 {
			_, _ = limit.Acquire()
		}
		want := map[string]float64{
			"perdure_breaker_refusals_total b open": 1, "perdure_breaker_refusals_total b half-open": 2, "perdure_breaker_refusals_total b isolated": 1,
			"perdure_breaker_refusals_total b not-before": 1, "perdure_breaker_refusals_total limit limit": 1,
		}
		if got := values(r.Snapshot(), "perdure_breaker_refusals"); !maps.Equal(got, want) {
			t.Errorf("refusals %v, want %v", got, want)
		}
	})
}

// A wait at a gate counts for the operation, and for the breaker.
func TestWaitsAtAGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r metrics.Registry
		var down atomic.Bool
		down.Store(true)
		service := func(context.Context) error {
			<-time.After(10 * time.Millisecond)
			if down.Load() {
				return retry.Transient(errDown)
			}
			return nil
		}
		p := retry.Policy{Name: "load", MaxAttempts: 20, Metrics: &r, Observe: func(context.Context, retry.Event) {}}
		p.Breaker = circuit.New("lake", circuit.Config{Gate: circuit.Wait, Observe: silent})
		time.AfterFunc(40*time.Second, func() { down.Store(false) })
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				for down.Load() {
					_ = retry.Do(t.Context(), &p, service)
				}
			})
		}
		all.Wait()
		got := values(r.Snapshot(), "perdure_")
		waited, byBreaker := got["perdure_wait_seconds_total load lake gate"], got["perdure_breaker_wait_seconds_total lake"]
		if waited == 0 || waited < byBreaker-1e-6 || waited > byBreaker+1e-6 {
			t.Errorf("waits at the gate of %v s, and by the breaker %v s", waited, byBreaker)
		}
	})
}
