package circuit

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/gate"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
)

// pause blocks for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// gated returns a breaker with a gate that is warm: a call takes 20 ms.
func gated(t *testing.T, c Config) *Breaker {
	t.Helper()
	b := New("s", quiet(c))
	if b.err != nil {
		t.Fatal(b.err)
	}
	for range 20 {
		if err := b.Do(t.Context(), func(ctx context.Context) error { pause(ctx, 20*time.Millisecond); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// limitedAt limits the gate of b by failures.
func limitedAt(t *testing.T, b *Breaker) {
	t.Helper()
	for range 10 {
		_ = b.Do(t.Context(), func(context.Context) error { return errDown })
	}
	if b.State() != Open {
		t.Fatalf("after 10 failures in a row the breaker is %v", b.State())
	}
}

// A caller comes to a gate at an instant, and waits for so long.
type caller struct {
	at, patience, took time.Duration
}

// An end is what became of a caller.
type end struct {
	caller   int
	at       time.Duration
	admitted bool
}

// lineAlone plays the callers against the line and the gate alone, by a loop over
// instants, as a simulation does. tie is true if two things happen at one instant,
// whose order is then anybody's.
func lineAlone(g gate.Gate, start int64, callers []caller) (ends []end, tie bool) {
	type event struct {
		at     int64
		caller int         // -1: the line looks
		permit gate.Permit // of one that ends
		ends   bool
	}
	var line gate.Line
	waiters := make([]gate.Waiter, len(callers))
	var events []event
	for i, c := range callers {
		events = append(events, event{at: start + int64(c.at), caller: i})
	}
	finish := func(i int, now int64, p gate.Permit, ok bool) {
		ends = append(ends, end{i, time.Duration(now - start), ok})
		if ok {
			events = append(events, event{at: now + int64(callers[i].took), caller: i, permit: p, ends: true})
		}
	}
	look, last := int64(math.MaxInt64), int64(math.MinInt64)
	for {
		i := -1
		e := event{at: look, caller: -1}
		for j := range events {
			if events[j].at < e.at {
				i, e = j, events[j]
			}
		}
		if e.at == math.MaxInt64 {
			return ends, tie
		}
		tie = tie || e.at == last || i >= 0 && e.at == look
		last = e.at
		if i >= 0 {
			events = slices.Delete(events, i, i+1)
		}
		looks := true
		switch {
		case e.ends:
			if g.Done(e.permit, gate.Success, e.at); g.Limited() {
				line.Succeeded(e.at)
			}
			looks = line.Len() > 0
		case e.caller >= 0:
			w := &waiters[e.caller]
			w.Tag = e.caller
			if gate.Healthy(g.Words[0].Load()) {
				finish(e.caller, e.at, gate.Untimed(g.Words[0].Load()), true)
				looks = false
			} else if entry := line.Enter(g, w, e.at, e.at+int64(callers[e.caller].patience), true, 0); entry != gate.Waiting {
				finish(e.caller, e.at, w.Permit, entry == gate.Admitted)
				looks = false
			}
		}
		if !looks {
			continue
		}
		for w := line.Step(g, e.at); w != nil; w = line.Step(g, e.at) {
			finish(w.Tag.(int), e.at, w.Permit, w.Admitted)
		}
		look = math.MaxInt64
		if at, ok := line.Next(g, e.at); ok {
			look = at
		}
	}
}

// The timers and goroutines of a breaker have the same effect as the line and the gate
// alone.
func TestAGateIsDrivenLikeItsLine(t *testing.T) {
	r := rand.New(rand.NewPCG(testseed.Of(t, 1), 0))
	compared := 0
	for range 20 {
		var callers []caller
		at := time.Duration(0)
		for i := range 200 {
			at += time.Duration(r.IntN(20_000_000)) + 1
			patience := 50*time.Millisecond + time.Duration(r.Int64N(int64(3*time.Second)))
			callers = append(callers, caller{at, patience, 20*time.Millisecond + time.Duration(7+i)}) // no two end at one instant
		}
		synctest.Test(t, func(t *testing.T) {
			b := gated(t, Config{Gate: Wait})
			limitedAt(t, b)
			words := new(gate.Words)
			for i := range words {
				words[i].Store(b.cell.Load().Gate[i].Load())
			}
			start := b.now()
			want, tie := lineAlone(gate.Gate{Words: words}, start, callers)
			if tie {
				return
			}
			compared++
			var mu sync.Mutex
			var got []end
			var calls sync.WaitGroup
			begun := time.Now()
			for i, c := range callers {
				calls.Go(func() {
					pause(t.Context(), c.at)
					ctx, cancel := context.WithTimeout(t.Context(), c.patience)
					defer cancel()
					_, p, err := b.begin(ctx)
					mu.Lock()
					got = append(got, end{i, time.Since(begun), err == nil})
					mu.Unlock()
					if err == nil {
						pause(t.Context(), c.took)
						p.Success()
					}
				})
			}
			calls.Wait()
			byCaller := func(a, b end) int { return a.caller - b.caller }
			slices.SortFunc(got, byCaller)
			slices.SortFunc(want, byCaller)
			if !slices.Equal(got, want) {
				t.Errorf("the breaker: %v\nthe line: %v", got, want)
			}
		})
	}
	if compared < 10 {
		t.Errorf("%d of 20 histories are without two events at one instant; want most", compared)
	}
}

func TestAGateThatIsLimited(t *testing.T) {
	for name, tc := range map[string]struct {
		config Config
		call   func(t *testing.T, b *Breaker) error
		want   string // of the error; "": none
		waits  bool
	}{
		"Acquire never waits": {Config{Gate: Wait}, func(_ *testing.T, b *Breaker) error { _, err := b.Acquire(); return err }, `"s" is open; next probe at`, false},
		"Allow never waits": {Config{Gate: Wait}, func(_ *testing.T, b *Breaker) error {
			if b.Allow() {
				return nil
			}
			return errDown
		}, errDown.Error(), false},
		"Do waits for a probe": {Config{Gate: Wait}, func(t *testing.T, b *Breaker) error {
			t.Helper()
			return b.Do(t.Context(), func(context.Context) error { return nil })
		}, "", true},
		"FailFast does not wait": {Config{Gate: FailFast}, func(t *testing.T, b *Breaker) error {
			t.Helper()
			return b.Do(t.Context(), func(context.Context) error { return nil })
		}, `"s" is open; next probe at`, false},
		"ObserveOnly lets pass, and does not wait": {Config{Gate: Wait, ObserveOnly: true}, func(t *testing.T, b *Breaker) error {
			t.Helper()
			return b.Do(t.Context(), func(context.Context) error { return nil })
		}, "", false},
		"Reset lifts": {Config{Gate: FailFast}, func(_ *testing.T, b *Breaker) error {
			b.Reset()
			_, err := b.Acquire()
			return err
		}, "", false},
		"a waiting call goes at Reset": {Config{Gate: Wait}, func(t *testing.T, b *Breaker) error {
			t.Helper()
			time.AfterFunc(time.Millisecond, b.Reset)
			return b.Do(t.Context(), func(context.Context) error { return nil })
		}, "", true},
		"Trip refuses at once, as without a gate": {Config{Gate: Wait, RecoveryTimeout: time.Minute}, func(t *testing.T, b *Breaker) error {
			t.Helper()
			b.Trip()
			if at := b.Metrics().RetryAt; time.Until(at) != time.Minute {
				t.Errorf("retry at %v, want in a minute", at)
			}
			return b.Do(t.Context(), func(context.Context) error { return nil })
		}, `"s" is open; next probe at`, false},
		"the probe after Trip waits for the gate, and closes both": {Config{Gate: Wait, RecoveryTimeout: time.Second}, func(t *testing.T, b *Breaker) error {
			t.Helper()
			b.Trip()
			pause(t.Context(), time.Second)
			err := b.Do(t.Context(), func(context.Context) error { return nil })
			for range 3 { // of those before, the gate has had refusals
				_ = b.Do(t.Context(), func(context.Context) error { pause(t.Context(), 100*time.Millisecond); return nil })
			}
			if s := b.State(); s != Closed {
				t.Errorf("then the breaker is %v", s)
			}
			return err
		}, "", true},
		"Reset ends a Trip and the limit": {Config{Gate: Wait}, func(t *testing.T, b *Breaker) error {
			t.Helper()
			b.Trip()
			b.Reset()
			return b.Do(t.Context(), func(context.Context) error { return nil })
		}, "", false},
		"Isolate refuses": {Config{Gate: Wait}, func(t *testing.T, b *Breaker) error {
			t.Helper()
			b.Isolate()
			return b.Do(t.Context(), func(context.Context) error { return nil })
		}, `"s" is isolated`, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := gated(t, tc.config)
				limitedAt(t, b)
				start := time.Now()
				err := tc.call(t, b)
				if waited := time.Since(start); (waited > 0) != tc.waits || waited > 2500*time.Millisecond {
					t.Errorf("waited %v", waited)
				}
				if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
					t.Errorf("error %v, want %q", err, tc.want)
				}
				var open *OpenError
				if errors.As(err, &open) && open.State == Open && open.RetryAt.Before(start) {
					t.Errorf("retry at %v, now %v", open.RetryAt, start)
				}
			})
		})
	}
}

