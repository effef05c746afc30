package retry_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
)

// pause blocks for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// A service takes 20 ms for a call, and has a state that a test sets.
type service struct {
	ill      atomic.Pointer[func(context.Context) error] // what it does instead
	attempts atomic.Int64
}

func (s *service) call(ctx context.Context) error {
	s.attempts.Add(1)
	if ill := s.ill.Load(); ill != nil {
		return (*ill)(ctx)
	}
	return pause(ctx, 20*time.Millisecond)
}

func (s *service) set(ill func(context.Context) error) {
	if s.ill.Store(nil); ill != nil {
		s.ill.Store(&ill)
	}
}

func down(context.Context) error { return retry.Transient(errors.New("503")) }

func busy(context.Context) error { return retry.After(errors.New("429"), 0) }

func black(ctx context.Context) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

// A fleet is the callers of a service.
type fleet struct {
	policy   retry.Policy
	deadline time.Duration
	service  service
	calls    sync.WaitGroup
	lost     atomic.Int64
	last     atomic.Pointer[error]             // that a caller got
	refused  atomic.Pointer[circuit.OpenError] // the last of the gate's
}

// run makes 200 calls a second for d.
func (f *fleet) run(ctx context.Context, d time.Duration) {
	between := 5 * time.Millisecond
	for range int(d / between) {
		f.calls.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, f.deadline)
			defer cancel()
			if err := retry.Do(ctx, &f.policy, f.service.call); err != nil {
				f.lost.Add(1)
				f.last.Store(&err)
				if open, ok := errors.AsType[*circuit.OpenError](err); ok {
					f.refused.Store(open)
				}
			}
		})
		_ = pause(ctx, between)
	}
}

// gated returns a fleet whose breaker has a gate of that mode.
func gated(mode circuit.GateMode) *fleet {
	return &fleet{deadline: 3 * time.Second, policy: retry.Policy{
		MaxAttempts: 5, BaseDelay: 50 * time.Millisecond, MaxDelay: time.Second, JitterMode: retry.FullJitter,
		AttemptTimeout: 200 * time.Millisecond, Observe: func(context.Context, retry.Event) {},
		Breaker: circuit.New("s", circuit.Config{Gate: mode, Budget: 10, Observe: func(context.Context, circuit.Transition) {}}),
	}}
}

// A batch job outlasts an outage of minutes with the preset Pipeline: a job with one
// worker, which no other worker can probe for, and a job with many workers, which wait
// for longer than 30 s. With a budget the job does, too, if the gate is limited before
// the job begins: a retry that is a probe costs no token.
func TestAPipelineOutlastsAnOutageAtAGate(t *testing.T) {
	for _, tc := range []struct {
		workers int
		budget  float64
	}{{1, 0}, {1, 10}, {50, 0}} {
		synctest.Test(t, func(t *testing.T) {
			var s service
			c := circuit.Pipeline()
			c.Budget, c.Observe = tc.budget, func(context.Context, circuit.Transition) {}
			p := retry.Pipeline()
			p.Breaker, p.Observe = circuit.New("s", c), func(context.Context, retry.Event) {}
			start := time.Now()
			fall := sync.OnceFunc(func() {
				s.set(down)
				time.AfterFunc(5*time.Minute, func() { s.set(nil) })
				for once := (retry.Policy{MaxAttempts: 1, Breaker: p.Breaker, Observe: p.Observe}); tc.budget > 0 && p.Breaker.State() == circuit.Closed; {
					_ = retry.Do(t.Context(), &once, s.call)
				}
			})
			var workers sync.WaitGroup
			for range tc.workers {
				workers.Go(func() {
					for i := range 200 {
						if i == 100 {
							fall()
						}
						if err := retry.Do(t.Context(), &p, s.call); err != nil {
							t.Errorf("%+v: %v after %v", tc, err, time.Since(start))
							return
						}
					}
				})
			}
			workers.Wait()
			if took := time.Since(start); took < 5*time.Minute || took > 6*time.Minute+10*time.Second {
				t.Errorf("%+v: 200 calls of 20ms around an outage of 5m, with waits up to 1m, took %v", tc, took)
			}
		})
	}
}

