package retry_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/seam"
	"github.com/seed-0f2c7998/perdure/metrics"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A call that succeeds at once allocates nothing, whatever its policy and breaker have.
// AllocsPerRun cannot run in parallel tests.
func TestSuccessAllocatesNothing(t *testing.T) {
	ctx := t.Context()
	f := func(context.Context) error { return nil }
	v := func(context.Context) (int, error) { return 1, nil }
	window := circuit.Config{Window: 10 * time.Second, FailureRatio: 0.5, SlowCall: time.Second, Budget: 10}
	for name, p := range map[string]*retry.Policy{
		"plain":   {},
		"preset":  new(retry.S3Upload()),
		"limited": {MaxElapsed: time.Minute},
		"timed":   {Timed: true},
		"lists":   {RetryOn: []string{"SlowDown"}},
		"breaker": {Breaker: breaker(circuit.Config{})},
		"budget":  {Breaker: breaker(circuit.Config{Budget: 10})},
		"window":  {Breaker: breaker(window)},
		"metrics": {Breaker: breaker(circuit.Config{Budget: 10}), Metrics: new(metrics.Registry)},
	} {
		if n := testing.AllocsPerRun(100, func() { _ = retry.Do(ctx, p, f) }); n != 0 {
			t.Errorf("Do, %s: %v allocations", name, n)
		}
		if n := testing.AllocsPerRun(100, func() { _, _ = retry.Value(ctx, p, v) }); n != 0 {
			t.Errorf("Value, %s: %v allocations", name, n)
		}
	}
}

// A jitter mode costs a call nothing, whichever it is: a mode that was missing in the
// quick check of a policy cost 93 allocations.
func TestJitterModeAllocatesNothing(t *testing.T) {
	for _, mode := range jitterModes() {
		p := retry.Policy{JitterMode: mode}
		f := func(context.Context) error { return nil }
		if n := testing.AllocsPerRun(100, func() { _ = retry.Do(t.Context(), &p, f) }); n != 0 {
			t.Errorf("mode %d: %v allocations", mode, n)
		}
	}
}

// A call that the breaker refuses allocates nothing, with each observer and each name
// of the breaker: each event used to remove the secrets from the name again.
func TestRefusalAllocatesNothing(t *testing.T) {
	ctx := t.Context()
	f := func(context.Context) error { return nil }
	observers := map[string]func(context.Context, retry.Event){
		"the default logger": nil, "an observer": func(context.Context, retry.Event) {},
	}
	for _, name := range []string{"s3_upload", "op:upload", "http:https://user:pass@host:443", "https://host/?sig=abcdef"} {
		for who, observe := range observers {
			p := retry.Policy{Name: "upload_to_s3", Observe: observe, Breaker: circuit.New(name, circuit.Config{})}
			p.Breaker.Trip()
			if n := testing.AllocsPerRun(100, func() { _ = retry.Do(ctx, &p, f) }); n != 0 {
				t.Errorf("breaker %s, with %s: %v allocations", name, who, n)
			}
		}
	}
}

// Two failures and a success, with waits too short for a timer, cost four
// allocations: two for the contexts of the second and third attempt, and two for errors
// without secrets in events.
func TestTwoFailuresAllocateLittle(t *testing.T) {
	ctx := t.Context()
	n := 0
	f := func(context.Context) error {
		if n++; n%3 != 0 {
			return errDown
		}
		return nil
	}
	for name, b := range map[string]*circuit.Breaker{"plain": nil, "breaker": breaker(circuit.Config{Budget: 10})} {
		p := retry.Policy{
			BaseDelay: 1, MaxDelay: time.Second, Jitter: retry.NoJitter, Classify: retry.Always,
			Observe: func(context.Context, retry.Event) {}, Breaker: b,
		}
		breakers.Refund(b, 1000)
		if got := testing.AllocsPerRun(100, func() { _ = retry.Do(ctx, &p, f) }); got > 4 {
			t.Errorf("%s: %v allocations, want at most 4", name, got)
		}
	}
}

// After a wait that a server asked for, calls take the quick path again: each call used
// to check the wait for the rest of the process.
func TestQuickAfterAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := breaker(circuit.Config{})
		p := retry.Policy{Breaker: b}
		f, _ := calls(retry.After(errDown, time.Second))
		if err := retry.Do(t.Context(), &p, f); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		if err := retry.Do(t.Context(), &p, f); err != nil {
			t.Fatal(err)
		}
		if _, quick := seam.Of(b).Healthy(); !quick {
			t.Error("not quick after the hold is over")
		}
	})
}
