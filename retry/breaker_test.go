package retry_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
)

// open is the Config of a breaker that opens with the first failure.
func open(d time.Duration) circuit.Config {
	return circuit.Config{FailureThreshold: 1, RecoveryTimeout: d}
}

// The breaker counts attempts: of two operations with three failures each, the fifth
// failure opens the breaker in the middle of the second operation.
func TestBreakerCountsAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := breaker(circuit.Config{FailureThreshold: 5, RecoveryTimeout: 30 * time.Second})
		p := retry.Policy{MaxAttempts: 3, Jitter: retry.NoJitter, Classify: retry.Always, Breaker: b}
		f, made := always(errDown)
		stopped(t, retry.Do(t.Context(), &p, f), retry.ErrExhausted, 3)
		if m := b.Metrics(); m.Failures != 3 || m.State != circuit.Closed {
			t.Fatalf("after one operation: %+v", m)
		}
		begin := time.Now()
		err := retry.Do(t.Context(), &p, f)
		open, ok := errors.AsType[*circuit.OpenError](err)
		if !ok || made.n != 5 {
			t.Fatalf("%v after %d calls, want an OpenError after 5", err, made.n)
		}
		e := stopped(t, err, open, 2)
		// It waited 1 s after the fourth and not at all before a closed door.
		if took := time.Since(begin); took != time.Second || e.Last != errDown || !e.RetryAt.Equal(open.RetryAt) { //nolint:errorlint // as itself
			t.Errorf("took %v, %+v", took, e)
		}
	})
}

// The limit of attempts takes precedence over the breaker: the failure of the last
// attempt is ErrExhausted, even if it trips the breaker.
func TestBreakerTripsOnTheLastAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := breaker(circuit.Config{FailureThreshold: 5})
		p := retry.Policy{Jitter: retry.NoJitter, Classify: retry.Always, Breaker: b}
		f, _ := always(errDown)
		err := retry.Do(t.Context(), &p, f)
		stopped(t, err, retry.ErrExhausted, 5)
		if _, ok := errors.AsType[*circuit.OpenError](err); ok || b.State() != circuit.Open {
			t.Errorf("%v, breaker %v", err, b.State())
		}
	})
}

// A breaker that admits calls again by the end of the wait is no reason to stop.
func TestBreakerOpenShorterThanTheWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := breaker(open(time.Second))
		p := retry.Policy{BaseDelay: 2 * time.Second, Jitter: retry.NoJitter, Classify: retry.Always, Breaker: b}
		f, made := calls(errDown, errDown)
		if err := retry.Do(t.Context(), &p, f); err != nil || made.n != 3 || b.State() != circuit.Closed {
			t.Errorf("%v after %d calls, breaker %v", err, made.n, b.State())
		}
	})
}

// If another caller trips the breaker during the wait, the operation stops after the
// wait, with its last error; without an attempt, the error is the OpenError itself.
func TestBreakerOpensDuringTheWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r record
		b := breaker(circuit.Config{})
		p := retry.Policy{Jitter: retry.NoJitter, Classify: retry.Always, Breaker: b, Observe: r.observe}
		time.AfterFunc(time.Second/2, b.Isolate)
		f, made := always(errDown)
		err := retry.Do(t.Context(), &p, f)
		refusal, _ := errors.AsType[*circuit.OpenError](err)
		e := stopped(t, err, refusal, 1)
		if refusal == nil || refusal.State != circuit.Isolated || e.Last != errDown || !e.RetryAt.IsZero() { //nolint:errorlint // as itself
			t.Errorf("%+v", e)
		}
		err = retry.Do(t.Context(), &p, f)
		if refusal, ok := err.(*circuit.OpenError); !ok || refusal.Name != "s3_upload" || made.n != 1 { //nolint:errorlint // as itself
			t.Errorf("%#v after %d calls", err, made.n)
		}
		if got := r.kinds(); got != "retrying stopped stopped" {
			t.Errorf("events: %s", got)
		}
		last := r.events()[2]
		if last.Attempt != 0 || !errors.Is(last.Stop, err) || last.Err != nil {
			t.Errorf("event of a call that was not made: %+v", last)
		}
	})
}

// A permanent error is a response of the service: a breaker that opens with one failure
// stays closed through a thousand permanent errors, and one of them closes it.
func TestBreakerPermanentErrorsAreResponses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := breaker(open(time.Second))
		p := retry.Policy{Breaker: b}
		f, made := always(&coded{code: "NoSuchKey", status: 404})
		for range 1000 {
			if err := retry.Do(t.Context(), &p, f); err == nil {
				t.Fatal("no error")
			}
		}
		if m := b.Metrics(); made.n != 1000 || m.State != circuit.Closed || m.Failures != 0 {
			t.Errorf("after %d calls: %+v", made.n, m)
		}
		b.Trip()
		<-time.After(time.Second)
		if err := retry.Do(t.Context(), &p, f); err == nil || b.State() != circuit.Closed {
			t.Errorf("after a probe that got 404: %v, %v", b.State(), err)
		}
	})
}

