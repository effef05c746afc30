package sim_test

import (
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/sim"
)

// BenchmarkHealthy simulates health: retry, breaker and budget at 80 % load. The aim is a
// million operations a second on one core.
func BenchmarkHealthy(b *testing.B) {
	service := circuit.Service()
	s := sim.Storm("healthy")
	s.Clients.Policy, s.Clients.Breaker = retry.Service(), &service
	s.Clients.Policy.AttemptTimeout = 200 * time.Millisecond
	s.Duration = 10 * time.Minute
	operations := 0
	for n := uint64(0); b.Loop(); n++ {
		r, err := sim.Run(b.Context(), s, n)
		if err != nil || r.Failed > 0 {
			b.Fatalf("%v, %d failed", err, r.Failed)
		}
		operations += r.Operations
	}
	b.ReportMetric(float64(operations)/b.Elapsed().Seconds(), "operations/s")
}

// A storm of 400 processes, 22 s. The aim is 5 s.
func BenchmarkStorm(b *testing.B) {
	s := sim.Storms()[0]
	s.Clients.Policy, s.Clients.Processes = sim.Backoff(), 400
	for n := uint64(0); b.Loop(); n++ {
		if _, err := sim.Run(b.Context(), s, n); err != nil {
			b.Fatal(err)
		}
	}
}
