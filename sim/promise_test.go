package sim_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/sim"
)

// hardships are scenarios besides the storms, each with faults from 4 to 9 s.
func hardships() (all []sim.Scenario) {
	add := func(name string, f sim.Fault, change func(*sim.Scenario)) {
		f.From, f.To = 4*time.Second, 9*time.Second
		s := sim.Storm(name, f)
		if change != nil {
			change(&s)
		}
		all = append(all, s)
	}
	outage, brownout := sim.Fault{Kind: sim.Outage}, sim.Fault{Kind: sim.Brownout, Level: 0.2}
	add("fade", sim.Fault{Kind: sim.Fade, Level: 0.2}, nil)
	add("outage and a ramp", sim.Fault{Kind: sim.Outage, Ramp: 4 * time.Second}, nil)
	add("brownout and a ramp", sim.Fault{Kind: sim.Brownout, Level: 0.2, Ramp: 4 * time.Second}, nil)
	add("half of the capacity", sim.Fault{Kind: sim.Brownout, Level: 0.5}, nil)
	add("surge", sim.Fault{Kind: sim.Surge, Level: 1.6}, nil)
	add("blip", outage, func(s *sim.Scenario) {
		s.Faults[0].To = 4050 * time.Millisecond
		s.Load.Rate = 2000
		s.Backend.Workers = 50
	})
	add("one shard of ten down", sim.Fault{Kind: sim.Outage, Shard: 1}, func(s *sim.Scenario) { s.Backend.Shards = 10 })
	add("one shard of ten a black hole", sim.Fault{Kind: sim.BlackHole, Shard: 1}, func(s *sim.Scenario) { s.Backend.Shards = 10 })
	add("black hole", sim.Fault{Kind: sim.BlackHole}, nil)
	add("slow network", sim.Fault{Kind: sim.SlowNetwork, Delay: 250 * time.Millisecond}, nil)
	add("restart in an outage", outage, func(s *sim.Scenario) {
		s.Faults = append(s.Faults, sim.Fault{Kind: sim.Restart, From: 6500 * time.Millisecond, To: 6500 * time.Millisecond})
	})
	for name, step := range map[string]time.Duration{"forward": time.Hour, "back": -time.Hour} {
		add("brownout, the clock put "+name, brownout, func(s *sim.Scenario) {
			s.Faults = append(s.Faults, sim.Fault{Kind: sim.ClockStep, From: 6500 * time.Millisecond, To: 22 * time.Second, Delay: step})
		})
	}
	add("brownout, a process stops", brownout, func(s *sim.Scenario) {
		s.Faults = append(s.Faults, sim.Fault{Kind: sim.Stall, From: 7 * time.Second, To: 10 * time.Second})
	})
	add("thrash", brownout, func(s *sim.Scenario) { s.Backend.Slowdown = 0.1 })
	add("brownout, last in first out", brownout, func(s *sim.Scenario) { s.Backend.LastInFirstOut = true })
	add("outage at 95 % load", outage, func(s *sim.Scenario) { s.Load.Rate = 1900 })
	add("brownout at 95 % load", brownout, func(s *sim.Scenario) { s.Load.Rate = 1900 })
	add("outage at 40 % load", outage, func(s *sim.Scenario) { s.Load.Rate = 800 })
	add("brownout at 40 % load", brownout, func(s *sim.Scenario) { s.Load.Rate = 800 })
	add("brownout, calls in bursts of 40", brownout, func(s *sim.Scenario) { s.Load.Batch = 40 })
	add("outage, calls in bursts of 40", outage, func(s *sim.Scenario) { s.Load.Batch = 40 })
	add("brownout, calls in herds", brownout, func(s *sim.Scenario) { s.Load.Every = 200 * time.Millisecond })
	add("outage, calls in herds", outage, func(s *sim.Scenario) { s.Load.Every = 200 * time.Millisecond })
	for name, queue := range map[string]int{"1 s": 2000, "10 s": 20_000} {
		add("brownout, no timeouts, a queue of "+name, brownout, func(s *sim.Scenario) {
			s.Clients.Policy.AttemptTimeout, s.Backend.Queue = 0, queue
		})
	}
	add("outage, no timeouts", outage, func(s *sim.Scenario) { s.Clients.Policy.AttemptTimeout = 0 })
	for name, varied := range map[string]sim.Time{
		"exponential": {Distribution: sim.Exponential, Mean: 20 * time.Millisecond},
		"log-normal":  {Distribution: sim.LogNormal, Mean: 20 * time.Millisecond, Spread: 1},
	} {
		add("outage, service times are "+name, outage, func(s *sim.Scenario) { s.Backend.Service = varied })
		add("brownout, service times are "+name, brownout, func(s *sim.Scenario) { s.Backend.Service = varied })
	}
	add("a jump in service time", sim.Fault{Kind: sim.SlowNetwork, Delay: 100 * time.Millisecond}, nil)
	add("brownout of half a minute", brownout, func(s *sim.Scenario) { s.Duration = time.Minute; s.Faults[0].To = 34 * time.Second })
	return all
}

