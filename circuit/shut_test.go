package circuit_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
)

// waitsAt says how calls come to wait: a breaker's settings, and how many failures limit
// its gate.
var waitsAt = map[string]struct {
	config   circuit.Config
	failures int
}{
	"the gate":       {circuit.Config{Gate: circuit.Wait}, 10},
	"the rate":       {circuit.Config{Rate: 10}, 0},
	"a place":        {circuit.Config{Concurrency: 1}, 0},
	"place and rate": {circuit.Config{Concurrency: 20, Rate: 1}, 0},
	"place and gate": {circuit.Config{Concurrency: 20, Gate: circuit.Wait}, 10},
	"all three":      {circuit.Config{Concurrency: 20, Rate: 10, Gate: circuit.Wait}, 10},
}

// A breaker that is tripped or isolated refuses the calls that wait at once, wherever they
// wait. They used to keep waiting; and a gate admitted them.
func TestAShutBreakerRefusesWhoWaits(t *testing.T) {
	for where, w := range waitsAt {
		for how, shut := range map[string]func(*circuit.Breaker){"trip": (*circuit.Breaker).Trip, "isolate": (*circuit.Breaker).Isolate} {
			t.Run(where+"/"+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { refusesWhoWaits(t, w.config, w.failures, 0, shut) })
			})
		}
	}
}

func refusesWhoWaits(t *testing.T, c circuit.Config, failures int, soon time.Duration, shut func(*circuit.Breaker)) {
	t.Helper()
	const callers = 100
	c.Observe = func(context.Context, circuit.Transition) {}
	b := circuit.New("x", c)
	for range failures {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		_ = b.Do(ctx, func(context.Context) error { return retry.Transient(errors.New("down")) })
		cancel()
	}
	end, held := make(chan struct{}), new(sync.WaitGroup)
	if failures == 0 {
		held.Go(func() { _ = b.Do(t.Context(), func(context.Context) error { <-end; return nil }) })
		synctest.Wait()
	}
	var all sync.WaitGroup
	var refused, called atomic.Int32
	for range callers {
		all.Go(func() {
			err := b.Do(t.Context(), func(context.Context) error { called.Add(1); return nil })
			if _, open := errors.AsType[*circuit.OpenError](err); open {
				refused.Add(1)
			}
		})
	}
	synctest.Wait()
	begin := time.Now()
	shut(b)
	all.Wait()
	if refused.Load() != callers || called.Load() != 0 || time.Since(begin) > soon {
		t.Errorf("%d of %d are refused after %v, and %d called; want all at once", refused.Load(), callers, time.Since(begin), called.Load())
	}
	close(end)
	held.Wait()
	b.Reset()
	begin = time.Now()
	if err := b.Do(t.Context(), func(context.Context) error { return nil }); err != nil || time.Since(begin) > time.Second {
		t.Errorf("the first call after it: %v after %v, want success within an interval of the rate", err, time.Since(begin))
	}
	if m := b.Metrics(); m.Waiting != 0 || m.InFlight != 0 || m.Queued != 0 {
		t.Errorf("%d wait, %d are in flight, %d queue for the rate, want none", m.Waiting, m.InFlight, m.Queued)
	}
}

// The same through another breaker of the same name and store, as another part of the
// process has: at once, or when the line of a gate looks again.
func TestAnotherBreakerRefusesWhoWaits(t *testing.T) {
	for where, w := range waitsAt {
		t.Run(where, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w.config.Store = new(circuit.Memory)
				other := circuit.New("x", circuit.Config{Store: w.config.Store, Gate: w.config.Gate, Observe: func(context.Context, circuit.Transition) {}})
				refusesWhoWaits(t, w.config, w.failures, 100*time.Millisecond, func(*circuit.Breaker) { other.Isolate() })
			})
		})
	}
}

