package hedge_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/hedge"
	"github.com/seed-0f2c7998/perdure/metrics"
	"github.com/seed-0f2c7998/perdure/retry"
)

// takes waits for d, or until ctx ends.
func takes(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// slowFirst returns a function whose first call takes long.
func slowFirst(long time.Duration, calls *atomic.Int32) func(context.Context) (int, error) {
	return func(ctx context.Context) (int, error) {
		n := int(calls.Add(1))
		if n == 1 {
			return n, takes(ctx, long)
		}
		return n, takes(ctx, time.Millisecond)
	}
}

func TestThePercentileOfTheLatencies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, c := range map[string]struct {
			hedge *hedge.Hedge[int]
			delay time.Duration // before a hedge, after 40 calls of 10 to 49 ms; 0 means no hedge
			early time.Duration // the same before the first call
		}{
			"zero":                   {hedge: &hedge.Hedge[int]{}, delay: 48 * time.Millisecond},
			"median":                 {hedge: &hedge.Hedge[int]{Percentile: 0.5}, delay: 30 * time.Millisecond},
			"not below Min":          {hedge: &hedge.Hedge[int]{Percentile: 0.5, Min: 70 * time.Millisecond}, delay: 70 * time.Millisecond},
			"fixed":                  {hedge: &hedge.Hedge[int]{After: 5 * time.Second}, delay: 5 * time.Second, early: 5 * time.Second},
			"fixed at the beginning": {hedge: &hedge.Hedge[int]{After: 5 * time.Second, Percentile: 0.9, Ratio: 1}, delay: 46 * time.Millisecond, early: 5 * time.Second},
		} {
			slow := func() (took time.Duration) { // the delay of a call whose first attempt takes a minute
				var calls atomic.Int32
				start := time.Now()
				if _, err := hedge.Value(t.Context(), c.hedge, slowFirst(time.Minute, &calls)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				if took = time.Since(start); took == time.Minute {
					return 0
				}
				return took - time.Millisecond
			}
			if c.early > 0 {
				if got := slow(); got != c.early {
					t.Errorf("%s: at the beginning a hedge after %v, want %v", name, got, c.early)
				}
			}
			for i := range 48 - min(int(c.early), 1) {
				_, err := hedge.Value(t.Context(), c.hedge, func(ctx context.Context) (int, error) {
					return 0, takes(ctx, time.Duration(10+i%40)*time.Millisecond)
				})
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			// Nearest rank of 48 latencies, of which 10 to 17 ms are there twice.
			if got := slow(); got < c.delay-10*time.Millisecond || got > c.delay+time.Millisecond {
				t.Errorf("%s: a hedge after %v, want about %v", name, got, c.delay)
			}
		}
	})
}

func TestTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hedge.Hedge[int]{After: time.Second, Ratio: 0.1}
		hedged := 0
		h.Observe = func(_ context.Context, e hedge.Event) {
			if e.Kind == hedge.Sent {
				hedged++
			}
		}
		for range 500 {
			var calls atomic.Int32
			if _, err := hedge.Value(t.Context(), h, slowFirst(time.Minute, &calls)); err != nil {
				t.Error(err)
			}
		}
		if hedged < 58 || hedged > 60 { // 10 at the beginning, then each tenth call
			t.Errorf("%d hedges of 500 slow calls, want 10 and a tenth", hedged)
		}
	})
}

func TestAPanicReachesTheCaller(t *testing.T) {
	for name, c := range map[string]struct {
		first, second func(context.Context) (int, error)
	}{
		"first": {
			first:  func(ctx context.Context) (int, error) { _ = takes(ctx, 2*time.Second); panic("broken") },
			second: func(ctx context.Context) (int, error) { return 2, takes(ctx, time.Hour) },
		},
		"first, after a hedge has won": {
			first:  func(ctx context.Context) (int, error) { <-ctx.Done(); panic("broken") },
			second: func(context.Context) (int, error) { return 2, nil },
		},
		"hedge": {
			first:  func(ctx context.Context) (int, error) { return 1, takes(ctx, time.Hour) },
			second: func(context.Context) (int, error) { panic("broken") },
		},
		"hedge, after the first has won": {
			first:  func(ctx context.Context) (int, error) { return 1, takes(ctx, 2*time.Second) },
			second: func(ctx context.Context) (int, error) { <-ctx.Done(); panic("broken") },
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			var calls, running, successes atomic.Int32
			h := &hedge.Hedge[int]{After: time.Second, Discard: func(int) { successes.Add(-1) }}
			defer func() {
				if v := recover(); v != "broken" || running.Load() != 0 || successes.Load() != 0 {
					t.Errorf("%s: recovered %v, %d attempts still run, %d values were not discarded", name, v, running.Load(), successes.Load())
				}
			}()
			v, err := hedge.Value(t.Context(), h, func(ctx context.Context) (v int, err error) {
				running.Add(1)
				defer running.Add(-1)
				if calls.Add(1) == 1 {
					v, err = c.first(ctx)
				} else {
					v, err = c.second(ctx)
				}
				if err == nil {
					successes.Add(1)
				}
				return v, err
			})
			t.Errorf("%s: %d, %v; want a panic", name, v, err)
		})
	}
}

func TestAHedgeThatEndsItsGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended sync.WaitGroup
		returned := false
		ended.Go(func() { // as t.FailNow in f does
			var calls atomic.Int32
			_, _ = hedge.Value(t.Context(), &hedge.Hedge[int]{After: time.Second}, func(ctx context.Context) (int, error) {
				if calls.Add(1) == 2 {
					runtime.Goexit()
				}
				return 0, takes(ctx, time.Hour)
			})
			returned = true
		})
		if ended.Wait(); returned {
			t.Error("Value returned, as if the attempt had succeeded or failed")
		}
	})
}

func TestTheCauseOfTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("the user has left")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(3*time.Second, func() { cancel(why) })
		h := &hedge.Hedge[int]{After: time.Second, Max: 10, Ratio: 1}
		var calls atomic.Int32
		_, err := hedge.Value(ctx, h, func(ctx context.Context) (int, error) {
			calls.Add(1)
			return 0, takes(ctx, time.Hour)
		})
		if !errors.Is(err, why) || calls.Load() > 4 {
			t.Errorf("%v after %d attempts, want the cause of the context", err, calls.Load())
		}
		calls.Store(0)
		var lost error
		if _, err = hedge.Value(t.Context(), h, func(ctx context.Context) (int, error) {
			if calls.Add(1) == 2 {
				return 2, nil
			}
			lost = takes(ctx, time.Hour)
			return 1, lost
		}); err != nil || !errors.Is(lost, hedge.ErrLost) {
			t.Errorf("%v; the attempt that lost was cancelled because of %v", err, lost)
		}
	})
}

// A hedge inside a retry is one attempt, and one call for the breaker.
func TestAHedgeIsOneAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		breaker := circuit.New("lookups", circuit.Config{FailureThreshold: 3, Observe: func(context.Context, circuit.Transition) {}})
		p := &retry.Policy{
			MaxAttempts: 2, Classify: retry.Always, AttemptTimeout: 10 * time.Second, Breaker: breaker,
			Observe: func(context.Context, retry.Event) {},
		}
		h := &hedge.Hedge[int]{After: time.Second, Ratio: 1}
		var calls atomic.Int32
		busy := errors.New("busy")
		_, err := retry.Value(t.Context(), p, func(ctx context.Context) (int, error) {
			return hedge.Value(ctx, h, func(ctx context.Context) (int, error) {
				calls.Add(1)
				return 0, errors.Join(takes(ctx, 2*time.Second), busy)
			})
		})
		if m := breaker.Metrics(); !errors.Is(err, busy) || calls.Load() != 4 || m.Failures != 2 || m.State != circuit.Closed {
			t.Errorf("%v: %d calls, metrics %+v; want 4 calls, 2 failures, closed", err, calls.Load(), m)
		}
		v, err := retry.Value(t.Context(), p, func(ctx context.Context) (int, error) {
			return hedge.Value(ctx, h, func(ctx context.Context) (int, error) { // both are too slow: the timeout ends both
				return 0, takes(ctx, time.Minute)
			})
		})
		if late, ok := errors.AsType[*retry.Error](err); !ok || !late.Timeout() {
			t.Errorf("%d, %v; want a timeout of the attempt", v, err)
		}
	})
}

func TestHedgesAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var registry metrics.Registry
		h := &hedge.Hedge[int]{Name: "lookups", After: time.Second, Metrics: &registry}
		for i := range 5 {
			var calls atomic.Int32
			_, err := hedge.Value(t.Context(), h, func(ctx context.Context) (int, error) {
				if calls.Add(1) == 1 {
					return 1, takes(ctx, time.Duration(i)*time.Second-time.Millisecond) // the last three are hedged
				}
				return 2, takes(ctx, 1500*time.Millisecond) // and won by the hedge in the last two
			})
			if err != nil {
				t.Error(err)
			}
		}
		var text strings.Builder
		if err := registry.Snapshot().Write(&text, metrics.Text); err != nil {
			t.Fatal(err)
		}
		for result, n := range map[string]int{"sent": 3, "won": 2} {
			want := fmt.Sprintf(`perdure_hedges_total{operation="lookups",key="",result=%q} %d`, result, n)
			if !strings.Contains(text.String(), want+"\n") {
				t.Errorf("no %s in\n%s", want, &text)
			}
		}
	})
}

