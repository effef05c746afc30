package sim_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/sim"
)

// Each fault costs clients without retries what it must, and so do the properties of a
// backend that the storms do not use.
func TestFaults(t *testing.T) {
	const from, to = 4 * time.Second, 9 * time.Second
	outage := sim.Fault{Kind: sim.Outage, From: from, To: to}
	preset := func(s *sim.Scenario) { s.Clients.Policy, s.Clients.Breaker = retry.Default(), &circuit.Config{} }
	for _, row := range []struct {
		name        string
		faults      []sim.Fault
		change      func(*sim.Scenario)
		least, most float64 // seconds lost
	}{
		{"nothing", nil, nil, 0, 0},
		{"blip", []sim.Fault{{Kind: sim.Outage, From: from, To: from + 50*time.Millisecond}}, func(s *sim.Scenario) { s.Load.Rate = 1900 }, 0.04, 0.06},
		{"black hole", []sim.Fault{{Kind: sim.BlackHole, From: from, To: to}}, nil, 4.8, 5.2},
		{"dead shard", []sim.Fault{{Kind: sim.Outage, From: from, To: to, Shard: 3}}, func(s *sim.Scenario) { s.Backend.Shards = 10 }, 0.45, 0.6},
		{"black shard", []sim.Fault{{Kind: sim.BlackHole, From: from, To: to, Shard: 10}}, func(s *sim.Scenario) { s.Backend.Shards = 10 }, 0.45, 0.6},
		{"fade", []sim.Fault{{Kind: sim.Fade, From: from, To: to, Level: 0.2}}, nil, 3.5, 8},
		{"ramp", []sim.Fault{{Kind: sim.Outage, From: from, To: to, Ramp: 4 * time.Second}}, nil, 9, 14},
		{"surge", []sim.Fault{{Kind: sim.Surge, From: from, To: to, Level: 1.6}}, nil, 7, 12},
		{"lull", []sim.Fault{{Kind: sim.Surge, From: from, To: to}, outage}, nil, 0, 0},
		{"slow network", []sim.Fault{{Kind: sim.SlowNetwork, From: from, To: to, Delay: 100 * time.Millisecond}}, nil, 0, 0},
		{"too slow network", []sim.Fault{{Kind: sim.SlowNetwork, From: from, To: to, Delay: 250 * time.Millisecond}}, nil, 4.7, 5.2},
		{"stall of one", []sim.Fault{{Kind: sim.Stall, From: from, To: from + 2*time.Second}}, nil, 0, 0.1},
		{"stall of all", []sim.Fault{{Kind: sim.Stall, From: from, To: to, Level: 1}}, nil, 1, 9.5}, // they come back as a herd
		{"two faults", []sim.Fault{outage, {Kind: sim.Outage, From: 12 * time.Second, To: 13 * time.Second}}, nil, 5.8, 6.2},
		{"faults that overlap", []sim.Fault{outage, {Kind: sim.Crash, From: 6 * time.Second, To: 10 * time.Second}}, nil, 5.8, 6.2},
		{"open breakers", []sim.Fault{outage}, preset, 17.5, 18},
		{"open breakers, restarted", []sim.Fault{outage, {Kind: sim.Restart, From: 10 * time.Second, To: 10 * time.Second}}, preset, 5.8, 6.2},
		{"open breakers, clock set", []sim.Fault{outage, {Kind: sim.ClockStep, From: 10 * time.Second, To: 20 * time.Second, Delay: time.Hour}}, preset, 17.5, 18},
		{
			"open shared breaker, clock set",
			[]sim.Fault{outage, {Kind: sim.ClockStep, From: 10 * time.Second, To: 20 * time.Second, Delay: time.Hour}},
			func(s *sim.Scenario) { preset(s); s.Clients.Shared = true }, 5.8, 6.2,
		}, // what processes share, they share by the wall clock
		{"brownout, last in first out", []sim.Fault{{Kind: sim.Brownout, From: from, To: to, Level: 0.2}}, func(s *sim.Scenario) { s.Backend.LastInFirstOut = true }, 3.4, 4.2},
		{"brownout, abandoned work skipped", []sim.Fault{{Kind: sim.Brownout, From: from, To: to, Level: 0.2}}, func(s *sim.Scenario) { s.Backend.SkipsAbandoned = true }, 3.5, 5},
		{"brownout, no queue", []sim.Fault{{Kind: sim.Brownout, From: from, To: to, Level: 0.2}}, func(s *sim.Scenario) { s.Backend.Queue = sim.NoQueue }, 3.6, 4.6},
		{"thrash", []sim.Fault{{Kind: sim.Brownout, From: from, To: to, Level: 0.2}}, func(s *sim.Scenario) { s.Backend.Slowdown = 0.1 }, 17, 18},
	} {
		s := sim.Storm(row.name, row.faults...)
		if row.change != nil {
			row.change(&s)
		}
		if lost := play(t, s, 1).Lost.Seconds(); lost < row.least || lost > row.most {
			t.Errorf("%s: %.2f s lost, want %v to %v", row.name, lost, row.least, row.most)
		}
	}
}