// Calls that wait for a place are refused when the results of other calls open the
// breaker.
func TestAnOpeningRefusesWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := circuit.New("x", circuit.Config{Rate: 10, Burst: 5, Observe: func(context.Context, circuit.Transition) {}})
		var all sync.WaitGroup
		var refused atomic.Int32
		for range 50 {
			all.Go(func() {
				err := b.Do(t.Context(), func(ctx context.Context) error {
					_ = sleep(ctx, 50*time.Millisecond)
					return retry.Transient(errors.New("down"))
				})
				if _, open := errors.AsType[*circuit.OpenError](err); open {
					refused.Add(1)
				}
			})
		}
		begin := time.Now()
		all.Wait()
		if took := time.Since(begin); took > 200*time.Millisecond || refused.Load() < 40 {
			t.Errorf("%d were refused, the last after %v; want nearly all, as soon as the fifth has failed", refused.Load(), took)
		}
	})
}

// A call that its breaker would refuse does not wait for a place first: with a gate that
// fails fast, or while a probe is in flight.
func TestNoCallWaitsForAPlaceToBeRefused(t *testing.T) {
	for _, c := range []circuit.Config{{Gate: circuit.FailFast}, {}, {Gate: circuit.FailFast, Rate: 1000, Burst: 10}} {
		t.Run(fmt.Sprint(c.Gate, c.Rate), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c.Concurrency, c.Observe = 1, func(context.Context, circuit.Transition) {}
				b := circuit.New("x", c)
				for range 10 {
					_ = b.Do(t.Context(), func(context.Context) error { return retry.Transient(errors.New("down")) })
				}
				_ = sleep(t.Context(), time.Minute)
				end, probe := make(chan struct{}), make(chan error)
				go func() { probe <- b.Do(t.Context(), func(context.Context) error { <-end; return nil }) }()
				synctest.Wait()
				begin := time.Now()
				err := b.Do(t.Context(), func(context.Context) error { return nil })
				if _, open := errors.AsType[*circuit.OpenError](err); !open || time.Since(begin) != 0 {
					t.Errorf("beside a probe that hangs: %v after %v, want the refusal at once", err, time.Since(begin))
				}
				close(end)
				if err := <-probe; err != nil {
					t.Error(err)
				}
				allFree(t, b, 1)
			})
		})
	}
}

// Calls with a deadline that is centuries away wait. They used to be refused at once.
func TestFarDeadlinesWait(t *testing.T) {
	deadlines := map[string]func(context.Context) (context.Context, context.CancelFunc, time.Duration){
		"year 9999": func(ctx context.Context) (context.Context, context.CancelFunc, time.Duration) {
			ctx, cancel := context.WithDeadline(ctx, time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC))
			return ctx, cancel, 0
		},
		"longest timeout": func(ctx context.Context) (context.Context, context.CancelFunc, time.Duration) {
			ctx, cancel := context.WithTimeout(ctx, math.MaxInt64)
			return ctx, cancel, 0
		},
		"longest MaxElapsed": func(ctx context.Context) (context.Context, context.CancelFunc, time.Duration) {
			ctx, cancel := context.WithCancel(ctx)
			return ctx, cancel, math.MaxInt64
		},
	}
	for where, w := range waitsAt {
		for when, deadline := range deadlines {
			t.Run(where+"/"+when, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := w.config
					c.Observe = func(context.Context, circuit.Transition) {}
					b := circuit.New("x", c)
					for range w.failures {
						_ = b.Do(t.Context(), func(context.Context) error { return retry.Transient(errors.New("down")) })
					}
					var all sync.WaitGroup
					for range 3 {
						all.Go(func() {
							ctx, cancel, elapsed := deadline(t.Context())
							defer cancel()
							err := retry.Do(ctx, &retry.Policy{Breaker: b, MaxElapsed: elapsed, Observe: func(context.Context, retry.Event) {}},
								func(ctx context.Context) error { return sleep(ctx, 40*time.Millisecond) })
							if err != nil {
								t.Error(err)
							}
						})
					}
					all.Wait()
				})
			})
		}
	}
}

