package circuit_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
	"github.com/seed-0f2c7998/perdure/retry"
)

func limited(n int) circuit.Config {
	return circuit.Config{Concurrency: n, Observe: func(context.Context, circuit.Transition) {}}
}

// sleep waits in the bubble of a synctest, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// allFree fails the test unless exactly n places are free.
func allFree(t *testing.T, b *circuit.Breaker, n int) {
	t.Helper()
	if m := b.Metrics(); m.InFlight != 0 || m.Waiting != 0 {
		t.Errorf("%d calls are in flight and %d wait, want none", m.InFlight, m.Waiting)
	}
	var held []circuit.Permit
	for {
		p, err := b.Acquire()
		if err != nil {
			break
		}
		held = append(held, p)
	}
	if len(held) != n {
		t.Errorf("%d places are free, want %d", len(held), n)
	}
	for _, p := range held {
		p.Cancel()
	}
}

// Acquire never waits. Allow has no permit that could return a place, so it is not
// limited.
func TestConcurrencyLimitsAcquire(t *testing.T) {
	b := circuit.New("s3", limited(2))
	one, err := b.Acquire()
	two, err2 := b.Acquire()
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	_, err = b.Acquire()
	full, ok := errors.AsType[*circuit.LimitError](err)
	if !ok || full.Name != "s3" || full.Limit != circuit.ConcurrencyLimit || !full.RetryAt.IsZero() {
		t.Errorf("%#v, want the limit of 2", err)
	}
	if m := b.Metrics(); m.InFlight != 2 || m.Rejected != 1 {
		t.Errorf("%d in flight, %d rejected, want 2 and 1", m.InFlight, m.Rejected)
	}
	if !b.Allow() {
		t.Error("Allow is limited")
	}
	b.RecordSuccess()
	one.Success()
	if three, err := b.Acquire(); err != nil {
		t.Error(err)
	} else {
		three.Failure()
	}
	two.Cancel()
	allFree(t, b, 2)
}

// However a call ends, its place is freed.
func TestEachEndingFreesThePlace(t *testing.T) {
	const calls, limit = 100_000, 7
	b := circuit.New("x", limited(limit))
	r := rand.New(rand.NewPCG(testseed.Of(t, 0), 0))
	var inside, most atomic.Int64
	bad := errors.New("bad")
	endings := []func(ctx context.Context){
		func(context.Context) { acquired(b, circuit.Permit.Success) },
		func(context.Context) { acquired(b, circuit.Permit.Failure) },
		func(context.Context) { acquired(b, circuit.Permit.Conflict) },
		func(context.Context) { acquired(b, circuit.Permit.Cancel) },
		func(context.Context) { acquired(b, func(p circuit.Permit) { p.Throttled(time.Second) }) },
	}
	outcomes := []func(){
		func() {},
		func() { panic(bad) },
		runtime.Goexit,
	}
	policy := retry.Policy{MaxAttempts: 2, BaseDelay: time.Nanosecond, Jitter: retry.NoJitter, Breaker: b, Observe: func(context.Context, retry.Event) {}}
	errs := []error{nil, retry.Transient(bad), retry.Permanent(bad), retry.Conflict(bad), retry.Ignored(bad), bad}
	for _, outcome := range outcomes {
		for _, err := range errs {
			f := func(context.Context) error {
				n := inside.Add(1)
				defer inside.Add(-1)
				most.Store(max(n, most.Load()))
				outcome()
				return err
			}
			endings = append(endings,
				func(ctx context.Context) { _ = b.Do(ctx, f) },
				func(ctx context.Context) { _ = retry.Do(ctx, &policy, f) },
				func(ctx context.Context) { // two layers that share the breaker
					_ = retry.Do(ctx, &policy, func(ctx context.Context) error { return b.Do(ctx, f) })
				})
		}
	}
	var all sync.WaitGroup
	for range 4 * limit {
		r := rand.New(rand.NewPCG(r.Uint64(), 0))
		all.Go(func() {
			for range calls / (4 * limit) {
				aside(func() {
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					if r.IntN(8) == 0 {
						cancel()
					}
					endings[r.IntN(len(endings))](ctx)
				})
				if r.IntN(64) == 0 {
					b.Reset() // or most are refused
				}
			}
		})
	}
	all.Wait()
	if most.Load() > limit {
		t.Errorf("%d calls were in flight, want at most %d", most.Load(), limit)
	}
	b.Reset()
	allFree(t, b, limit)
}

// acquired makes a call that end ends, if it is admitted.
func acquired(b *circuit.Breaker, end func(circuit.Permit)) {
	if p, err := b.Acquire(); err == nil {
		end(p)
	}
}