// Each wait at a gate is one event, and of all that wait at once, or in one limit, one
// is a line in the log.
func TestAWaitAtAGateIsAnEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := gated(circuit.Wait)
		var lines strings.Builder
		var mu sync.Mutex
		queued, first, retried := 0, 0, 0
		f.policy.Name = "load"
		f.policy.Observe = retry.Observers(retry.LogTo(slog.New(slog.NewTextHandler(&lines, nil))), func(_ context.Context, e retry.Event) {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case e.Kind != retry.Queued:
				return
			case e.Key != "s", e.Operation != "load", e.Err != nil, e.Attempt >= 5:
				t.Errorf("event %+v", e)
			case e.Attempt > 0:
				retried++
			}
			if queued++; e.First {
				first++
			}
		})
		f.run(t.Context(), time.Second)
		if queued > 0 {
			t.Errorf("%d events of waits in health", queued)
		}
		f.service.set(down)
		f.run(t.Context(), 2*time.Second)
		f.service.set(nil)
		f.run(t.Context(), 2*time.Second)
		f.calls.Wait()
		m := f.policy.Breaker.Metrics()
		if queued != int(m.Waits) || queued < 300 || retried == 0 { //nolint:gosec // a small number
			t.Errorf("%d events of %d waits, %d of them before a retry", queued, m.Waits, retried)
		}
		if first != int(m.Trips) || strings.Count(lines.String(), `level=INFO msg="load waits: circuit breaker 's' limits calls" event=queued`) != first { //nolint:gosec // a small number
			t.Errorf("%d are the first of %d limits; the log:\n%s", first, m.Trips, lines.String())
		}
	})
}

// At a gate that fails fast no call waits, and the refusal has a RetryAt.
func TestAGateThatFailsFast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := gated(circuit.FailFast)
		f.policy.MaxAttempts = 1
		f.run(t.Context(), time.Second)
		f.service.set(down)
		f.run(t.Context(), time.Second)
		f.calls.Wait()
		open := f.refused.Load()
		if open == nil {
			t.Fatal("no call is refused")
		}
		if open.State != circuit.Open || open.RetryAt.Before(time.Now().Add(-time.Second)) {
			t.Errorf("refusal %+v at %v", open, time.Now())
		}
		sent := f.service.attempts.Load()
		if sent > 200+60 {
			t.Errorf("%d attempts in the outage, want few of 200", sent-200)
		}
		f.service.set(nil)
		f.lost.Store(0)
		f.run(t.Context(), 5*time.Second)
		f.calls.Wait()
		if lost := f.lost.Load(); lost > 100 || f.policy.Breaker.State() != circuit.Closed {
			t.Errorf("after the outage %d calls of 1000 are lost, and the breaker is %v", lost, f.policy.Breaker.State())
		}
	})
}

func TestACallerThatGivesUpAtAGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := gated(circuit.Wait)
		f.run(t.Context(), time.Second)
		f.service.set(down)
		f.run(t.Context(), time.Second)
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := errors.New("gone")
		time.AfterFunc(time.Millisecond, func() { cancel(gone) })
		start := time.Now()
		err := retry.Do(ctx, &f.policy, f.service.call)
		if !errors.Is(err, gone) || time.Since(start) > 10*time.Millisecond {
			t.Errorf("%v after %v, want the cause of ctx at once", err, time.Since(start))
		}
		f.calls.Wait()
	})
}

