package circuit

import (
	"context"
	"reflect"
	"strconv"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/seam"
)

// hotConfigs are the breakers whose cost for a call is measured.
func hotConfigs() map[string]Config {
	return map[string]Config{
		"plain":  {},
		"budget": {Budget: 10},
		"ratio":  {Window: 10 * time.Second, FailureRatio: .5, MinCalls: 1e9},
		"slow":   {Window: 10 * time.Second, SlowCall: time.Hour},
	}
}

func TestHotPathsDoNotAllocate(t *testing.T) {
	nothing := func(context.Context) error { return nil }
	for name, c := range hotConfigs() {
		b := New("x", quiet(c))
		failing := c
		failing.FailureThreshold = maxFailures
		f := New("x", quiet(failing))
		for what, call := range map[string]func(){
			"Acquire, Success": func() { p, _ := b.Acquire(); p.Success() },
			"Acquire, Cancel":  func() { p, _ := b.Acquire(); p.Cancel() },
			"Acquire, Failure, Acquire, Success": func() {
				p, _ := f.Acquire()
				p.Failure()
				p, _ = f.Acquire()
				p.Success()
			},
			"Quick":                func() { p, _ := quick(b); p.Success() },
			"Allow, RecordSuccess": func() { b.Allow(); b.RecordSuccess() },
			"Do":                   func() { _ = b.Do(t.Context(), nothing) },
			"State, Peek":          func() { b.State(); _ = b.peek() },
			"Withdraw, Refund":     func() { b.withdraw(Token); b.refund(Token) },
			"notBefore":            func() { b.notBefore() },
		} {
			if n := testing.AllocsPerRun(100, call); n != 0 {
				t.Errorf("%s: %s allocates %v times", name, what, n)
			}
		}
		if b.State() != Closed || f.State() != Closed {
			t.Errorf("%s: the breaker is not healthy", name)
		}
	}
}

// A rate limit allocates nothing, whether a call is admitted or refused.
func TestARateDoesNotAllocate(t *testing.T) {
	nothing := func(context.Context) error { return nil }
	goes, waits := New("x", quiet(Config{Rate: 1e6, Burst: cell.MaxBurst})), New("x", quiet(Config{Rate: 1. / 86400}))
	_, _ = goes.Do(t.Context(), nothing), waits.Allow() // the first call of Do looks for layers
	for what, call := range map[string]func() bool{
		"Allow":   func() bool { return goes.Allow() },
		"Do":      func() bool { return goes.Do(t.Context(), nothing) == nil },
		"refused": func() bool { return !waits.Allow() },
	} {
		if n := testing.AllocsPerRun(100, func() {
			if !call() {
				t.Errorf("%s: it is the other way round", what)
			}
		}); n != 0 {
			t.Errorf("%s allocates %v times", what, n)
		}
	}
}

// quick is how package retry has most calls admitted.
func quick(b *Breaker) (Permit, bool) {
	if b == nil {
		return Permit{}, true
	}
	w, admitted := seam.Of(b).Healthy()
	return permitOf(b, w), admitted
}

// cutShort records that the deadline of the call's own caller has cut it short.
func cutShort(p Permit) { p.done(noCaller(), result{signal: cut}) }

// A refusal allocates nothing, for as long as the opening lasts.
func TestRefusalsDoNotAllocate(t *testing.T) {
	open, isolated := New("x", quiet(Config{})), New("x", quiet(Config{}))
	open.Trip()
	isolated.Isolate()
	for name, b := range map[string]*Breaker{"open": open, "isolated": isolated} {
		if n := testing.AllocsPerRun(100, func() {
			if p, err := b.Acquire(); err == nil {
				p.Cancel()
				t.Errorf("%s: admitted", name)
			}
		}); n != 0 {
			t.Errorf("%s: a refusal allocates %v times", name, n)
		}
	}
}

// With a full budget a success writes nothing.
func TestFullBudgetIsNotWritten(t *testing.T) {
	b := full(10)
	if !seam.Of(b).IgnoresSuccess() {
		t.Error("a success would be written")
	}
	b.withdraw(1)
	if seam.Of(b).IgnoresSuccess() {
		t.Error("a success would be lost")
	}
	b.RecordSuccess()
	b.RecordFailure()
	if seam.Of(b).IgnoresSuccess() {
		t.Error("a success would not end the run of failures")
	}
}

func BenchmarkAcquire(b *testing.B) {
	for name, c := range hotConfigs() {
		b.Run(name, func(b *testing.B) {
			br := New("x", quiet(c))
			br.refund(10 * Token)
			b.ReportAllocs()
			for b.Loop() {
				p, err := br.Acquire()
				if err != nil {
					b.Fatal(err)
				}
				p.Success()
			}
		})
	}
}

func BenchmarkAcquireParallel(b *testing.B) {
	for name, c := range hotConfigs() {
		b.Run(name, func(b *testing.B) {
			br := New("x", quiet(c))
			br.refund(10 * Token)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					p, err := br.Acquire()
					if err != nil {
						b.Error(err)
						return
					}
					p.Success()
				}
			})
		})
	}
}

func BenchmarkFailure(b *testing.B) {
	for name, c := range hotConfigs() {
		b.Run(name, func(b *testing.B) {
			c.FailureThreshold = maxFailures
			br := New("x", quiet(c))
			b.ReportAllocs()
			for b.Loop() {
				p, _ := br.Acquire()
				p.Failure()
				p.Success()
			}
		})
	}
}

func BenchmarkRefused(b *testing.B) {
	br := New("x", quiet(Config{}))
	br.Trip()
	b.ReportAllocs()
	for b.Loop() {
		if br.Allow() {
			b.Fatal("allowed")
		}
	}
}

// A Permit of more than four words or fields does not fit in registers, and a call costs
// several times as much. On 32 bits this does not apply.
func TestPermitGoesInRegisters(t *testing.T) {
	if strconv.IntSize < 64 {
		t.Skip("386 passes arguments on the stack")
	}
	if is := reflect.TypeFor[Permit](); is.NumField() > 4 || is.Size() > 4*reflect.TypeFor[uintptr]().Size() {
		t.Errorf("a Permit has %d fields and %d bytes", is.NumField(), is.Size())
	}
}

// The rate limit admits one call a day, or all calls.
func BenchmarkRate(b *testing.B) {
	b.Run("refused", func(b *testing.B) {
		br := New("x", quiet(Config{Rate: 1. / 86400}))
		br.Allow()
		b.ReportAllocs()
		for b.Loop() {
			if br.Allow() {
				b.Fatal("allowed")
			}
		}
	})
	b.Run("admitted", func(b *testing.B) {
		br := New("x", quiet(Config{Rate: 1e6, Burst: 10_000}))
		br.rate.limit.Interval = 1 // of a nanosecond
		b.ReportAllocs()
		for b.Loop() {
			if !br.Allow() {
				b.Fatal("refused")
			}
			br.RecordSuccess()
		}
	})
}
