package sim_test

import (
	"slices"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/sim"
)

// gatedStorm returns the storm of that name for [gated] clients.
func gatedStorm(t *testing.T, name string, processes int, shared bool) sim.Scenario {
	t.Helper()
	s := storm(t, name, "none", processes, shared)
	gated(&s.Clients)
	return s
}

// Clients that fail fast at a gate lose as much as without retries, or down to half of it,
// and let the backend recover.
func TestGateThatFailsFast(t *testing.T) {
	for name, want := range map[string]goal{"outage": {lost: 5.0, during: 0.15}, "brownout": {lost: 4.3, wasted: 0.05}, "throttle": {lost: 2.5}} {
		for _, shared := range []bool{false, true} {
			s := gatedStorm(t, name, 20, shared)
			s.Clients.Breaker.Gate = circuit.FailFast
			t.Run(fleet(name, 20, shared), func(t *testing.T) { mean(t, s, 1).check(t, want) })
		}
	}
}

// A gate must not be noticed while the backend is healthy and can serve the load.
func TestGateStaysOutOfTheWay(t *testing.T) {
	processes, _ := sizes()
	fault := func(f sim.Fault) []sim.Fault {
		f.From, f.To = 4*time.Second, 9*time.Second
		return []sim.Fault{f}
	}
	for name, change := range map[string]func(*sim.Scenario){
		"no fault":            func(*sim.Scenario) {},
		"log-normal services": func(s *sim.Scenario) { s.Backend.Service = sim.Time{Distribution: sim.LogNormal, Spread: 0.7} },
		"bursts of 10":        func(s *sim.Scenario) { s.Load.Batch = 10 },
		"bursts of 40":        func(s *sim.Scenario) { s.Load.Batch = 40; s.Load.Rate = 1200 },
		"herds":               func(s *sim.Scenario) { s.Load.Every = 200 * time.Millisecond; s.Load.Rate = 1000 },
		"100 ms of network": func(s *sim.Scenario) {
			s.Faults = fault(sim.Fault{Kind: sim.SlowNetwork, Delay: 100 * time.Millisecond})
		},
		"a process that stops":  func(s *sim.Scenario) { s.Faults = fault(sim.Fault{Kind: sim.Stall}); s.Faults[0].To = 6 * time.Second },
		"a call a minute":       func(s *sim.Scenario) { s.Load.Rate = 1.0 / 60; s.Duration = time.Hour },
		"the clock put back":    func(s *sim.Scenario) { s.Faults = fault(sim.Fault{Kind: sim.ClockStep, Delay: -time.Hour}) },
		"the clock put forward": func(s *sim.Scenario) { s.Faults = fault(sim.Fault{Kind: sim.ClockStep, Delay: time.Hour}) },
		"a restart":             func(s *sim.Scenario) { s.Faults = fault(sim.Fault{Kind: sim.Restart}) },
	} {
		for _, n := range processes {
			for _, shared := range []bool{false, true} {
				s := gatedStorm(t, "outage", n, shared)
				s.Name, s.Faults = name, nil
				if change(&s); n == 1 && name == "a process that stops" {
					continue // it is all of them: what they owe comes as a herd that fails without retries, too
				}
				r := play(t, s, 1)
				if r.Failed > 0 {
					t.Errorf("%s: %d of %d operations failed", fleet(name, n, shared), r.Failed, r.Operations)
				}
				for i, step := range r.Steps {
					if step.Open+step.HalfOpen > 0 || step.Waiting > 0 {
						t.Errorf("%s: limited after %v", fleet(name, n, shared), time.Duration(i)*sim.Step)
						break
					}
				}
			}
		}
	}
}

// The clock of processes that share a cell is stepped by an hour in the middle of each
// fault: then the fault costs no more than without retries.
func TestGateWhenTheClockIsSet(t *testing.T) {
	for _, s := range sim.Storms() {
		none := s
		none.Clients = storm(t, "outage", "none", 20, true).Clients
		without := play(t, none, 1)
		for _, step := range []time.Duration{time.Hour, -time.Hour} {
			for _, mode := range []circuit.GateMode{circuit.Wait, circuit.FailFast} {
				set := s
				set.Clients = gatedStorm(t, "outage", 20, true).Clients
				set.Clients.Breaker.Gate = mode
				set.Faults = append(slices.Clone(s.Faults), sim.Fault{Kind: sim.ClockStep, From: 6500 * time.Millisecond, To: 22 * time.Second, Delay: step})
				most := without.Lost + 150*time.Millisecond
				if mode == circuit.FailFast {
					most += 400 * time.Millisecond // no call waits for the end of the fault
				}
				if r := play(t, set, 1); r.Lost > most {
					t.Errorf("%s, the clock put by %v, %v: %v lost, without retries %v", s.Name, step, mode, r.Lost, without.Lost)
				}
			}
		}
	}
}

// With ObserveOnly a breaker or gate changes nothing for its calls, and counts its trips.
// The simulation used to enforce such a gate, and counted none of its limits.
func TestObserveOnlyIsSimulated(t *testing.T) {
	bare := storm(t, "outage", "none", 20, false)
	want, err := sim.Run(t.Context(), bare, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []circuit.GateMode{circuit.NoGate, circuit.Wait, circuit.FailFast} {
		s := bare
		s.Clients.Breaker = &circuit.Config{Gate: mode, ObserveOnly: true}
		got, err := sim.Run(t.Context(), s, 1)
		if err != nil || got.Attempts != want.Attempts || got.Lost != want.Lost {
			t.Errorf("gate %v: %d attempts, %v lost: %v; want %d and %v, as without a breaker", mode, got.Attempts, got.Lost, err, want.Attempts, want.Lost)
		}
		if got.Trips < 20 {
			t.Errorf("gate %v: %d trips, want one of each process at least", mode, got.Trips)
		}
	}
}

// Where service times vary, the first of several calls to end is a short one. A gate that learned from it what is
// usual took most successes for slow ones after a fault, and never lifted its limit.
func TestGateKnowsWhatIsUsualOfVariedServiceTimes(t *testing.T) {
	service := circuit.Service()
	s := sim.Scenario{
		Duration: 3 * time.Minute, Load: sim.Load{Rate: 100},
		Clients: sim.Clients{Deadline: 15 * time.Minute, Policy: retry.Service(), Breaker: &service},
		Backend: sim.Backend{Workers: 20, Queue: 500, Service: sim.Time{Mean: 100 * time.Millisecond, Distribution: sim.Exponential}},
		Faults:  []sim.Fault{{Kind: sim.Throttle, Level: 0.25, From: 30 * time.Second, To: 90 * time.Second}},
	}
	for seed := range uint64(5) {
		if r := play(t, s, seed); r.Recovery > 15*time.Second || r.Lost > 50*time.Second {
			t.Errorf("seed %d: %v lost, recovery %v: it was two minutes, and never", seed, r.Lost, r.Recovery)
		}
	}
}
