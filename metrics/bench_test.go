package metrics_test

import (
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/metrics"
	"github.com/seed-0f2c7998/perdure/retry"
)

// BenchmarkWrite exposes a registry that is full.
func BenchmarkWrite(b *testing.B) {
	var r metrics.Registry
	for i := range 1000 {
		p := retry.Policy{Name: fmt.Sprint(i), Breaker: circuit.New(fmt.Sprint(i), circuit.Service()), Metrics: &r}
		_ = retry.Do(b.Context(), &p, func(context.Context) error { return nil })
	}
	for b.Loop() {
		if err := r.Snapshot().Write(io.Discard, metrics.Text); err != nil {
			b.Fatal(err)
		}
	}
}
