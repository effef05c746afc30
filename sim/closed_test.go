package sim_test

import (
	"math"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/sim"
)

// play runs s, whose operations all end.
func play(t *testing.T, s sim.Scenario, seed uint64) sim.Result {
	t.Helper()
	r, err := sim.Run(t.Context(), s, seed)
	if err != nil {
		t.Fatalf("%s, seed %d: %v", s.Name, seed, err)
	}
	if r.Succeeded+r.Failed != r.Operations {
		t.Fatalf("%s, seed %d: of %d operations %d succeeded and %d failed", s.Name, seed, r.Operations, r.Succeeded, r.Failed)
	}
	return r
}

// near fails the test unless got is within 2 % of want.
func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 0.02*want {
		t.Errorf("%s: %.5g, want %.5g: off by %.1f %%", what, got, want, 100*(got/want-1))
	}
}

// erlangB is the ratio of requests that find all of c workers busy, of which a are
// on average, when none can wait.
func erlangB(c int, a float64) float64 {
	b := 1.0
	for k := 1; k <= c; k++ {
		b = a * b / (float64(k) + a*b)
	}
	return b
}

// With Poisson arrivals and exponential service times, the mean wait is known (Erlang C),
// and without a queue the ratio of refused requests (Erlang B).
func TestAgainstErlang(t *testing.T) {
	const mean, operations = 20 * time.Millisecond, 600_000
	for _, row := range []struct {
		workers int
		load    float64 // of the capacity
	}{{1, 0.3}, {1, 0.6}, {4, 0.5}, {10, 0.7}, {40, 0.8}} {
		s := sim.Scenario{Backend: sim.Backend{Workers: row.workers, Service: sim.Time{Mean: mean, Distribution: sim.Exponential}}}
		s.Clients.Policy.MaxAttempts = 1
		s.Load.Rate = row.load * float64(row.workers) / mean.Seconds()
		s.Duration = time.Duration(operations / s.Load.Rate * float64(time.Second))
		r := play(t, s, 1)
		a := row.load * float64(row.workers)
		b := erlangB(row.workers, a)
		waits := b / (1 - row.load*(1-b)) // Erlang C
		want := mean.Seconds() + waits*mean.Seconds()/float64(row.workers)/(1-row.load)
		near(t, "mean latency", r.Latency.Mean.Seconds(), want)
		near(t, "operations", float64(r.Operations), operations)
		if r.Failed > 0 || r.Attempts != r.Operations {
			t.Errorf("%+v: %d failed, %d attempts of %d operations", row, r.Failed, r.Attempts, r.Operations)
		}

		s.Backend.Queue = sim.NoQueue
		r = play(t, s, 1)
		if b > 0.05 { // else there are too few
			near(t, "refused without a queue", float64(r.Failed)/float64(r.Operations), b)
		}
	}
}

// With a uniform service time and one worker, the wait is known (Pollaczek and Khinchine),
// and shorter than with an exponential one.
func TestAgainstPollaczekKhinchine(t *testing.T) {
	const mean, load = 0.02, 0.7
	for _, row := range []struct {
		distribution sim.Distribution
		spread       float64
		variation    float64 // variance over the squared mean
	}{
		{sim.Constant, 0, 0}, {sim.Uniform, 0.5, 0.25 / 3}, {sim.Exponential, 0, 1}, {sim.LogNormal, 0.5, math.Exp(0.25) - 1},
	} {
		s := sim.Scenario{Load: sim.Load{Rate: load / mean}}
		s.Backend = sim.Backend{Workers: 1, Service: sim.Time{Distribution: row.distribution, Spread: row.spread}}
		s.Clients.Policy.MaxAttempts = 1
		s.Duration = time.Duration(600_000 / s.Load.Rate * float64(time.Second))
		want := mean + load*mean*(1+row.variation)/2/(1-load)
		near(t, "mean latency", play(t, s, 2).Latency.Mean.Seconds(), want)
	}
}

// With independent errors the number of attempts has a geometric distribution, and
// operations fail as often as all their attempts do.
func TestAgainstGeometricAttempts(t *testing.T) {
	for _, row := range []struct {
		errors   float64
		attempts int
	}{{0.05, 2}, {0.3, 1}, {0.3, 3}, {0.5, 5}, {0.7, 4}} {
		s := sim.Storm("errors", sim.Fault{Kind: sim.Errors, To: time.Hour, Level: row.errors})
		s.Load.Rate, s.Duration, s.Clients.Deadline = 200, 1000*time.Second, 0
		s.Clients.Policy = retry.Policy{MaxAttempts: row.attempts, BaseDelay: 1, Jitter: retry.NoJitter}
		r := play(t, s, 3)
		fail := math.Pow(row.errors, float64(row.attempts))
		near(t, "attempts of an operation", float64(r.Attempts)/float64(r.Operations), (1-fail)/(1-row.errors))
		if fail*float64(r.Operations) > 10_000 { // else chance is more than 2 %
			near(t, "operations that failed", float64(r.Failed)/float64(r.Operations), fail)
		}
		near(t, "amplification", r.Amplification.During, (1-fail)/(1-row.errors))
	}
}

// A closed loop of one client for each worker: no request waits, and by Little's law the
// rate is that of the clients over the time of service and pause.
func TestAgainstLittle(t *testing.T) {
	s := sim.Scenario{Duration: 500 * time.Second, Load: sim.Load{Clients: 2, Think: 30 * time.Millisecond}}
	s.Clients.Processes, s.Clients.Policy.MaxAttempts = 5, 1
	s.Backend.Workers = 10
	r := play(t, s, 4)
	near(t, "operations", float64(r.Operations), 500*10/0.05)
	near(t, "mean latency", r.Latency.Mean.Seconds(), 0.02)
	near(t, "median", r.Latency.P50.Seconds(), 0.02)
	near(t, "99th percentile", r.Latency.P99.Seconds(), 0.0298)

	s.Backend.Network = 10 * time.Millisecond
	r = play(t, s, 4)
	near(t, "operations over a network", float64(r.Operations), 500*10/0.06)
	near(t, "mean latency over a network", r.Latency.Mean.Seconds(), 0.03)
}

// Clients without a pause that are refused at once make a thousand operations a second
// each: without that limit the run would not end.
func TestRefusedClientsOfAClosedLoopPause(t *testing.T) {
	for _, think := range []time.Duration{0, 1} {
		s := sim.Scenario{
			Duration: 10 * time.Second, Load: sim.Load{Clients: 4, Think: think},
			Clients: sim.Clients{Policy: sim.NoRetries(), Breaker: &circuit.Config{}},
			Faults:  []sim.Fault{{Kind: sim.Outage, To: 10 * time.Second}},
		}
		if r := play(t, s, 1); r.Operations < 39_000 || r.Operations > 40_100 {
			t.Errorf("pause %v: %d operations of 4 clients in 10 s that are refused, want 1,000 a second of each", think, r.Operations)
		}
	}
}
