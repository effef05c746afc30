package circuit

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/class"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
)

// went makes n calls at once, and returns when each was admitted, from the start.
func went(t *testing.T, n int, breakers ...*Breaker) []time.Duration {
	t.Helper()
	var mu sync.Mutex
	var at []time.Duration
	var calls sync.WaitGroup
	start := time.Now()
	for i := range n {
		calls.Go(func() {
			if err := breakers[i%len(breakers)].Do(t.Context(), func(context.Context) error {
				mu.Lock()
				defer mu.Unlock()
				at = append(at, time.Since(start))
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	slices.Sort(at)
	return at
}

// wantLimit checks that err is a refusal by the rate until that time from now.
func wantLimit(t *testing.T, err error, in time.Duration) {
	t.Helper()
	e, ok := errors.AsType[*LimitError](err)
	if !ok || e.Limit != RateLimit || e.Name != "s" {
		t.Errorf("the error is %v, want a LimitError of the rate", err)
	} else if left := time.Until(e.RetryAt); left < in || left > in+2*time.Millisecond { // rounded up
		t.Errorf("it is over in %v, want %v", left, in)
	}
	if class.Of(err, false) != class.Ignored {
		t.Errorf("the class of the error is %v, want ignored", class.Of(err, false))
	}
}

// Concurrent calls, of goroutines and of breakers that share a store, are made at the
// instants of one schedule.
func TestCallsWaitForTheirTurn(t *testing.T) {
	for _, burst := range []int{0, 1, 4} {
		synctest.Test(t, func(t *testing.T) {
			c := quiet(Config{Rate: 10, Burst: burst, Store: new(Memory)})
			for i, at := range went(t, 100, New("s", c), New("s", c), New("s", c)) {
				if want := time.Duration(max(i+1-max(burst, 1), 0)) * 100 * time.Millisecond; at != want {
					t.Fatalf("burst %d: call %d went after %v, want %v", burst, i, at, want)
				}
			}
			m := New("s", c).Metrics()
			if n := uint64(100 - max(burst, 1)); m.Waits != n || m.Waited < time.Duration(n)*time.Second || m.Rate != 10 {
				t.Errorf("burst %d: the metrics are %+v", burst, m)
			}
		})
	}
}

func TestWhoDoesNotWaitIsRefused(t *testing.T) {
	for name, call := range map[string]func(*testing.T, *Breaker) error{
		"Acquire": func(_ *testing.T, b *Breaker) error { _, err := b.Acquire(); return err },
		"a deadline too near": func(t *testing.T, b *Breaker) error {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), 999*time.Millisecond)
			defer cancel()
			return b.Do(ctx, func(context.Context) error { return nil })
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := New("s", quiet(Config{Rate: 1}))
			if err := call(t, b); err != nil {
				t.Fatalf("%s: the first call is refused: %v", name, err)
			}
			start := time.Now()
			wantLimit(t, call(t, b), time.Second)
			wantLimit(t, call(t, b), time.Second) // a refusal takes no instant
			if b.Allow() || time.Since(start) != 0 {
				t.Errorf("%s: Allow admits, or somebody waited", name)
			}
			pause(t.Context(), time.Second)
			if err := call(t, b); err != nil || b.Metrics().Rejected != 3 {
				t.Errorf("%s: after a second: %v, %d were refused", name, err, b.Metrics().Rejected)
			}
		})
	}
}

// A call waits for 30 s at most without a deadline, and until its deadline with one.
func TestHowLongACallWaitsForItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nothing := func(context.Context) error { return nil }
		b := New("s", quiet(Config{Rate: 1.0 / 25})) // of which a cell knows seven digits
		start := time.Now()
		if err := errors.Join(b.Do(t.Context(), nothing), b.Do(t.Context(), nothing)); err != nil || time.Since(start).Round(time.Millisecond) != 25*time.Second {
			t.Errorf("two calls took %v: %v", time.Since(start), err)
		}
		go func() { _ = b.Do(t.Context(), nothing) }()
		synctest.Wait()
		if q := b.Metrics().Queued; q != 1 {
			t.Errorf("%d calls wait, want 1", q)
		}
		wantLimit(t, b.Do(t.Context(), nothing), 50*time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := b.Do(ctx, nothing); err != nil || time.Since(start).Round(time.Millisecond) != 75*time.Second {
			t.Errorf("a call with a minute was made after %v: %v", time.Since(start), err)
		}
	})
}

// The instant of a call that stops waiting is taken by the next, if no call came in between.
func TestWhoLeavesGivesItsTurnBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("s", quiet(Config{Rate: 1}))
		nothing := func(context.Context) error { return nil }
		_ = b.Do(t.Context(), nothing)
		cause := errors.New("no more")
		ctx, cancel := context.WithCancelCause(t.Context())
		left := make(chan error)
		go func() { left <- b.Do(ctx, nothing) }()
		synctest.Wait()
		cancel(cause)
		if err := <-left; !errors.Is(err, cause) || !errors.Is(err, context.Canceled) {
			t.Errorf("who leaves gets %v", err)
		}
		start := time.Now()
		if err := b.Do(t.Context(), nothing); err != nil || time.Since(start) != time.Second {
			t.Errorf("the next call went after %v: %v", time.Since(start), err)
		}
	})
}