func TestAGateReportsItsTransitions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		b := gated(t, Config{Gate: Wait, Observe: func(_ context.Context, r Transition) {
			got = append(got, fmt.Sprintf("%v to %v: %v", r.From, r.To, r.Reason))
		}})
		limitedAt(t, b)
		for range 12 {
			_ = b.Do(t.Context(), func(ctx context.Context) error { pause(ctx, 20*time.Millisecond); return nil })
		}
		for range 5 {
			_ = b.Do(t.Context(), func(context.Context) error { return context.DeadlineExceeded })
		}
		want := []string{
			"closed to open: 10 consecutive failures", "open to open: 10 consecutive failures", // a call waits
			"half-open to closed: 1 successful probe",
			"closed to open: 5 overloads in a row",
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		if m := b.Metrics(); m.Trips != 2 || m.Reason.Cause() != Overloaded || m.State != Open {
			t.Errorf("metrics %+v", m)
		}
	})
}

// A limit is reported as an opening, which is logged at WARN, even if responses came
// between the overloads: it used to be "from closed to half-open" then.
func TestALimitIsReportedAsAnOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		b := gated(t, Config{Gate: Wait, Observe: func(_ context.Context, r Transition) {
			if !r.Queued {
				got = append(got, fmt.Sprintf("%v to %v: %v", r.From, r.To, r.Reason))
			}
		}})
		for _, err := range []error{context.DeadlineExceeded, nil, context.DeadlineExceeded} {
			for range 4 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				_ = b.Do(ctx, func(ctx context.Context) error { pause(ctx, time.Second); return err })
				cancel()
			}
		}
		if want := []string{"closed to open: 1 overload in a row"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

// A call that panics returns its credit.
func TestAPanicAtAGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := gated(t, Config{Gate: Wait})
		limitedAt(t, b)
		g := b.gateOf(b.cell.Load())
		g.Done(gate.Permit{}, gate.Success, b.now()) // brings a credit
		func() {
			defer func() { _ = recover() }()
			_ = b.Do(t.Context(), func(context.Context) error { panic("boom") })
		}()
		if s := g.Status(b.now()); s.Credits != 1 {
			t.Errorf("%d credits are left of 1", s.Credits)
		}
	})
}