// A gate that fails fast recovers even while calls queue for the rate. Calls without a
// turn used to take each probe and return it, so that no probe was left for the calls
// whose turn came.
func TestAGateThatFailsFastRecoversWithARate(t *testing.T) {
	for _, rate := range []float64{0.5, 2, 10} {
		t.Run(fmt.Sprint(rate), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := circuit.New("x", circuit.Config{Gate: circuit.FailFast, Rate: rate, Burst: 10, Observe: func(context.Context, circuit.Transition) {}})
				var down atomic.Bool
				var all sync.WaitGroup
				begin, outage, lifted := time.Now(), time.Minute, time.Duration(0)
				for i := range 20 {
					all.Go(func() {
						_ = sleep(t.Context(), time.Duration(i)*7*time.Millisecond)
						for time.Since(begin) < 3*outage {
							ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
							_ = b.Do(ctx, func(ctx context.Context) error {
								if err := sleep(ctx, 5*time.Millisecond); err != nil || down.Load() {
									return retry.Transient(errors.New("down"))
								}
								return nil
							})
							cancel()
							_ = sleep(t.Context(), 100*time.Millisecond)
						}
					})
				}
				down.Store(true)
				_ = sleep(t.Context(), outage)
				if s := b.State(); s == circuit.Closed {
					t.Error("the outage has not limited the gate")
				}
				down.Store(false)
				for healed := time.Now(); lifted == 0 && time.Since(begin) < 3*outage; _ = sleep(t.Context(), 10*time.Millisecond) {
					if b.State() == circuit.Closed {
						lifted = time.Since(healed)
					}
				}
				all.Wait()
				if most := time.Duration(5 / rate * float64(time.Second)); lifted == 0 || lifted > most+time.Second {
					t.Errorf("the limit was lifted %v after the outage, want a few calls, %v", lifted, most)
				}
			})
		})
	}
}

// The turns of calls that stop waiting go to those that come later, in any order, even if
// one call keeps waiting. They used to be lost except the last.
func TestACrowdThatLeavesGivesItsTurnsBack(t *testing.T) {
	for _, stays := range []bool{false, true} {
		t.Run(fmt.Sprint("the last stays ", stays), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := circuit.New("x", circuit.Config{Rate: 1, Observe: func(context.Context, circuit.Transition) {}})
				nothing := func(context.Context) error { return nil }
				_ = b.Do(t.Context(), nothing)
				ctx, leave := context.WithCancel(t.Context())
				var all, last sync.WaitGroup
				for range 20 {
					all.Go(func() { _ = b.Do(ctx, nothing) })
				}
				synctest.Wait()
				begin := time.Now()
				var lastErr error
				if stays {
					last.Go(func() { lastErr = b.Do(t.Context(), nothing) })
					synctest.Wait()
				}
				leave()
				all.Wait()
				if n, want := b.Metrics().Queued, map[bool]int{false: 0, true: 1}[stays]; n != want {
					t.Errorf("%d wait, want %d", n, want)
				}
				for i := range 3 {
					if err := b.Do(t.Context(), nothing); err != nil || time.Since(begin) != time.Duration(i+1)*time.Second {
						t.Errorf("call %d after the crowd has left: %v after %v", i, err, time.Since(begin))
					}
				}
				if last.Wait(); stays && (lastErr != nil || time.Since(begin) != 21*time.Second) {
					t.Errorf("who stayed: %v after %v, want its own turn", lastErr, time.Since(begin))
				}
			})
		})
	}
}

// Any number of calls can stop waiting soon: returning a turn costs little.
func TestALargeCrowdLeaves(t *testing.T) {
	const callers = 20_000
	synctest.Test(t, func(t *testing.T) {
		b := circuit.New("x", circuit.Config{Rate: callers / 10, Observe: func(context.Context, circuit.Transition) {}})
		nothing := func(context.Context) error { return nil }
		_ = b.Do(t.Context(), nothing)
		ctx, leave := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for range callers {
			all.Go(func() { _ = b.Do(ctx, nothing) })
		}
		synctest.Wait()
		leave()
		all.Wait()
		begin := time.Now()
		if err := b.Do(t.Context(), nothing); err != nil || time.Since(begin) > time.Millisecond || b.Metrics().Queued != 0 {
			t.Errorf("the next call: %v after %v, %d still queue; want the first turn", err, time.Since(begin), b.Metrics().Queued)
		}
	})
}
