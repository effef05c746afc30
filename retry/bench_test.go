package retry_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/metrics"
	"github.com/seed-0f2c7998/perdure/retry"
)

// warm returns a breaker with a budget, and a gate that has learned how long a call takes.
func warm(b *testing.B) *circuit.Breaker {
	b.Helper()
	w := circuit.New("b", circuit.Service())
	for range 100 {
		if err := w.Do(b.Context(), func(context.Context) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
	return w
}

func BenchmarkDo(b *testing.B) {
	ctx := b.Context()
	f := func(context.Context) error { return nil }
	b.Run("bare", func(b *testing.B) {
		for b.Loop() {
			if f(ctx) != nil {
				b.Fatal("failed")
			}
		}
	})
	for _, c := range []struct {
		name   string
		policy retry.Policy
	}{
		{"retry", retry.Policy{}},
		{"retry, metrics", retry.Policy{Name: "b", Metrics: new(metrics.Registry)}},
		{"breaker", retry.Policy{Breaker: circuit.New("b", circuit.Config{})}},
		{"breaker+budget", retry.Policy{Breaker: circuit.New("b", circuit.Config{Budget: 10})}},
		{"breaker+budget, metrics", retry.Policy{Name: "b", Metrics: new(metrics.Registry), Breaker: circuit.New("b", circuit.Config{Budget: 10})}},
		{"breaker+budget+gate", retry.Policy{Breaker: warm(b)}},
		{"max elapsed", retry.Policy{MaxElapsed: time.Minute}},
		{"window", retry.Policy{Breaker: circuit.New("b", circuit.Config{Window: 10 * time.Second, FailureRatio: 0.5})}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if retry.Do(ctx, &c.policy, f) != nil {
					b.Fatal("failed")
				}
			}
		})
	}
	b.Run("value", func(b *testing.B) {
		p := retry.Policy{Breaker: circuit.New("b", circuit.Config{Budget: 10})}
		v := func(context.Context) (int, error) { return 1, nil }
		b.ReportAllocs()
		for b.Loop() {
			if _, err := retry.Value(ctx, &p, v); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("refused", func(b *testing.B) {
		p := retry.Policy{Breaker: circuit.New("b", circuit.Config{}), Observe: func(context.Context, retry.Event) {}}
		p.Breaker.Trip()
		b.ReportAllocs()
		for b.Loop() {
			_ = retry.Do(ctx, &p, f)
		}
	})
	b.Run("two failures", func(b *testing.B) {
		failure := errors.New("failure")
		p := retry.Policy{BaseDelay: 1, Jitter: retry.NoJitter, Classify: retry.Always, Observe: func(context.Context, retry.Event) {}}
		b.ReportAllocs()
		for b.Loop() {
			n := 0
			_ = retry.Do(ctx, &p, func(context.Context) error {
				if n++; n < 3 {
					return failure
				}
				return nil
			})
		}
	})
}