// aside calls f on a goroutine of its own, which may panic or end.
func aside(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { _ = recover() }()
		f()
	}()
	<-done
}

// Calls that wait get places in the order of their deadlines, and no call waits longer than
// its deadline or, without one, 30 s.
func TestWaitsForAPlace(t *testing.T) {
	for _, do := range []struct {
		name string
		call func(context.Context, *circuit.Breaker, func(context.Context) error) error
	}{
		{"Breaker.Do", func(ctx context.Context, b *circuit.Breaker, f func(context.Context) error) error {
			return b.Do(ctx, f)
		}},
		{"retry.Do", func(ctx context.Context, b *circuit.Breaker, f func(context.Context) error) error {
			return retry.Do(ctx, &retry.Policy{Breaker: b, Observe: func(context.Context, retry.Event) {}}, f)
		}},
	} {
		t.Run(do.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := circuit.New("x", limited(1))
				holder, _ := b.Acquire()
				var all sync.WaitGroup
				var order []string
				begin := time.Now()
				for _, row := range []struct {
					name     string
					deadline time.Duration // 0: none
					want     time.Duration // until it is refused; 0: it is not
				}{
					{"patient", 0, 0},
					{"last", time.Minute, 0},
					{"first", 10 * time.Second, 0},
					{"second", 20 * time.Second, 0},
					{"too short", 5 * time.Second, 5*time.Second - 10*time.Millisecond},
				} {
					all.Go(func() {
						ctx := t.Context()
						if row.deadline > 0 {
							var cancel context.CancelFunc
							ctx, cancel = context.WithTimeout(ctx, row.deadline)
							defer cancel()
						}
						err := do.call(ctx, b, func(ctx context.Context) error {
							order = append(order, row.name)
							return sleep(ctx, time.Second)
						})
						if row.want == 0 && err != nil {
							t.Errorf("%s: %v", row.name, err)
						}
						if _, full := errors.AsType[*circuit.LimitError](err); row.want > 0 && (!full || time.Since(begin) != row.want) {
							t.Errorf("%s: %v after %v, want a *LimitError after %v", row.name, err, time.Since(begin), row.want)
						}
					})
				}
				synctest.Wait()
				if m := b.Metrics(); m.Waiting != 5 {
					t.Errorf("%d wait, want 5", m.Waiting)
				}
				_ = sleep(t.Context(), 6*time.Second)
				holder.Success()
				all.Wait()
				if got := fmt.Sprint(order); got != "[first second patient last]" {
					t.Errorf("%s", got)
				}
				allFree(t, b, 1)
			})
		})
	}
}

// A wait is an event of the retry, or without a retry, once per minute, of the breaker.
func TestAWaitForAPlaceIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []circuit.Transition
		c := limited(1)
		c.Observe = func(_ context.Context, t circuit.Transition) { seen = append(seen, t) }
		b := circuit.New("x", c)
		queued := 0
		p := retry.Policy{Name: "load", Breaker: b, Observe: func(_ context.Context, e retry.Event) {
			if e.Kind != retry.Queued {
				return
			}
			queued++
			if e.Reason != retry.ReasonLimit || !e.RetryAt.IsZero() || e.Message() != "load waits: concurrency limit of 'x' is reached" {
				t.Errorf("%+v: %s", e, e.Message())
			}
		}}
		nothing := func(context.Context) error { return nil }
		for range 3 {
			holder, _ := b.Acquire()
			time.AfterFunc(20*time.Second, holder.Success)
			if err := errors.Join(b.Do(t.Context(), nothing), b.Do(t.Context(), nothing), retry.Do(t.Context(), &p, nothing)); err != nil {
				t.Error(err)
			}
		}
		if len(seen) != 1 || !seen[0].Queued || seen[0].Reason.Cause() != circuit.ConcurrencyReached || queued != 0 {
			t.Errorf("%+v, and %d events of retries", seen, queued)
		}
		holder, _ := b.Acquire()
		time.AfterFunc(time.Second, holder.Success)
		if err := retry.Do(t.Context(), &p, nothing); err != nil || queued != 1 {
			t.Errorf("%v, %d events of a retry that waits, want 1", err, queued)
		}
	})
}

// A call without a deadline waits for 30 s, less the reserve. A call whose context ends
// returns the cause. Neither keeps a place.
func TestWaitsNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := circuit.New("x", limited(1))
		holder, _ := b.Acquire()
		begin := time.Now()
		err := b.Do(t.Context(), func(context.Context) error { t.Error("called"); return nil })
		if _, full := errors.AsType[*circuit.LimitError](err); !full || time.Since(begin) != 30*time.Second-10*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		why := errors.New("why")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(why) })
		if err := b.Do(ctx, func(context.Context) error { t.Error("called"); return nil }); !errors.Is(err, why) {
			t.Errorf("%v, want the cause of its context", err)
		}
		holder.Success()
		allFree(t, b, 1)
	})
}