func TestGateSettings(t *testing.T) {
	var c Config
	for text, want := range map[string]GateMode{"wait": Wait, "fail_fast": FailFast, "off": NoGate} {
		if err := c.Set("gate", text); err != nil || c.Gate != want || want.String() != text {
			t.Errorf("gate %s: %v, %v", text, c.Gate, err)
		}
	}
	if err := c.Set("gate", "shut"); err == nil || !strings.Contains(err.Error(), "off, wait, fail_fast") {
		t.Errorf("gate shut: %v", err)
	}
	for _, threshold := range []int{Off, 1, 4, 6} {
		c := Config{Gate: Wait, FailureThreshold: threshold}
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "failure_threshold") {
			t.Errorf("a gate and a failure threshold of %d: %v", threshold, err)
		}
	}
	if err := (Config{Gate: Wait, FailureThreshold: Off}).Validate(); err == nil || !strings.Contains(err.Error(), `"off"`) {
		t.Errorf("a gate and no threshold: %v, which does not say off", err)
	}
	if err := (Config{Gate: FailFast + 1}).Validate(); err == nil || !strings.Contains(err.Error(), "GateMode(3)") {
		t.Errorf("a GateMode that is none: %v", err)
	}
}

// A ratio of failures limits a gate even without failures in a row.
func TestAWindowLimitsAGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		b := gated(t, Config{
			Gate: FailFast, Window: 10 * time.Second, MinCalls: 10, FailureRatio: 0.3,
			Observe: func(_ context.Context, r Transition) { got = append(got, fmt.Sprintf("%v to %v", r.From, r.To)) },
		})
		for i := range 60 {
			_ = b.Do(t.Context(), func(ctx context.Context) error {
				if pause(ctx, 20*time.Millisecond); i%2 == 0 {
					return errDown
				}
				return nil
			})
			if len(got) > 0 {
				break
			}
		}
		if m := b.Metrics(); !slices.Equal(got, []string{"closed to open"}) || m.Reason.Cause() != Ratio {
			t.Errorf("%q, because of %v, want one limit, by the ratio of failures", got, m.Reason)
		}
	})
}

// A call whose context ends leaves the line at once, and returns the cause.
func TestACallerThatLeavesAGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := gated(t, Config{Gate: Wait})
		limitedAt(t, b)
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := errors.New("gone")
		var calls sync.WaitGroup
		for range 3 {
			calls.Go(func() {
				if err := b.Do(ctx, func(context.Context) error { return nil }); !errors.Is(err, gone) {
					t.Errorf("%v, want the cause", err)
				}
			})
		}
		synctest.Wait()
		waiting := b.Metrics().Waiting
		cancel(gone)
		calls.Wait()
		if left := b.Metrics().Waiting; waiting != 3 || left != 0 {
			t.Errorf("%d callers waited, and %d do still; want 3 and 0", waiting, left)
		}
	})
}
