package wait_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/wait"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A guarded operation counts how often it was called, and how often it was made.
type guarded struct {
	breaker *circuit.Breaker
	err     error // what it ends with
	calls   int
	made    int
}

func newGuarded(c circuit.Config) *guarded {
	c.FailureThreshold, c.Observe = 1, func(context.Context, circuit.Transition) {}
	return &guarded{breaker: circuit.New("x", c)}
}

func (g *guarded) do(ctx context.Context) error {
	g.calls++
	p := retry.Policy{Breaker: g.breaker, Classify: retry.Always, Observe: func(context.Context, retry.Event) {}}
	return retry.Do(ctx, &p, func(context.Context) error { g.made++; return g.err })
}

func (g *guarded) breakers() []*circuit.Breaker { return []*circuit.Breaker{g.breaker} }

func TestWaitsForAnOpenBreaker(t *testing.T) {
	for _, row := range []struct {
		name        string
		limit       time.Duration
		begin       func(*guarded)
		wantOpen    bool
		least, most time.Duration // how long it takes
	}{
		{"no wait", 0, func(g *guarded) { g.breaker.Trip() }, true, 0, 0},
		{"until the probe", time.Minute, func(g *guarded) { g.breaker.Trip() }, false, 10 * time.Second, 10*time.Second + 200*time.Millisecond},
		{"not long enough", 3 * time.Second, func(g *guarded) { g.breaker.Trip() }, true, 3 * time.Second, 3 * time.Second},
		{"isolated", 3 * time.Second, func(g *guarded) { g.breaker.Isolate() }, true, 3 * time.Second, 3 * time.Second},
		{"manual reset", time.Minute, func(g *guarded) {
			g.breaker.Isolate()
			time.AfterFunc(5*time.Second, g.breaker.Reset)
		}, false, 5 * time.Second, 5*time.Second + 200*time.Millisecond},
		{"another's probe closes it", time.Minute, func(g *guarded) {
			p := g.probe(t)
			time.AfterFunc(4*time.Second, p.Success)
		}, false, 14 * time.Second, 14*time.Second + 200*time.Millisecond},
		{"another's probe fails", time.Minute, func(g *guarded) {
			p := g.probe(t)
			time.AfterFunc(4*time.Second, p.Failure)
		}, false, 24 * time.Second, 24*time.Second + 200*time.Millisecond},
		{"another's probe is given up", time.Minute, func(g *guarded) {
			p := g.probe(t)
			time.AfterFunc(4*time.Second, p.Cancel)
		}, false, 14 * time.Second, 15*time.Second + 200*time.Millisecond},
		{"another's probe never comes back", time.Minute, func(g *guarded) { g.probe(t) }, false, 40 * time.Second, 41 * time.Second},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGuarded(circuit.Config{RecoveryTimeout: 10 * time.Second, ProbeLease: 30 * time.Second})
				begin := time.Now()
				row.begin(g)
				p := wait.Waiter{Max: row.limit}
				err := p.Do(t.Context(), g.breakers, g.do)
				_, open := errors.AsType[*circuit.OpenError](err)
				if open != row.wantOpen || !open && (err != nil || g.made != 1) {
					t.Errorf("%v, after %d calls", err, g.made)
				}
				if took := time.Since(begin); took < row.least || took > row.most {
					t.Errorf("took %v, want %v to %v", took, row.least, row.most)
				}
				if g.calls > 40 {
					t.Errorf("it was called %d times", g.calls)
				}
			})
		})
	}
}

// probe trips the breaker and takes its first probe.
func (g *guarded) probe(t *testing.T) circuit.Permit {
	t.Helper()
	g.breaker.Trip()
	timer := time.NewTimer(10 * time.Second)
	<-timer.C
	p, err := g.breaker.Acquire()
	if err != nil || !p.Probe() {
		t.Fatalf("no probe: %v", err)
	}
	return p
}

func TestWaitsForANotBeforeInstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuarded(circuit.Config{})
		begin := time.Now()
		for range 5 { // as many responses as make the breaker hold all calls
			if p, err := g.breaker.Acquire(); err == nil {
				p.Throttled(2 * time.Minute)
			}
		}
		reports := 0
		p := wait.Waiter{Max: time.Hour, OnWait: func(wait.Refusal) { reports++ }}
		if err := p.Do(t.Context(), g.breakers, g.do); err != nil || g.made != 1 || reports != 1 {
			t.Errorf("%v, after %d calls, %d reports", err, g.made, reports)
		}
		if took := time.Since(begin); took < 2*time.Minute || took > 2*time.Minute+16*time.Second {
			t.Errorf("took %v, want 2m and up to 15s more", took)
		}
	})
}

func TestTheCallerEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuarded(circuit.Config{})
		g.breaker.Isolate()
		why := errors.New("why")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(why) })
		p := wait.Waiter{Max: time.Hour}
		if err := p.Do(ctx, g.breakers, g.do); !errors.Is(err, why) {
			t.Errorf("%v, want the cause of its context", err)
		}
	})
}

func TestAnErrorIsNoRefusal(t *testing.T) {
	g := newGuarded(circuit.Config{})
	g.err = retry.Permanent(errors.New("no such thing"))
	p := wait.Waiter{Max: time.Hour}
	if err := p.Do(t.Context(), g.breakers, g.do); !errors.Is(err, g.err) || g.calls != 1 {
		t.Errorf("%v, %d calls", err, g.calls)
	}
}

// A gate has its next probe within half a second, so a wait for it ends and begins
// often. It is reported once in 10 seconds.
func TestWaitsForAGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuarded(circuit.Config{})
		g.breaker = circuit.New("x", circuit.Config{Gate: circuit.FailFast, Observe: func(context.Context, circuit.Transition) {}})
		once := retry.Policy{MaxAttempts: 1, Breaker: g.breaker, Classify: retry.Always, Observe: func(context.Context, retry.Event) {}}
		recovers, down := time.Now().Add(25*time.Second), errors.New("down")
		do := func(ctx context.Context) error {
			g.calls++
			return retry.Do(ctx, &once, func(context.Context) error {
				g.made++
				if time.Now().Before(recovers) {
					return down
				}
				return nil
			})
		}
		for g.breaker.State() == circuit.Closed {
			_ = do(t.Context()) // it limits the gate
		}
		g.calls, g.made = 0, 0
		begin, reports := time.Now(), 0
		p := wait.Waiter{Max: time.Minute, OnWait: func(wait.Refusal) { reports++ }}
		err := p.Do(t.Context(), g.breakers, func(ctx context.Context) error {
			err := do(ctx)
			if errors.Is(err, down) {
				return g.breaker.Do(ctx, func(context.Context) error { return nil }) // it is refused: another probe is in flight
			}
			return err
		})
		if err != nil || reports > 3 {
			t.Errorf("%v, %d reports in %v", err, reports, time.Since(begin))
		}
		if took := time.Since(begin); took > 27*time.Second || g.calls > 2*g.made+10 {
			t.Errorf("took %v, %d calls for %d attempts", took, g.calls, g.made)
		}
	})
}

// An operation that waits for a rate is repeated when its turn comes, and not at all
// if that is too late.
func TestWaitsForARate(t *testing.T) {
	for most, want := range map[time.Duration]time.Duration{time.Hour: time.Minute, time.Minute - 1: 0} {
		synctest.Test(t, func(t *testing.T) {
			g := newGuarded(circuit.Config{Rate: 1. / 60})
			_ = g.do(t.Context())
			begin := time.Now()
			p := wait.Waiter{Max: most}
			err := p.Do(t.Context(), g.breakers, g.do)
			_, limited := errors.AsType[*circuit.LimitError](err)
			took := time.Since(begin)
			if limited != (want == 0) || took < want || took > want+100*time.Millisecond || g.calls > 3 {
				t.Errorf("at most %v: %v after %v, %d calls", most, err, took, g.calls)
			}
		})
	}
}