// A call through several layers of one breaker takes one instant.
func TestLayersTakeOneTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("s", quiet(Config{Rate: 1}))
		start := time.Now()
		for range 3 {
			if err := b.Do(t.Context(), func(ctx context.Context) error {
				return b.Do(ctx, func(context.Context) error { return nil })
			}); err != nil {
				t.Fatal(err)
			}
		}
		if time.Since(start) != 2*time.Second {
			t.Errorf("three calls took %v, want 2s", time.Since(start))
		}
	})
}

// A call that the breaker or its gate refuses takes no instant, and a call that has waited
// for its instant asks them again.
func TestTheRateComesAfterTheBreaker(t *testing.T) {
	nothing := func(context.Context) error { return nil }
	for name, c := range map[string]Config{"breaker": {Rate: 10}, "gate": {Rate: 10, Gate: FailFast}} {
		synctest.Test(t, func(t *testing.T) {
			b := New("s", quiet(c))
			shut := func() {
				if c.Gate != NoGate {
					b.limit(t.Context(), Reason{code: Manual})
					return
				}
				b.Trip()
			}
			shut()
			for range 5 {
				if err := b.Do(t.Context(), nothing); !isOpen(err) {
					t.Fatalf("%s: shut, it says %v", name, err)
				}
			}
			if at := b.cell.Load().Rate[0].Load(); at != 0 {
				t.Errorf("%s: refused calls have taken instants", name)
			}
			b.Reset()
			start := time.Now()
			_ = b.Do(t.Context(), nothing)
			waits := make(chan error)
			go func() { waits <- b.Do(t.Context(), nothing) }()
			synctest.Wait()
			shut()
			if err := <-waits; !isOpen(err) {
				t.Errorf("%s: shut during the wait, it says %v", name, err)
			}
			b.Reset()
			if err := b.Do(t.Context(), nothing); err != nil || time.Since(start) != 100*time.Millisecond {
				t.Errorf("%s: the instant was not given back: %v, %v", name, time.Since(start), err)
			}
		})
	}
}

func isOpen(err error) bool { _, ok := errors.AsType[*OpenError](err); return ok }

// No call holds a probe slot while it waits for the rate.
func TestAProbeIsNotHeldForTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("s", quiet(Config{Rate: 0.1, RecoveryTimeout: time.Second}))
		nothing := func(context.Context) error { return nil }
		_ = b.Do(t.Context(), nothing)
		b.Trip()
		pause(t.Context(), 2*time.Second)
		waits := make(chan error)
		go func() { waits <- b.Do(t.Context(), nothing) }()
		synctest.Wait()
		if n := packedState(b.cell.Load().Breaker.Load()).inFlight(); n != 0 {
			t.Errorf("%d probes are in flight while no call is made", n)
		}
		if err := <-waits; err != nil || b.State() != Closed {
			t.Errorf("the probe ended with %v, and the breaker is %v", err, b.State())
		}
	})
}

// With ObserveOnly the rate refuses no call, and counts those that it would have refused;
// an isolated breaker refuses before the rate does.
func TestARateThatIsOnlyObserved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("s", quiet(Config{Rate: 1, ObserveOnly: true}))
		for range 10 {
			b.RecordFailure() // it would be open
		}
		before, start := b.Metrics().Rejected, time.Now()
		if err := b.Do(t.Context(), func(context.Context) error { return nil }); err != nil || !b.Allow() || time.Since(start) != 0 {
			t.Errorf("with ObserveOnly the rate refuses calls, or lets them wait: %v", err)
		}
		if n := b.Metrics().Rejected - before; n != 3 { // two by the breaker, one by the rate
			t.Errorf("%d calls would have been refused, want 3", n)
		}
		b = New("s", quiet(Config{Rate: 1}))
		b.Isolate()
		if _, err := b.Acquire(); !isOpen(err) {
			t.Errorf("isolated, it says %v", err)
		}
	})
}

// Waits of calls without a policy are reported once per minute, if they are long enough.
func TestAWaitForARateIsObserved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c := Config{Rate: 2, Observe: LogTo(slog.New(slog.NewTextHandler(&log, nil)))}
		b := New("s", c)
		for range 2 {
			went(t, 50, b)
			pause(t.Context(), time.Minute)
		}
		went(t, 2, b) // half a second
		if n := strings.Count(log.String(), "msg=\"Circuit breaker 's' is closed: calls wait for its rate\" event=queued"); n != 2 || strings.Count(log.String(), "\n") != 2 {
			t.Errorf("%d lines, want one for each minute:\n%s", n, log.String())
		}
	})
}

