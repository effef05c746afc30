package patience_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/patience"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A guarded operation, and how often it was made and asked for.
type guarded struct {
	breaker *circuit.Breaker
	err     error // what it ends with
	asked   int
	made    int
}

func newGuarded(c circuit.Config) *guarded {
	c.FailureThreshold, c.Observe = 1, func(context.Context, circuit.Transition) {}
	return &guarded{breaker: circuit.New("x", c)}
}

func (g *guarded) do(ctx context.Context) error {
	g.asked++
	p := retry.Policy{Breaker: g.breaker, Classify: retry.Always, Observe: func(context.Context, retry.Event) {}}
	return retry.Do(ctx, &p, func(context.Context) error { g.made++; return g.err })
}

func (g *guarded) breakers() []*circuit.Breaker { return []*circuit.Breaker{g.breaker} }

func TestWaitsForAnOpenBreaker(t *testing.T) {
	for _, row := range []struct {
		name       string
		longest    time.Duration
		begin      func(*guarded)
		wantOpen   bool
		least, max time.Duration // how long it takes
	}{
		{"no patience", 0, func(g *guarded) { g.breaker.Trip() }, true, 0, 0},
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
				p := patience.Patience{Longest: row.longest}
				err := p.Do(t.Context(), g.breakers, g.do)
				_, open := errors.AsType[*circuit.OpenError](err)
				if open != row.wantOpen || !open && (err != nil || g.made != 1) {
					t.Errorf("%v, after %d calls", err, g.made)
				}
				if took := time.Since(begin); took < row.least || took > row.max {
					t.Errorf("took %v, want %v to %v", took, row.least, row.max)
				}
				if g.asked > 40 {
					t.Errorf("it asked for leave %d times", g.asked)
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
		for range 5 { // so many say it that the breaker believes it
			if p, err := g.breaker.Acquire(); err == nil {
				p.Throttled(2 * time.Minute)
			}
		}
		told := 0
		p := patience.Patience{Longest: time.Hour, Tell: func(patience.Refusal) { told++ }}
		if err := p.Do(t.Context(), g.breakers, g.do); err != nil || g.made != 1 || told != 1 {
			t.Errorf("%v, after %d calls, told %d times", err, g.made, told)
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
		p := patience.Patience{Longest: time.Hour}
		if err := p.Do(ctx, g.breakers, g.do); !errors.Is(err, why) {
			t.Errorf("%v, want the cause of its context", err)
		}
	})
}

func TestAnErrorIsNoRefusal(t *testing.T) {
	g := newGuarded(circuit.Config{})
	g.err = retry.Permanent(errors.New("no such thing"))
	p := patience.Patience{Longest: time.Hour}
	if err := p.Do(t.Context(), g.breakers, g.do); !errors.Is(err, g.err) || g.asked != 1 {
		t.Errorf("%v, asked %d times", err, g.asked)
	}
}

// A gate has its next probe within half a second, so a wait for it ends and begins
// often: people are told of that once in a while.
func TestWaitsForAGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuarded(circuit.Config{})
		g.breaker = circuit.New("x", circuit.Config{Gate: circuit.FailFast, Observe: func(context.Context, circuit.Transition) {}})
		once := retry.Policy{MaxAttempts: 1, Breaker: g.breaker, Classify: retry.Always, Observe: func(context.Context, retry.Event) {}}
		do := func(ctx context.Context) error {
			g.asked++
			return retry.Do(ctx, &once, func(context.Context) error { g.made++; return g.err })
		}
		g.err = errors.New("down")
		for g.breaker.State() == circuit.Closed {
			_ = do(t.Context()) // it limits the gate
		}
		g.asked, g.made = 0, 0
		time.AfterFunc(25*time.Second, func() { g.err = nil })
		begin, told := time.Now(), 0
		p := patience.Patience{Longest: time.Minute, Tell: func(patience.Refusal) { told++ }}
		err := p.Do(t.Context(), g.breakers, func(ctx context.Context) error {
			err := do(ctx)
			if errors.Is(err, g.err) && g.err != nil {
				return g.breaker.Do(ctx, func(context.Context) error { return nil }) // it is refused: the probe is out
			}
			return err
		})
		if err != nil || told > 3 {
			t.Errorf("%v, told %d times in %v", err, told, time.Since(begin))
		}
		if took := time.Since(begin); took > 27*time.Second || g.asked > 2*g.made+10 {
			t.Errorf("took %v, asked %d times for %d attempts", took, g.asked, g.made)
		}
	})
}

// Who waits for a rate asks when its turn would come, and not at all if that is too
// late.
func TestWaitsForARate(t *testing.T) {
	for longest, want := range map[time.Duration]time.Duration{time.Hour: time.Minute, time.Minute - 1: 0} {
		synctest.Test(t, func(t *testing.T) {
			g := newGuarded(circuit.Config{Rate: 1. / 60})
			_ = g.do(t.Context())
			begin := time.Now()
			p := patience.Patience{Longest: longest}
			err := p.Do(t.Context(), g.breakers, g.do)
			_, limited := errors.AsType[*circuit.LimitError](err)
			took := time.Since(begin)
			if limited != (want == 0) || took < want || took > want+100*time.Millisecond || g.asked > 3 {
				t.Errorf("patience of %v: %v after %v, asked %d times", longest, err, took, g.asked)
			}
		})
	}
}

// At a gate at which calls wait, an operation waits as long as it is to wait, by the gate
// and by Do together, and is then refused.
func TestHowLongAnOperationWaitsAtAGate(t *testing.T) {
	for name, tc := range map[string]struct {
		p           patience.Patience
		least, most time.Duration
		made        bool
	}{
		"less than to the next probe": {patience.Patience{Longest: 200 * time.Millisecond}, 190 * time.Millisecond, 210 * time.Millisecond, false},
		"as long as a delay":          {patience.Patience{AtGate: 200 * time.Millisecond}, 90 * time.Millisecond, 200 * time.Millisecond, false},
		"it is --wait that counts":    {patience.Patience{Longest: time.Minute, AtGate: 200 * time.Millisecond}, time.Second, 2500 * time.Millisecond, true},
		"to the next probe":           {patience.Patience{AtGate: time.Minute}, time.Second, 2500 * time.Millisecond, true},
		"as the library does":         {patience.Patience{}, time.Second, 2500 * time.Millisecond, true},
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

// For a place that a call of this very process has, an operation waits as long as that
// takes; for one of another process, no longer than it is told to.
func TestWaitsForAPlaceOfItsOwnProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuarded(circuit.Config{Concurrency: 1})
		holder, err := g.breaker.Acquire()
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(2*time.Minute, holder.Success)
		begin, p := time.Now(), patience.Patience{}
		if err := p.Do(t.Context(), g.breakers, g.do); err != nil || g.made != 1 || time.Since(begin) != 2*time.Minute {
			t.Errorf("%v, after %d calls and %v", err, g.made, time.Since(begin))
		}
		others := func(context.Context) error { return &circuit.LimitError{Name: "x", Limit: circuit.ConcurrencyLimit} }
		begin, p.Longest = time.Now(), time.Minute
		err = p.Do(t.Context(), g.breakers, others)
		if _, full := errors.AsType[*circuit.LimitError](err); !full || time.Since(begin) != time.Minute {
			t.Errorf("%v after %v, want the limit after a minute", err, time.Since(begin))
		}
	})
}

// The patience of an operation begins when it first has to wait for its turn, and not
// when it first takes one.
func TestPatienceForARateBeginsWithTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuarded(circuit.Config{Rate: 1. / 60})
		begin := time.Now()
		p := patience.Patience{Longest: 30 * time.Second}
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