// Every scenario ends, each operation ends once, and the counts of the steps add up to the
// counts of the run.
func TestRandomScenariosAddUp(t *testing.T) {
	random := rand.New(rand.NewPCG(testseed.Of(t, 2), 0))
	attempts := 0
	for n := range 150 {
		s := anyScenario(random)
		if n%2 == 0 {
			s.Clients.Breaker.Gate = circuit.GateMode(1 + random.IntN(2))
		}
		r := play(t, s, uint64(n))
		sum := sim.Counts{}
		for _, c := range r.Steps {
			sum.Arrived += c.Arrived
			sum.Attempts += c.Attempts
			sum.Succeeded += c.Succeeded
			sum.Failed += c.Failed
			sum.Worked += c.Worked
			sum.Wasted += c.Wasted
		}
		most := r.Operations * s.Clients.Policy.Attempts()
		capacity := time.Duration(s.Backend.Workers) * time.Duration(len(r.Steps)) * sim.Step
		switch {
		case sum.Arrived != r.Operations, sum.Attempts != r.Attempts, sum.Succeeded != r.Succeeded, sum.Failed > r.Failed:
			t.Errorf("scenario %d: steps add up to %+v, the result is of %d operations, %d attempts, %d and %d\n%+v", n, sum, r.Operations, r.Attempts, r.Succeeded, r.Failed, s)
		case r.Attempts > most, r.Attempts < r.Succeeded, sum.Worked > capacity, sum.Wasted > sum.Worked, r.Wasted < 0 || r.Wasted > 1:
			t.Errorf("scenario %d: %d attempts of %d operations, %v of work, %v wasted\n%+v", n, r.Attempts, r.Operations, sum.Worked, sum.Wasted, s)
		case r.Lost < 0, r.Latency.P50 > r.Latency.P99, r.Latency.P99 > r.Latency.Max, r.Latency.Mean > r.Latency.Max:
			t.Errorf("scenario %d: %v lost, %+v\n%+v", n, r.Lost, r.Latency, s)
		}
		attempts += r.Attempts
	}
	if attempts < 100_000 {
		t.Errorf("%d attempts in all: the scenarios are too plain", attempts)
	}
}

// anyScenario returns a small scenario of any kind.
func anyScenario(random *rand.Rand) sim.Scenario {
	span := func(most time.Duration) time.Duration { return time.Duration(random.Int64N(int64(most))) }
	half := func() bool { return random.IntN(2) == 0 }
	s := sim.Scenario{Duration: time.Second + span(8*time.Second), Drain: 20 * time.Second}
	if s.Load.Rate = 50 + random.Float64()*500; half() {
		s.Load = sim.Load{Clients: 1 + random.IntN(20), Think: time.Millisecond + span(100*time.Millisecond)}
	} else if half() {
		s.Load.Batch = 1 + random.IntN(30)
	} else if half() {
		s.Load.Every = 100*time.Millisecond + span(time.Second)
	}
	c := &s.Clients
	c.Processes, c.Shared, c.Deadline = 1+random.IntN(30), half(), time.Duration(random.IntN(2))*(50*time.Millisecond+span(3*time.Second))
	c.Policy = retry.Policy{
		MaxAttempts: 1 + random.IntN(6), BaseDelay: 1 + span(200*time.Millisecond), JitterMode: retry.JitterMode(random.IntN(3)),
		AttemptTimeout: time.Duration(random.IntN(2)) * (10*time.Millisecond + span(time.Second)), MaxElapsed: 10 * time.Second,
	}
	c.Breaker = &circuit.Config{Budget: float64(1 + random.IntN(10)), RecoveryTimeout: 10*time.Millisecond + span(time.Second), OpenJitter: random.Float64()}
	s.Backend = sim.Backend{
		Workers: 1 + random.IntN(20), Queue: random.IntN(100) - 1, Slowdown: random.Float64(), Network: span(20*time.Millisecond) * time.Duration(random.IntN(2)),
		LastInFirstOut: half(), SkipsAbandoned: half(), Service: sim.Time{Mean: time.Millisecond + span(30*time.Millisecond), Distribution: sim.Distribution(random.IntN(4))},
	}
	s.Backend.Shards = 1 + random.IntN(s.Backend.Workers)
	for range random.IntN(4) {
		f := sim.Fault{Kind: sim.Kind(random.IntN(int(sim.ClockStep) + 1)), From: span(5 * time.Second), Level: random.Float64(), Shard: random.IntN(s.Backend.Shards + 1)}
		f.To, f.Ramp, f.RetryAfter, f.Delay = f.From+span(3*time.Second), span(2*time.Second), span(2*time.Second), span(time.Second)
		s.Faults = append(s.Faults, f)
	}
	return s
}