// If processes have several limits for one name, the lowest applies to all.
func TestTheLowerRateHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(Memory)
		slow, fast := New("s", quiet(Config{Rate: 2, Store: store})), New("s", quiet(Config{Rate: 100, Burst: 50, Store: store}))
		if !slow.Allow() {
			t.Fatal("the first call is refused")
		}
		at := went(t, 10, fast)
		if last := at[9]; last != 5*time.Second {
			t.Errorf("ten calls took %v, want 5s", last)
		}
		if m := fast.Metrics(); m.Rate != 2 {
			t.Errorf("the limit in force is %v", m.Rate)
		}
		if m := New("s", quiet(Config{Store: store})).Metrics(); m.Rate != 2 {
			t.Errorf("who has no rate sees %v", m.Rate)
		}
	})
}

// Calls at random, some of which stop waiting, stay within the limit in any window, and
// use all of it.
func TestARateIsKeptAndUsed(t *testing.T) {
	r := rand.New(rand.NewPCG(testseed.Of(t, 4), 0))
	for range 10 {
		synctest.Test(t, func(t *testing.T) {
			c := quiet(Config{Rate: float64(1 + r.IntN(200)), Burst: 1 + r.IntN(10), Store: new(Memory)})
			var mu sync.Mutex
			var at []time.Time
			var calls sync.WaitGroup
			stay := 0
			for range 300 {
				b, patience := New("s", c), time.Duration(r.Int64N(int64(5*time.Second)))
				if patience >= time.Second {
					stay++
				}
				calls.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), patience+time.Duration(3000*float64(time.Second)/c.Rate))
					defer cancel()
					if patience < time.Second {
						time.AfterFunc(patience, cancel)
					}
					if err := b.Do(ctx, func(context.Context) error {
						mu.Lock()
						defer mu.Unlock()
						at = append(at, time.Now())
						return nil
					}); err != nil && !errors.Is(err, context.Canceled) {
						t.Error(err)
					}
				})
			}
			calls.Wait()
			if len(at) < stay {
				t.Errorf("%d calls were made, and %d did not leave", len(at), stay)
			}
			for i := range at {
				for j := i; j < len(at); j++ {
					if most := float64(c.Burst) + 1 + at[j].Sub(at[i]).Seconds()*c.Rate; float64(j-i+1) > most {
						t.Fatalf("%v/s, burst %d: %d calls in %v", c.Rate, c.Burst, j-i+1, at[j].Sub(at[i]))
					}
				}
			}
		})
	}
}

// A clock step of an hour neither stops the calls of processes that share a cell nor has
// them flood the service: new calls and calls that wait.
func TestARateOutlastsTheWallClock(t *testing.T) {
	for _, step := range []time.Duration{time.Hour, -time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			var set atomic.Int64
			clock := func() time.Time { return time.Now().Add(time.Duration(set.Load())).Round(0) }
			c := quiet(Config{Rate: 10, Store: sealing(mapped{ref: cell.NewRef(new(cell.Cell))})})
			comes, waits := New("s", c), New("s", c)
			comes.clock, waits.clock = clock, clock
			var went atomic.Int64
			var calls sync.WaitGroup
			for range 20 {
				calls.Go(func() {
					if waits.Do(t.Context(), func(context.Context) error { went.Add(1); return nil }) != nil {
						t.Errorf("step %v: a call that waited was refused", step)
					}
				})
			}
			pause(t.Context(), 950*time.Millisecond)
			set.Store(int64(step))
			for range 1000 { // 10 s
				pause(t.Context(), 10*time.Millisecond)
				if comes.Allow() {
					went.Add(1)
				}
			}
			calls.Wait()
			if n := went.Load(); n < 10+95 || n > 10+100+2 {
				t.Errorf("step %v: %d calls in 11 s, want 10 a second", step, n)
			}
		})
	}
}

// With Concurrency, a call that waits for its turn holds a place; both limits apply, and
// the slower one decides.
func TestARateAndPlaces(t *testing.T) {
	for took, want := range map[time.Duration]time.Duration{
		50 * time.Millisecond: 99 * 100 * time.Millisecond, // by the rate
		time.Second:           24 * time.Second,            // by the places
	} {
		synctest.Test(t, func(t *testing.T) {
			b := New("s", quiet(Config{Rate: 10, Concurrency: 4}))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var calls sync.WaitGroup
			var out, most, went atomic.Int64
			start, last := time.Now(), atomic.Int64{}
			for range 100 {
				calls.Go(func() {
					if err := b.Do(ctx, func(ctx context.Context) error {
						most.Store(max(most.Load(), out.Add(1)))
						went.Add(1)
						last.Store(max(last.Load(), int64(time.Since(start))))
						pause(ctx, took)
						out.Add(-1)
						return nil
					}); err != nil {
						t.Error(err)
					}
				})
			}
			calls.Wait()
			if end := time.Duration(last.Load()); went.Load() != 100 || most.Load() > 4 || end < want || end > want+want/20+time.Second {
				t.Errorf("calls of %v: the last of %d went after %v, want %v; %d at once", took, went.Load(), end, want, most.Load())
			}
		})
	}
}