func TestBadHedges(t *testing.T) {
	for want, h := range map[string]*hedge.Hedge[struct{}]{
		"After":      {After: -1},
		"Percentile": {Percentile: 1},
		"Min":        {Min: -1},
		"Ratio":      {Ratio: 1.5},
		"Max":        {Max: 11},
	} {
		err := hedge.Do(t.Context(), h, func(context.Context) error { t.Error("called"); return nil })
		if bad, ok := errors.AsType[*retry.ConfigError](err); !ok || bad.Field != want {
			t.Errorf("%v; want an error about %s", err, want)
		}
	}
	if v, err := hedge.Value(t.Context(), nil, func(context.Context) (int, error) { return 7, nil }); v != 7 || err != nil {
		t.Errorf("without a Hedge: %d, %v", v, err)
	}
}

func TestManyCallersShareAHedge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hedge.Hedge[int]{Percentile: 0.9, Ratio: 1}
		var running, open atomic.Int32
		h.Discard = func(int) { open.Add(-1) }
		var callers sync.WaitGroup
		for i := range 100 {
			callers.Go(func() {
				for j := range 50 {
					_, err := hedge.Value(t.Context(), h, func(ctx context.Context) (int, error) {
						running.Add(1)
						defer running.Add(-1)
						err := takes(ctx, time.Duration(1+(i*7+j*13)%97)*time.Millisecond)
						if err == nil {
							open.Add(1)
						}
						return 0, err
					})
					if err != nil {
						t.Error(err)
					}
					open.Add(-1)
				}
			})
		}
		if callers.Wait(); running.Load() != 0 || open.Load() != 0 {
			t.Errorf("%d attempts run, %d values were not discarded", running.Load(), open.Load())
		}
	})
}

// A panic of Discard takes neither the result nor the other values to discard.
func TestDiscardPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var discarded []int
		h := &hedge.Hedge[int]{After: time.Second, Max: 2, Ratio: 2, Discard: func(v int) {
			discarded = append(discarded, v)
			panic("closed twice")
		}}
		var calls atomic.Int32
		v, err := hedge.Value(t.Context(), h, func(context.Context) (int, error) {
			n := int(calls.Add(1))
			timer := time.NewTimer([]time.Duration{5 * time.Second, 4 * time.Second, 2 * time.Second}[n-1])
			<-timer.C // deaf: each succeeds
			return n, nil
		})
		if slices.Sort(discarded); v != 3 || err != nil || !slices.Equal(discarded, []int{1, 2}) {
			t.Errorf("%d, %v, and %v discarded; want the third attempt's, and the others discarded", v, err, discarded)
		}
	})
}

func TestAllocations(t *testing.T) {
	ctx := t.Context()
	f := func(context.Context) (int, error) { return 1, nil }
	var young hedge.Hedge[int] // knows too few latencies
	fixed := hedge.Hedge[int]{After: time.Hour}
	if n := testing.AllocsPerRun(18, func() { _, _ = hedge.Value(ctx, &young, f) }); n != 0 {
		t.Errorf("a call that cannot be hedged: %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = hedge.Value(ctx, &fixed, f) }); n > 6 {
		t.Errorf("a call that ends before its hedge: %v allocations", n)
	}
}

func BenchmarkValue(b *testing.B) {
	ctx := b.Context()
	f := func(context.Context) (int, error) { return 1, nil }
	for name, h := range map[string]*hedge.Hedge[int]{"fixed": {After: time.Hour}, "percentile": {Min: time.Hour}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = hedge.Value(ctx, h, f)
			}
		})
	}
}

func Example() {
	lookups := hedge.Hedge[string]{After: 20 * time.Millisecond} // one for all calls
	lookups.Observe = func(_ context.Context, e hedge.Event) { fmt.Println("attempt", e.Attempt, e.Kind) }

	var replica atomic.Int32
	v, err := hedge.Value(context.Background(), &lookups, func(ctx context.Context) (string, error) {
		if replica.Add(1) == 1 {
			<-ctx.Done() // the first replica hangs
			return "", context.Cause(ctx)
		}
		return "from the second replica", nil
	})
	fmt.Println(v, err)
	// Output:
	// attempt 2 sent
	// attempt 2 won
	// from the second replica <nil>
}