// While a server has asked to come back later, it gets no request; and none at all if that is
// too late. It used to get twelve a second.
func TestWaitsAfterRetryAfter(t *testing.T) {
	for most, want := range map[time.Duration]int{time.Hour: 2, 50*time.Minute - 1: 1} {
		synctest.Test(t, func(t *testing.T) {
			g := newGuarded(circuit.Config{})
			begin, p := time.Now(), wait.Waiter{Max: most}
			err := p.Do(t.Context(), g.breakers, func(ctx context.Context) error {
				g.err = nil
				if time.Since(begin) < 50*time.Minute {
					g.err = retry.After(errors.New("busy"), 50*time.Minute)
				}
				return g.do(ctx)
			})
			if took := time.Since(begin); (err == nil) != (want == 2) || g.made != want || want == 1 && took > 0 {
				t.Errorf("at most %v: %v after %v and %d calls", most, err, took, g.made)
			}
		})
	}
}

// At a gate at which calls wait, the waits of an operation, in the gate and in Do
// together, last as long as Max or AtGate says. Then it is refused.
func TestHowLongAnOperationWaitsAtAGate(t *testing.T) {
	for name, tc := range map[string]struct {
		p           wait.Waiter
		least, most time.Duration
		made        bool
	}{
		"less than to the next probe": {wait.Waiter{Max: 200 * time.Millisecond}, 190 * time.Millisecond, 210 * time.Millisecond, false},
		"as long as a delay":          {wait.Waiter{AtGate: 200 * time.Millisecond}, 90 * time.Millisecond, 200 * time.Millisecond, false},
		"Max counts, not AtGate":      {wait.Waiter{Max: time.Minute, AtGate: 200 * time.Millisecond}, time.Second, 2500 * time.Millisecond, true},
		"to the next probe":           {wait.Waiter{AtGate: time.Minute}, time.Second, 2500 * time.Millisecond, true},
		"as the library does":         {wait.Waiter{}, time.Second, 2500 * time.Millisecond, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGuarded(circuit.Config{})
				g.breaker = circuit.New("x", circuit.Config{Gate: circuit.Wait, Observe: func(context.Context, circuit.Transition) {}})
				late := func(context.Context) error { return context.DeadlineExceeded }
				for g.breaker.State() == circuit.Closed { // of overloads the probes are rare
					_ = g.breaker.Do(t.Context(), late)
				}
				begin, made := time.Now(), false
				err := tc.p.Do(t.Context(), g.breakers, func(ctx context.Context) error {
					return g.breaker.Do(ctx, func(context.Context) error { made = true; return nil })
				})
				if took := time.Since(begin); took < tc.least || took > tc.most || made != tc.made || made != (err == nil) {
					t.Errorf("%v after %v, and the call was made: %v", err, took, made)
				}
			})
		})
	}
}

// For a place that a call of this process holds, an operation waits as long as that
// call takes; for a place of another process, no longer than Max.
func TestWaitsForAPlaceOfItsOwnProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuarded(circuit.Config{Concurrency: 1})
		holder, err := g.breaker.Acquire()
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(2*time.Minute, holder.Success)
		begin, p := time.Now(), wait.Waiter{}
		if err := p.Do(t.Context(), g.breakers, g.do); err != nil || g.made != 1 || time.Since(begin) != 2*time.Minute {
			t.Errorf("%v, after %d calls and %v", err, g.made, time.Since(begin))
		}
		others := func(context.Context) error { return &circuit.LimitError{Name: "x", Limit: circuit.ConcurrencyLimit} }
		begin, p.Max = time.Now(), time.Minute
		err = p.Do(t.Context(), g.breakers, others)
		if _, full := errors.AsType[*circuit.LimitError](err); !full || time.Since(begin) != time.Minute {
			t.Errorf("%v after %v, want the limit after a minute", err, time.Since(begin))
		}
	})
}

// Max counts from when an operation first has to wait for its turn, and not from when
// it first takes one.
func TestMaxForARateBeginsWithTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuarded(circuit.Config{Rate: 1. / 60})
		begin := time.Now()
		p := wait.Waiter{Max: 30 * time.Second}
		err := p.Do(t.Context(), g.breakers, func(ctx context.Context) error {
			if err := g.do(ctx); err != nil {
				return err
			}
			<-time.After(40 * time.Second)
			return g.do(ctx)
		})
		if took := time.Since(begin).Round(time.Second); err != nil || took != time.Minute || g.made != 2 {
			t.Errorf("%v after %v and %d calls", err, took, g.made)
		}
	})
}