// missed says what the gate does not keep of its promise: of a service that responds to the latest
// request first, and of 2,000 new processes that share nothing and have no budget for retries.
func missed() map[string]string {
	return map[string]string{
		"brownout, last in first out, 1 on one cell":  "amplification 1.254 after the fault, by the callers that had waited",
		"no budget: deploy in a brownout, 2000 alone": "amplification 1.57",
	}
}

// A kind is how clients of the gate call.
type kind struct {
	name string // "" is the one that all else is measured with
	by   func(*sim.Clients)
}

// kinds returns a policy and a Config of each kind that has the gate. The presets have no
// attempt timeout of their own: theirs is the scenario's. Who fails fast loses of bursts and herds
// the calls for which there is no credit yet, which is why those are not played.
func kinds() []kind {
	set := func(name string, p retry.Policy, b circuit.Config) kind {
		p.AttemptTimeout = sim.Backoff().AttemptTimeout
		return kind{name, func(c *sim.Clients) { c.Policy, c.Breaker = p, &b }}
	}
	return []kind{
		{"", gated},
		set("Service: ", retry.Service(), circuit.Service()),
		set("Pipeline: ", retry.Pipeline(), circuit.Pipeline()),
		set("FailFast: ", sim.Backoff(), circuit.Config{Gate: circuit.FailFast, Budget: 10}),
		set("no budget: ", sim.Backoff(), circuit.Config{Gate: circuit.Wait}),
	}
}

// A gate makes no fault worse, at any size and with any Config: it loses at most what no
// retries lose plus a sixth of a second, its amplification is limited, and the backend
// recovers. The storms run with each Config, everything else with one.
func TestGateMakesNothingWorse(t *testing.T) {
	processes, seeds := sizes()
	if seeds == 1 {
		processes = processes[1:] // an ordinary run is short
	}
	storms := len(sim.Storms())
	for i, s := range append(sim.Storms(), hardships()...) {
		without := mean(t, s, seeds)
		for _, k := range kinds() {
			if k.name != "" && i >= storms {
				continue
			}
			for _, n := range processes {
				promised(t, s, k, n, false, without)
				promised(t, s, k, n, true, without)
			}
		}
	}
}

// promised fails the test if clients of the kind k make s worse than it is without retries,
// unless that is known.
func promised(t *testing.T, s sim.Scenario, k kind, n int, shared bool, without means) {
	t.Helper()
	name := k.name + fleet(s.Name, n, shared)
	t.Run(name, func(t *testing.T) {
		m := mean(t, with(s, k.by, n, shared), without.seeds)
		t.Logf("%v; without retries %v", m, without)
		switch why := worse(s, m, without); {
		case why != "" && missed()[name] == "":
			t.Error(why)
		case why == "" && missed()[name] != "" && m.seeds > 1:
			t.Errorf("not missed any more: %s", missed()[name])
		}
	})
}

// Each of 2,000 processes that share nothing makes a call a second. After a minute of
// health a budget of 10 tokens each is full: far more than the calls of a fault. With one
// token each, the promise holds.
func TestGateOfManySmallProcesses(t *testing.T) {
	if _, seeds := sizes(); seeds == 1 {
		t.Skip("it takes long: make long")
	}
	for _, s := range sim.Storms() {
		s.Duration += time.Minute
		for i := range s.Faults {
			s.Faults[i].From += time.Minute
			s.Faults[i].To += time.Minute
		}
		small := with(s, gated, 2000, false)
		small.Clients.Breaker.Budget = 1
		if why := worse(s, mean(t, small, 1), mean(t, s, 1)); why != "" {
			t.Errorf("%s: %s", s.Name, why)
		}
	}
}

// worse says in what m is worse than what happened without retries; "" means in nothing.
func worse(s sim.Scenario, m, without means) string {
	long := s.Faults[0].To-s.Faults[0].From > time.Second // else it has too few operations
	switch {
	case m.lost > without.lost+0.15:
		return fmt.Sprintf("%.2f s lost, without retries %.2f", m.lost, without.lost)
	case long && m.during > 1.45, m.after > 1.25:
		return fmt.Sprintf("amplification %.2f and %.2f", m.during, m.after)
	case m.recovery > without.recovery+1:
		return fmt.Sprintf("recovers after %.1f s, without retries %.1f", m.recovery, without.recovery)
	default:
		return ""
	}
}