// A call that its caller cancels does not count for the service, whatever the cause.
func TestBreakerCanceledIsNeutral(t *testing.T) {
	t.Parallel()
	for name, cancelWith := range map[string]error{"plain": nil, "cause": errors.New("the run was called off")} {
		synctest.Test(t, func(t *testing.T) {
			b := breaker(open(time.Second))
			p := retry.Policy{Breaker: b, Classify: retry.Always}
			try := func() {
				ctx, cancel := context.WithCancelCause(t.Context())
				err := retry.Do(ctx, &p, func(context.Context) error { cancel(cancelWith); return errDown })
				if !errors.Is(err, context.Cause(ctx)) {
					t.Errorf("%s: %v", name, err)
				}
			}
			try()
			if b.State() != circuit.Closed {
				t.Errorf("%s: a cancelled call counted as a failure", name)
			}
			b.Trip()
			<-time.After(time.Second)
			try() // as the probe: it frees its place and decides nothing
			if m := b.Metrics(); m.State != circuit.HalfOpen || m.Probes != 1 {
				t.Errorf("%s: after a cancelled probe: %+v", name, m)
			}
			if err := retry.Do(t.Context(), &p, func(context.Context) error { return nil }); err != nil || b.State() != circuit.Closed {
				t.Errorf("%s: the next probe: %v, %v", name, err, b.State())
			}
		})
	}
}

// A panic of the operation passes through unchanged, closed or half-open, with or
// without a timeout, and the slot of a probe is free again.
func TestBreakerPanicAndGoexit(t *testing.T) {
	t.Parallel()
	for _, timeout := range []time.Duration{0, time.Minute} {
		for _, probing := range []bool{false, true} {
			for name, end := range map[string]func(){
				"panic":  func() { panic("boom") },
				"goexit": runtime.Goexit,
			} {
				synctest.Test(t, func(t *testing.T) {
					b := breaker(open(time.Second))
					p := retry.Policy{Breaker: b, AttemptTimeout: timeout, Classify: retry.Always}
					if probing {
						b.Trip()
						<-time.After(time.Second)
					}
					thrown, returned := end1(func() {
						_ = retry.Do(t.Context(), &p, func(context.Context) error { end(); return nil })
					})
					if want := map[string]any{"panic": "boom"}[name]; thrown != want || returned {
						t.Errorf("%s, timeout %v, probe %v: got %v, returned %v", name, timeout, probing, thrown, returned)
					}
					f, made := calls()
					if err := retry.Do(t.Context(), &p, f); err != nil || made.n != 1 || b.State() != circuit.Closed {
						t.Errorf("%s, timeout %v, probe %v: then %v, %v", name, timeout, probing, err, b.State())
					}
				})
			}
		}
	}
}

// end1 runs f on a goroutine of its own, and returns the value of its panic and whether
// f returned.
func end1(f func()) (thrown any, returned bool) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { thrown = recover() }()
		f()
		returned = true
	}()
	<-done
	return thrown, returned
}

// Of 100 operations at the instant at which the recovery timeout elapses, one makes an
// attempt, and the others get the OpenError.
func TestBreakerOneProbe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := breaker(open(30 * time.Second))
		b.Trip()
		<-time.After(30*time.Second + time.Millisecond)
		p := retry.Policy{Breaker: b, Classify: retry.Always, Observe: func(context.Context, retry.Event) {}}
		var made, refused atomic.Int32
		start := make(chan struct{})
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				<-start
				err := retry.Do(t.Context(), &p, func(context.Context) error {
					made.Add(1)
					<-time.After(time.Second)
					return nil
				})
				if e, ok := err.(*circuit.OpenError); ok && e.State == circuit.HalfOpen { //nolint:errorlint // as itself
					refused.Add(1)
				}
			})
		}
		close(start)
		all.Wait()
		if made.Load() != 1 || refused.Load() != 99 || b.State() != circuit.Closed {
			t.Errorf("%d made, %d refused, breaker %v; want 1, 99, closed", made.Load(), refused.Load(), b.State())
		}
	})
}

// A probe that fails opens the breaker again, and its operation does not wait for the
// open breaker.
func TestBreakerProbeFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := breaker(open(30 * time.Second))
		b.Trip()
		<-time.After(30 * time.Second)
		begin := time.Now()
		f, made := always(errDown)
		err := retry.Do(t.Context(), &retry.Policy{Breaker: b, Classify: retry.Always}, f)
		refusal, _ := errors.AsType[*circuit.OpenError](err)
		stopped(t, err, refusal, 1)
		if made.n != 1 || time.Since(begin) != 0 || b.State() != circuit.Open {
			t.Errorf("%d calls in %v, breaker %v", made.n, time.Since(begin), b.State())
		}
	})
}

// With ObserveOnly a breaker refuses nothing, also in a retry.
func TestBreakerObserveOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := open(time.Hour)
		c.ObserveOnly = true
		b := breaker(c)
		f, made := always(errDown)
		p := retry.Policy{Breaker: b, Classify: retry.Always}
		stopped(t, retry.Do(t.Context(), &p, f), retry.ErrExhausted, 5)
		if m := b.Metrics(); made.n != 5 || m.State != circuit.Open || m.Rejected != 4 {
			t.Errorf("%d calls, %+v", made.n, m)
		}
	})
}
