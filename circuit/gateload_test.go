package circuit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Calls that wait when a gate is reset are not admitted at once, since the service may not
// stand a herd: a line takes two seconds, and none of its calls is refused.
func TestALineGoesSlowlyAfterAReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := gated(t, Config{Gate: Wait})
		limitedAt(t, b)
		var calls atomic.Int64
		var down atomic.Bool
		down.Store(true)
		var all sync.WaitGroup
		for range 400 {
			all.Go(func() {
				err := b.Do(t.Context(), func(context.Context) error {
					if down.Load() {
						return errDown
					}
					calls.Add(1)
					return nil
				})
				if err != nil && !errors.Is(err, errDown) {
					t.Errorf("a caller in line was refused: %v", err)
				}
			})
			pause(t.Context(), time.Millisecond)
		}
		down.Store(false)
		b.Reset()
		pause(t.Context(), 200*time.Millisecond)
		if n := calls.Load(); n > 60 {
			t.Errorf("of 400 in line %d went in the first 200ms after the reset, want about 40", n)
		}
		pause(t.Context(), 2200*time.Millisecond)
		if n := b.Metrics().Waiting; n > 0 {
			t.Errorf("%d callers still wait 2.4s after the reset", n)
		}
		all.Wait()
	})
}

// A service that never responds limits the gate even if no attempt has a timeout: attempts
// that run for an eighth of their caller's time are late. A call that began in health and
// succeeds later does not lift the limit.
func TestAServiceThatNeverRespondsLimitsAGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := gated(t, Config{Gate: FailFast})
		var calls sync.WaitGroup
		begun := time.Now()
		calls.Go(func() {
			_ = b.Do(t.Context(), func(ctx context.Context) error { pause(ctx, 4*time.Second); return nil })
			if state := b.State(); state == Closed {
				t.Errorf("%v after the first call the breaker is %v", time.Since(begun), state)
			}
		})
		for range 100 {
			calls.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				_ = b.Do(ctx, func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) })
			})
			pause(t.Context(), 20*time.Millisecond)
		}
		if m := b.Metrics(); m.State == Closed || m.Reason.Cause() != Overloaded || m.Rejected == 0 {
			t.Errorf("after 2s the breaker is %v, because of %v, and has refused %d calls", m.State, m.Reason, m.Rejected)
		}
		calls.Wait()
	})
}

// A service whose calls take long from the first on is healthy. Each call was late to a gate that
// was new, its success was not recorded, and so the gate was limited for ever: with FailFast most
// calls were refused, though all that were made succeeded.
func TestCallsThatTakeLongAreNoTrouble(t *testing.T) {
	for _, mode := range []GateMode{Wait, FailFast} {
		for _, took := range []time.Duration{4 * time.Second, 10 * time.Second, 20 * time.Minute} {
			for _, callers := range []int{1, 2, 6} {
				synctest.Test(t, func(t *testing.T) {
					b := New("s", quiet(Config{Gate: mode}))
					var all sync.WaitGroup
					for range callers {
						all.Go(func() {
							for range 12 {
								if err := b.Do(t.Context(), func(ctx context.Context) error { pause(ctx, took); return nil }); err != nil {
									t.Errorf("%v, %d callers of %v: %v", mode, callers, took, err)
								}
							}
						})
					}
					all.Wait()
					if m := b.Metrics(); m.Trips > 0 {
						t.Errorf("%v, %d callers of %v: limited %d times, because of %v", mode, callers, took, m.Trips, m.Reason)
					}
				})
			}
		}
	}
}

// A process that has seen a few short calls learns that others take long: the limit ends
// when one has succeeded.
func TestAColdGateLearnsThatCallsTakeLong(t *testing.T) {
	for _, mode := range []GateMode{Wait, FailFast} {
		synctest.Test(t, func(t *testing.T) {
			b := New("s", quiet(Config{Gate: mode}))
			call := func(took time.Duration) {
				t.Helper()
				if err := b.Do(t.Context(), func(ctx context.Context) error { pause(ctx, took); return nil }); err != nil {
					t.Error(err)
				}
			}
			for range 3 {
				call(20 * time.Millisecond)
			}
			for range 12 {
				call(10 * time.Second)
			}
			if m := b.Metrics(); m.Limited || m.Trips > 1 {
				t.Errorf("%v: limited %d times, and the breaker is %v because of %v", mode, m.Trips, m.State, m.Reason)
			}
		})
	}
}

// Workers that call again when they have a response make the demand themselves:
// while a service is down they make no demand. A pool used to stay at a fraction of what it
// does in health, eight workers for 45 s after 5 s of an outage.
func TestAPoolOfWorkersIsBackSoonAfterAnOutage(t *testing.T) {
	for _, p := range []pool{
		{workers: 1},
		{workers: 8},
		{workers: 50},
		{workers: 8, patience: 2 * time.Second},
		{workers: 50, patience: 2 * time.Second},
		{workers: 2, processes: 2},
		{workers: 8, processes: 2},
		{workers: 50, processes: 2},
		{workers: 8, down: 1},
		{workers: 50, down: 1, patience: 2 * time.Second},
		{workers: 8, processes: 2, down: 1},
		{workers: 8, late: 9 * time.Millisecond},
	} {
		t.Run(fmt.Sprintf("%+v", p), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { p.recovers(t) }) })
	}
}

