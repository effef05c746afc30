package sim_test

import (
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/sim"
)

// stepAt returns the step that ends at an instant.
func stepAt(r sim.Result, end time.Duration) sim.Counts { return r.Steps[end/sim.Step-1] }

// between reports whether x is from low to high.
func between(x, low, high float64) bool { return x >= low && x <= high }

// The counts of the steps add up to the counts of the run.
func TestStepsAreTheRun(t *testing.T) {
	for _, by := range []string{"none", "backoff", "preset", "service"} {
		for _, name := range []string{"brownout", "deploy in a brownout"} {
			r := play(t, storm(t, name, by, 20, false), 1)
			var all sim.Counts
			for _, c := range r.Steps {
				all.Arrived += c.Arrived
				all.Attempts += c.Attempts
				all.Succeeded += c.Succeeded
				all.Failed += c.Failed
				all.Trips += c.Trips
				if l := c.Latency; l.P50 > l.P99 || l.P99 > l.Max || l.Max > r.Latency.Max || (l.Max > 0) != (c.Succeeded > 0) {
					t.Errorf("%s, %s: %d succeeded in a step, after %+v", name, by, c.Succeeded, l)
				}
				all.Latency.Max = max(all.Latency.Max, c.Latency.Max)
			}
			if all.Arrived != r.Operations || all.Attempts != r.Attempts || all.Succeeded != r.Succeeded ||
				all.Failed != r.Failed || all.Trips != r.Trips || all.Latency.Max != r.Latency.Max {
				t.Errorf("%s, %s: the steps have %+v, the run %+v", name, by, all, r)
			}
		}
	}
}

// A brownout leaves 400 requests a second of 1,600 to be served: the queue of 2,000 is full
// after 1.7 s, and a fifth of it is served in each second.
func TestQueueOfTheSteps(t *testing.T) {
	r := play(t, storm(t, "brownout", "none", 20, false), 1)
	for end, want := range map[time.Duration]float64{
		3900 * time.Millisecond: 0, 4500 * time.Millisecond: 600, 5 * time.Second: 1200, 8 * time.Second: 2000, 20 * time.Second: 0,
	} {
		if got := float64(stepAt(r, end).Queued); !between(got, want-120, want+120) {
			t.Errorf("after %v there are %v in the queue, want %v", end, got, want)
		}
	}
	if l := stepAt(r, 3*time.Second).Latency; !between(l.P50.Seconds(), 0.018, 0.025) {
		t.Errorf("in health it takes %+v, want 20 ms", l)
	}
}

// The states of breakers and the balances of budgets are sampled: of each process, or of
// the one that all share.
func TestStateOfTheSteps(t *testing.T) {
	budget := circuit.Config{FailureThreshold: circuit.Off, Budget: 10}
	gate := circuit.Config{Gate: circuit.Wait, Budget: 10}
	for _, row := range []struct {
		name      string
		breaker   *circuit.Config
		processes int
		shared    bool
		open      float64 // ratio that is open or half-open, a second into the outage
		budget    float64 // before it
	}{
		{"no breaker", nil, 20, false, 0, 0},
		{"breaker", &circuit.Config{}, 20, false, 1, 0},
		{"breaker, one state", &circuit.Config{}, 200, true, 1, 0},
		{"budget", &budget, 20, false, 0, 10},
		{"gate and budget", &gate, 20, false, 1, 10},
		{"gate and budget, one cell", &gate, 20, true, 1, 10},
		{"gate and budget of many", &gate, 150, false, 1, 2}, // which earn a token with each ten successes
	} {
		s := storm(t, "outage", "backoff", row.processes, row.shared)
		s.Clients.Breaker = row.breaker
		r := play(t, s, 1)
		before, during := stepAt(r, 4*time.Second), stepAt(r, 5*time.Second)
		if got := during.Open + during.HalfOpen; !between(got, row.open-0.05, row.open+0.05) {
			t.Errorf("%s: %v of the processes are open or half-open in the outage, want %v", row.name, got, row.open)
		}
		if before.Open != 0 || before.HalfOpen != 0 || before.Waiting != 0 {
			t.Errorf("%s: not closed before the outage: %+v", row.name, before)
		}
		if before.Budget < row.budget-0.2 {
			t.Errorf("%s: a budget of %v, want at least %v", row.name, before.Budget, row.budget)
		}
		if row.budget > 0 && during.Budget > before.Budget/2 {
			t.Errorf("%s: the budget goes from %v to %v in a second of the outage", row.name, before.Budget, during.Budget)
		}
		if gated := row.breaker != nil && row.breaker.Gate != circuit.NoGate; (during.Waiting > 0) != gated {
			t.Errorf("%s: %d operations wait", row.name, during.Waiting)
		}
		if last := r.Steps[len(r.Steps)-1]; last.Waiting != 0 || last.Queued != 0 {
			t.Errorf("%s: at the end something still waits: %+v", row.name, last)
		}
	}
}

// In an outage the processes trip one after the other.
func TestSomeProcessesAreOpen(t *testing.T) {
	r := play(t, storm(t, "outage", "preset", 250, false), 1)
	ratios := map[float64]bool{}
	for _, c := range r.Steps[40:90] {
		ratios[c.Open] = true
	}
	if len(ratios) < 5 || !ratios[1] {
		t.Errorf("the ratios of open breakers are %v, want some up to 1", ratios)
	}
}

// Every step is in the result, even without any event, and is reported by Watch.
func TestQuietSteps(t *testing.T) {
	s := sim.Scenario{Duration: 10 * time.Second, Load: sim.Load{Rate: 1, Every: time.Second}, Clients: sim.Clients{Policy: sim.NoRetries()}}
	var reported time.Duration
	r, err := sim.Watch(t.Context(), s, 1, func(now time.Duration) {
		if reported += sim.Step; now != reported {
			t.Errorf("reported %v after %v", now, reported-sim.Step)
		}
	})
	if err != nil || reported != 9200*time.Millisecond || len(r.Steps) != 93 || r.Succeeded != 9 {
		t.Errorf("%v: %d steps of which %v were reported, %d succeeded", err, len(r.Steps), reported, r.Succeeded)
	}
	for i, c := range r.Steps {
		if want := i / 10 * 10; c.Arrived > 0 && i != want {
			t.Errorf("an arrival in step %d", i)
		}
	}
}