// A value that a Scenario may not have is an error that names the field, the value and
// what is allowed.
func TestValidate(t *testing.T) {
	for field, change := range map[string]func(*sim.Scenario){
		"Duration":                     func(s *sim.Scenario) { s.Duration = -1 },
		"Drain":                        func(s *sim.Scenario) { s.Drain = 25 * time.Hour },
		"Load.Rate":                    func(s *sim.Scenario) { s.Load.Rate = math.NaN() },
		"at most 1000000000":           func(s *sim.Scenario) { s.Load.Rate, s.Duration = 1e6, time.Hour },
		"Load.Batch":                   func(s *sim.Scenario) { s.Load.Batch = -1 },
		"Load.Every":                   func(s *sim.Scenario) { s.Load.Every = time.Nanosecond },
		"Load.Clients":                 func(s *sim.Scenario) { s.Load.Clients = 1 << 20 },
		"in a closed loop":             func(s *sim.Scenario) { s.Load.Clients = 1 },
		"Load.Think":                   func(s *sim.Scenario) { s.Load.Think = -1 },
		"Clients.Processes":            func(s *sim.Scenario) { s.Clients.Processes = 1 << 20 },
		"Clients.Policy.Breaker":       func(s *sim.Scenario) { s.Clients.Policy.Breaker = circuit.New("x", circuit.Config{}) },
		"Clients.Breaker.Store":        func(s *sim.Scenario) { s.Clients.Breaker = &circuit.Config{Store: new(circuit.Memory)} },
		"Clients.Breaker.Rate":         func(s *sim.Scenario) { s.Clients.Breaker = &circuit.Config{Rate: 1} },
		"Clients.Breaker.Concurrency":  func(s *sim.Scenario) { s.Clients.Breaker = &circuit.Config{Concurrency: 1} },
		"budget":                       func(s *sim.Scenario) { s.Clients.Breaker = &circuit.Config{Budget: -1} },
		"jitter":                       func(s *sim.Scenario) { s.Clients.Policy.Jitter = -2 },
		"Clients.Deadline":             func(s *sim.Scenario) { s.Clients.Deadline = -1 },
		"Backend.Workers":              func(s *sim.Scenario) { s.Backend.Workers = -1 },
		"Backend.Queue":                func(s *sim.Scenario) { s.Backend.Queue = -2 },
		"Backend.Slowdown":             func(s *sim.Scenario) { s.Backend.Slowdown = -1 },
		"Backend.Shards":               func(s *sim.Scenario) { s.Backend.Shards = 41 },
		"Backend.Network":              func(s *sim.Scenario) { s.Backend.Network = -1 },
		"Backend.Service.Mean":         func(s *sim.Scenario) { s.Backend.Service.Mean = -1 },
		"Backend.Service.Spread":       func(s *sim.Scenario) { s.Backend.Service.Spread = 1.1 },
		"Backend.Service.Distribution": func(s *sim.Scenario) { s.Backend.Service.Distribution = 4 },
		"Faults[0].Kind":               func(s *sim.Scenario) { s.Faults[0].Kind = 12 },
		"Faults[0].From":               func(s *sim.Scenario) { s.Faults[0].From = -1 },
		"Faults[0].To":                 func(s *sim.Scenario) { s.Faults[0].To = time.Second },
		"Faults[0].Shard":              func(s *sim.Scenario) { s.Faults[0].Shard = 2 },
		"Faults[0].Level":              func(s *sim.Scenario) { s.Faults[0].Level = math.NaN() },
		"Faults[0].Ramp":               func(s *sim.Scenario) { s.Faults[0].Ramp = -1 },
		"Faults[0].RetryAfter":         func(s *sim.Scenario) { s.Faults[0].RetryAfter = -1 },
		"Faults[0].Delay":              func(s *sim.Scenario) { s.Faults[0].Delay = -1 },
		"number of Faults":             func(s *sim.Scenario) { s.Faults = make([]sim.Fault, 1001) },
	} {
		s := sim.Storms()[0]
		change(&s)
		r, err := sim.Run(t.Context(), s, 1)
		if err == nil || !strings.Contains(err.Error(), field) || r.Operations != 0 {
			t.Errorf("%s: error %v, %d operations", field, err, r.Operations)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	if _, err := sim.Run(ctx, sim.Storms()[0], 1); !errors.Is(err, why) {
		t.Errorf("with a context that has ended: %v", err)
	}
	if _, err := sim.Run(t.Context(), sim.Scenario{}, 1); err != nil {
		t.Errorf("the zero Scenario, without any call: %v", err)
	}
}