// An attempt holds the place; during the backoff other calls use it.
func TestBackoffHoldsNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := circuit.New("x", limited(1))
		p := retry.Policy{BaseDelay: 10 * time.Second, Jitter: retry.NoJitter, Breaker: b, Observe: func(context.Context, retry.Event) {}}
		attempts := 0
		var all sync.WaitGroup
		all.Go(func() {
			_ = retry.Do(t.Context(), &p, func(context.Context) error {
				if attempts++; attempts == 1 {
					return retry.Transient(errors.New("bad"))
				}
				return nil
			})
		})
		synctest.Wait()
		allFree(t, b, 1)
		all.Wait()
		if attempts != 2 {
			t.Errorf("%d attempts", attempts)
		}
	})
}

// Layers that share a breaker have one place, which the innermost layer holds: with a
// limit of 1 no layer waits for another.
func TestLayersHaveOnePlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := circuit.New("x", limited(1))
		p := retry.Policy{MaxAttempts: 3, BaseDelay: time.Second, Jitter: retry.NoJitter, Breaker: b, Observe: func(context.Context, retry.Event) {}}
		begin := time.Now()
		inner := 0
		err := retry.Do(t.Context(), &p, func(ctx context.Context) error {
			for range 3 { // a call after the other
				if err := b.Do(ctx, func(ctx context.Context) error {
					return retry.Do(ctx, &p, func(context.Context) error {
						if inner++; inner%2 == 1 {
							return retry.Transient(errors.New("bad"))
						}
						return nil
					})
				}); err != nil {
					return err
				}
			}
			both := make(chan error, 2) // and two side by side
			for range 2 {
				go func() { both <- b.Do(ctx, func(ctx context.Context) error { return sleep(ctx, time.Second) }) }()
			}
			return errors.Join(<-both, <-both)
		})
		if took := time.Since(begin); err != nil || took > 10*time.Second {
			t.Errorf("%v after %v", err, took)
		}
		allFree(t, b, 1)
	})
}

// A call that is refused for another reason is refused at once, and takes no place.
func TestAnOpenBreakerTakesNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := circuit.New("x", limited(1))
		holder, _ := b.Acquire()
		b.Isolate()
		begin := time.Now()
		err := b.Do(t.Context(), func(context.Context) error { t.Error("called"); return nil })
		if _, open := errors.AsType[*circuit.OpenError](err); !open || time.Since(begin) != 0 {
			t.Errorf("%v after %v, want the refusal at once", err, time.Since(begin))
		}
		b.Reset()
		holder.Success()
		allFree(t, b, 1)
	})
}

// Both limits apply with a gate, with a window, and with ObserveOnly.
func TestConcurrencyBesideTheRest(t *testing.T) {
	for _, c := range []circuit.Config{
		{Gate: circuit.Wait, Budget: 10},
		{Window: time.Minute, FailureRatio: 0.5, SlowCall: time.Second},
		{ObserveOnly: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			c.Concurrency, c.Observe = 3, func(context.Context, circuit.Transition) {}
			b := circuit.New("x", c)
			var all sync.WaitGroup
			inside, most := 0, 0
			var mu sync.Mutex
			for range 30 {
				all.Go(func() {
					err := b.Do(t.Context(), func(ctx context.Context) error {
						mu.Lock()
						inside++
						most = max(most, inside)
						mu.Unlock()
						defer func() { mu.Lock(); inside--; mu.Unlock() }()
						return sleep(ctx, 100*time.Millisecond)
					})
					if err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			want := 3
			if c.ObserveOnly {
				want = 30
			}
			if most != want {
				t.Errorf("%+v: %d in flight, want %d", c, most, want)
			}
			if !c.ObserveOnly {
				allFree(t, b, 3)
			}
		})
	}
}

// Breakers that share their state share the places, and the lowest limit applies.
func TestTheLowestConcurrencyHolds(t *testing.T) {
	memory := new(circuit.Memory)
	c := limited(8)
	c.Store = memory
	eight := circuit.New("x", c)
	c.Concurrency = 2
	two := circuit.New("x", c)
	p, _ := eight.Acquire()
	q, _ := two.Acquire()
	for _, b := range []*circuit.Breaker{eight, two} {
		if _, err := b.Acquire(); err == nil || err.Error() != `concurrency limit of "x" is reached` {
			t.Errorf("%v, want the limit of 2", err)
		}
	}
	p.Success()
	q.Success()
	allFree(t, eight, 2)
}
