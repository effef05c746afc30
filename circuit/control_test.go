package circuit

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestManualOverride(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []string
		b := New("x", Config{Observe: func(_ context.Context, t Transition) {
			seen = append(seen, t.From.String()+" "+t.To.String()+" "+t.Reason.String())
		}})
		b.Reset() // closed as it is
		b.Trip()
		b.Trip()
		if b.Allow() {
			t.Error("a tripped breaker admits")
		}
		b.Isolate()
		b.Isolate()
		b.Trip()
		after(1000 * time.Hour)
		if b.Allow() || b.State() != Isolated || b.peek() == nil || b.peek().State != Isolated {
			t.Errorf("an isolated breaker is %v", b.State())
		}
		b.Reset()
		b.Reset()
		if !b.Allow() || b.State() != Closed {
			t.Errorf("a breaker that was reset is %v", b.State())
		}
		b.Trip()
		after(30 * time.Second)
		b.Allow()
		b.Trip() // while half-open
		want := []string{
			"closed open manual override", "open isolated manual override", "isolated closed manual override",
			"closed open manual override", "open half-open recovery timeout elapsed", "half-open open manual override",
		}
		if !slices.Equal(seen, want) {
			t.Errorf("transitions\n%q, want\n%q", seen, want)
		}
	})
}

func TestResetForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("x", quiet(Config{Window: time.Minute, FailureRatio: 1, Budget: 10}))
		for range 4 {
			b.RecordFailure()
		}
		b.withdraw(Token)
		b.current().Throttled(time.Hour)
		b.Reset()
		m := b.Metrics()
		if m.Failures != 0 || m.Calls != 0 || m.Balance != 1 || b.cell.Load().Hint(0) != 0 || !packedState(b.cell.Load().Breaker.Load()).healthy() {
			t.Errorf("after a reset: %+v", m)
		}
		for range 4 {
			b.RecordFailure()
		}
		if b.State() != Closed {
			t.Error("failures from before the reset count")
		}
	})
}

func TestObserveOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []Transition
		b := New("x", Config{ObserveOnly: true, Observe: func(_ context.Context, t Transition) { seen = append(seen, t) }})
		fail := func() error { return b.Do(t.Context(), func(context.Context) error { return errDown }) }
		for i := range 10 {
			if err := fail(); !errors.Is(err, errDown) {
				t.Fatalf("call %d: %v", i+1, err)
			}
		}
		if b.State() != Open || b.peek() != nil {
			t.Errorf("it is %v and refuses with %v; want open, and no refusal", b.State(), b.peek())
		}
		if m := b.Metrics(); m.Rejected != 5 || m.Trips != 1 {
			t.Errorf("the metrics say %d would have been rejected and %d trips; want 5 and 1", m.Rejected, m.Trips)
		}
		after(30 * time.Second)
		for range 3 { // one of them is the probe, the others pass unseen
			p, err := b.Acquire()
			if err != nil {
				t.Fatal(err)
			}
			defer p.Success()
		}
		b.RecordSuccess()
		if b.State() != Closed {
			t.Errorf("after the probe it is %v", b.State())
		}
		if len(seen) != 3 || !seen[0].ObserveOnly || seen[0].RetryAt.IsZero() {
			t.Errorf("transitions %+v", seen)
		}
		b.Isolate()
		if b.Allow() {
			t.Error("isolated manually, it admits")
		}
	})
}

// A cell may contain what another process wrote by another clock.
func TestWordFromAnotherClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, row := range []struct {
			ahead time.Duration // of the end of the open time, or of the lease
			opens bool
		}{
			{-time.Hour, true},
			{0, true},
			{time.Millisecond, false},
			{30 * time.Second, false},
			{90 * time.Second, false},
			{91 * time.Second, true},
			{time.Hour, true},
			{300 * 24 * time.Hour, true},
		} {
			for _, s := range []State{Open, HalfOpen} {
				b := New("x", quiet(Config{}))
				w := packedState(0).next(s).until(floor(time.Now().Add(row.ahead).UnixNano()))
				if s == HalfOpen {
					w = w.low(1)
				}
				b.cell.Load().Breaker.Store(uint64(w))
				if refused := b.peek() != nil; s == Open && refused == row.opens {
					t.Errorf("%v for %v: a refusal is %v", s, row.ahead, refused)
				}
				if b.Allow() != row.opens {
					t.Errorf("%v for %v: admits is %v", s, row.ahead, !row.opens)
				}
			}
		}
	})
}

// The open time grows with each failed probe, and jitter only lengthens it.
func TestOpenTimesSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := quiet(Config{FailureThreshold: 1, RecoveryTimeout: time.Second, OpenGrowth: 2, OpenMax: 3 * time.Second, OpenJitter: .5})
		for n, want := range []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 3 * time.Second} {
			low, high := time.Hour, time.Duration(0)
			for range 200 {
				b := New("x", c)
				b.RecordFailure()
				for range n {
					after(time.Until(b.peek().RetryAt))
					b.Allow()
					b.RecordFailure()
				}
				d := time.Until(b.peek().RetryAt)
				low, high = min(low, d), max(high, d)
			}
			if low < want || high > want*3/2+time.Millisecond || high-low < want*4/10 {
				t.Errorf("after %d failed probes it is open for %v to %v, want %v and up to half more", n, low, high, want)
			}
		}
	})
}

// A nil *Breaker admits every call and its Metrics are zero.
func TestNilBreaker(t *testing.T) {
	var b *Breaker
	if b.Name() != "" || b.invalid() != nil || b.State() != Closed || b.peek() != nil || !b.notBefore().IsZero() {
		t.Error("a nil breaker knows something")
	}
	if m := b.Metrics(); m != (Metrics{}) {
		t.Errorf("its metrics are %+v", m)
	}
	for range 10 {
		p, err := b.Acquire()
		if err != nil || p != (Permit{}) {
			t.Fatalf("it gives %+v, %v", p, err)
		}
		p.Success()
		p.Failure()
		p.Cancel()
		if _, ok := quick(b); !ok || !b.Allow() || b.Do(t.Context(), func(context.Context) error { return nil }) != nil {
			t.Fatal("it refuses a call")
		}
		b.RecordSuccess()
		b.RecordFailure()
		b.Trip()
		b.Isolate()
		b.Reset()
		p.Throttled(time.Hour)
		p.Conflict()
		cutShort(p)
		b.refund(Token)
		if _, on := b.balance(); on || !b.withdraw(1000*Token) {
			t.Fatal("it has a budget")
		}
	}
}

// A breaker with an invalid Config refuses every call with the reason.
func TestInvalidBreaker(t *testing.T) {
	shared := new(Memory)
	b := New("x", Config{FailureThreshold: -7, Store: shared})
	want, ok := errors.AsType[*ConfigError](b.invalid())
	if !ok || want.Field != "failure_threshold" || want.Value != "-7" {
		t.Fatalf("its error is %v", b.invalid())
	}
	b.Trip()
	b.Reset()
	b.RecordSuccess()
	b.RecordFailure()
	if _, err := b.Acquire(); !errors.Is(err, want) {
		t.Errorf("Acquire says %v", err)
	}
	if err := b.Do(t.Context(), func(context.Context) error { t.Error("called"); return nil }); !errors.Is(err, want) {
		t.Errorf("Do says %v", err)
	}
	if _, quick := quick(b); quick || b.Allow() || b.State() != Isolated {
		t.Error("it admits a call")
	}
	if other := New("x", quiet(Config{Store: shared})); !other.Allow() {
		t.Error("it shuts the key for a breaker whose Config is valid")
	}
}