// A pool is workers that call a service for 30 s, which is down until the tenth.
type pool struct {
	workers   int           // of each process
	processes int           // that share the breaker; 0 means one
	down      int           // the second from which the service is down; 0 means 6
	patience  time.Duration // of a call; 0 means that it has no deadline
	late      time.Duration // by which a client with little of a processor learns of each fourth response, of a fast service
}

func (p pool) recovers(t *testing.T) {
	t.Helper()
	start := time.Now()
	var done [30]atomic.Int32 // calls in each second
	var calls atomic.Int32
	call := func(ctx context.Context) error {
		switch {
		case p.late == 0:
			pause(ctx, 20*time.Millisecond)
		case calls.Add(1)%4 == 0:
			pause(ctx, time.Millisecond+p.late)
		default:
			pause(ctx, time.Millisecond)
		}
		second := int(time.Since(start) / time.Second)
		if second+1 >= cmp.Or(p.down, 6) && second < 10 {
			return errDown
		}
		done[min(second, 29)].Add(1)
		return nil
	}
	config := Config{Gate: Wait}
	if p.processes > 0 {
		config.Store = &Memory{}
	}
	var last *Breaker
	var all sync.WaitGroup
	for range max(p.processes, 1) {
		b := New("s", quiet(config))
		last = b
		for range p.workers {
			all.Go(func() {
				for time.Since(start) < 30*time.Second {
					ctx, cancel := context.WithTimeout(t.Context(), cmp.Or(p.patience, time.Hour))
					_ = b.Do(ctx, call)
					cancel()
					pause(t.Context(), 100*time.Millisecond)
				}
			})
		}
	}
	all.Wait()
	want := 7 * p.workers * max(p.processes, 1) // 8 in health
	if got := int(done[28].Load()); got < want || last.State() != Closed {
		t.Errorf("%v: %d calls in the last second but one, want %d", last, got, want)
	}
}

// Workers that call again at once are back at once: in the fourth second after 25 s of an outage they make the
// calls of a second before it, though a sixth of their calls fails at all times. Eight were back after 8 s, and
// after 11 to 35 s on a cell that processes may share.
func TestWorkersWithoutAPauseAreBackAtOnce(t *testing.T) {
	for _, workers := range []int{1, 8, 64} {
		for _, shared := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				config := Config{Gate: Wait}
				if shared {
					config.Store = &Memory{}
				}
				b := New("s", quiet(config))
				start := time.Now()
				var done [40]atomic.Int32 // calls that succeeded in each second
				var calls atomic.Int32
				call := func(ctx context.Context) error {
					if calls.Add(1)%6 == 0 {
						return errDown
					}
					pause(ctx, 20*time.Millisecond)
					second := int(time.Since(start) / time.Second)
					if second >= 5 && second < 30 {
						return errDown
					}
					done[second].Add(1)
					return nil
				}
				var all sync.WaitGroup
				for range workers {
					all.Go(func() {
						for time.Since(start) < 35*time.Second {
							if b.Do(t.Context(), call) != nil {
								pause(t.Context(), 3*time.Millisecond)
							}
						}
					})
				}
				all.Wait()
				if got, want := done[33].Load(), done[3].Load(); 10*got < 9*want || b.State() != Closed {
					t.Errorf("%d workers, shared %v: %d calls in the fourth second after the outage, %d before it; %v", workers, shared, got, want, b)
				}
			})
		}
	}
}

// Calls without a timeout are timed until a gate knows how long they take, including those
// that are in flight then: a base of the first ones alone would be that of the short ones.
// A watch ends with its call: calls that had succeeded used to be reported as late, and
// limited the gate of a healthy service.
func TestCallsTimedTogetherTeachTogether(t *testing.T) {
	for _, name := range []string{"Do", "Acquire"} {
		synctest.Test(t, func(t *testing.T) {
			limits := 0
			b := New("s", Config{Gate: Wait, Observe: func(context.Context, Transition) { limits++ }})
			var all sync.WaitGroup
			for i := range 60 {
				all.Go(func() {
					took := time.Duration(i+1) * 10 * time.Millisecond
					if name == "Do" {
						_ = b.Do(t.Context(), func(ctx context.Context) error { pause(ctx, took); return nil })
						return
					}
					p, _ := b.Acquire()
					pause(t.Context(), took)
					p.Success()
				})
			}
			all.Wait()
			if base := b.gateOf(b.cell.Load()).Base(); base < 250*time.Millisecond {
				t.Errorf("%s: the base is %v, of calls that take 305 ms on average and at least 10", name, base)
			}
			pause(t.Context(), time.Minute)
			if n := len(b.gate.watches.running); n != 0 || limits != 0 {
				t.Errorf("%s: %d calls are watched that have ended, and the gate was limited or lifted %d times", name, n, limits)
			}
		})
	}
}