func TestHealthAtAGateCostsNoAllocation(t *testing.T) {
	p := retry.Policy{Breaker: circuit.New("s", circuit.Config{Gate: circuit.Wait, Budget: 10})}
	call := func(context.Context) error { return nil }
	for range 100 {
		if err := retry.Do(t.Context(), &p, call); err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()
	if n := testing.AllocsPerRun(1000, func() { _ = retry.Do(ctx, &p, call) }); n >= 0.1 {
		t.Errorf("%v allocations a call", n)
	}
}

// In a storm a gate loses what its callers have no time to wait for, and sends the
// service little: 200 calls a second, of 3 s each, and 5 s of a fault.
func TestAGateInAStorm(t *testing.T) {
	for name, tc := range map[string]struct {
		ill      func(context.Context) error
		untimed  bool
		lost     int64 // calls of 1,000 in the fault, at most
		attempts int64 // in the fault, at most
	}{
		"outage":                 {down, false, 600, 300},
		"throttled":              {busy, false, 600, 300},
		"black hole":             {black, false, 650, 400},
		"black hole, no timeout": {black, true, 850, 700},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := gated(circuit.Wait)
				if tc.untimed {
					f.policy.AttemptTimeout = 0
				}
				f.run(t.Context(), 2*time.Second)
				if f.lost.Load() != 0 {
					t.Fatalf("%d calls lost without a fault", f.lost.Load())
				}
				healthy := f.service.attempts.Load()
				f.service.set(tc.ill)
				f.run(t.Context(), 5*time.Second)
				sent := f.service.attempts.Load() - healthy
				if state := f.policy.Breaker.State(); state != circuit.Open {
					t.Errorf("at the end of the fault the breaker is %v", state)
				}
				f.service.set(nil)
				f.run(t.Context(), time.Second) // in which it recovers
				lost := f.lost.Load()
				f.run(t.Context(), 12*time.Second) // the line empties at half the pace at which it filled
				f.calls.Wait()
				if after := f.lost.Load() - lost; after != 0 {
					t.Errorf("%d calls lost that began 1s after the fault, as %v", after, *f.last.Load())
				}
				if lost > tc.lost {
					t.Errorf("%d calls lost, want at most %d", lost, tc.lost)
				}
				if sent > tc.attempts {
					t.Errorf("%d attempts in the fault, want at most %d", sent, tc.attempts)
				}
				if state := f.policy.Breaker.State(); state != circuit.Closed {
					t.Errorf("in the end the breaker is %v", state)
				}
				t.Logf("lost %d, attempts in the fault %d", lost, sent)
			})
		})
	}
}

// A process that has seen no call succeed waits at its gate until the attempt timeout is left of
// its time. It used to give up with a quarter of its time left, when an attempt could still
// have succeeded.
func TestAProcessWithoutASuccessWaitsUntilItsAttemptTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := retry.Policy{
			MaxAttempts: 1, AttemptTimeout: 100 * time.Millisecond,
			Breaker: circuit.New("x", circuit.Config{Gate: circuit.Wait, Observe: func(context.Context, circuit.Transition) {}}),
			Observe: func(context.Context, retry.Event) {},
		}
		slow := func(ctx context.Context) error { return pause(ctx, time.Second) }
		for p.Breaker.State() == circuit.Closed {
			_ = retry.Do(t.Context(), &p, slow)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		err := retry.Do(ctx, &p, slow)
		_, refused := errors.AsType[*circuit.OpenError](err)
		if took := time.Since(begin); !refused || took < 890*time.Millisecond || took > 910*time.Millisecond {
			t.Errorf("%v after %v, want to be refused after 900ms", err, took)
		}
	})
}

// The watch of a call without a timeout ends with the call: calls that had ended well
// were taken for late ones, and limited the gate of a healthy service.
func TestCallsThatHaveEndedAreNotLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := 0
		p := retry.Policy{Breaker: circuit.New("x", circuit.Config{Gate: circuit.Wait, Observe: func(context.Context, circuit.Transition) { limits++ }})}
		var all sync.WaitGroup
		for i := range 60 {
			all.Go(func() {
				_ = retry.Do(t.Context(), &p, func(ctx context.Context) error { return pause(ctx, time.Duration(i+1)*10*time.Millisecond) })
			})
		}
		all.Wait()
		if _ = pause(t.Context(), time.Minute); limits != 0 {
			t.Errorf("the gate was limited or lifted %d times", limits)
		}
	})
}
