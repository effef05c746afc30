package sim_test

import (
	"errors"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/sim"
)

// The number of attempts that a library makes at a dead backend can be counted manually.
func TestLibrariesAtADeadBackend(t *testing.T) {
	const ms, second = time.Millisecond, time.Second
	for _, row := range []struct {
		library     string
		fault       sim.Fault
		rate        float64
		duration    time.Duration
		deadline    time.Duration
		least, most func(operations int) int // attempts
	}{
		{"aws_standard", sim.Fault{Kind: sim.Outage}, 100, 8 * second, 0, plus(500 / 5), nil},
		{"aws_standard", sim.Fault{Kind: sim.Throttle}, 100, 8 * second, 0, plus(500 / 5), nil},
		{"aws_standard", sim.Fault{Kind: sim.BlackHole}, 100, 8 * second, 0, plus(500 / 10), nil},
		{"aws_standard", sim.Fault{Kind: sim.Outage}, 2, 5 * second, 0, times(3), nil}, // the tokens suffice
		{"aws_2026", sim.Fault{Kind: sim.Outage}, 100, 8 * second, 0, plus(500 / 14), nil},
		{"aws_2026", sim.Fault{Kind: sim.Throttle}, 100, 8 * second, 0, plus(500 / 5), nil},
		{"aws_2026", sim.Fault{Kind: sim.BlackHole}, 100, 8 * second, 0, plus(500 / 14), nil},
		{"grpc_throttle", sim.Fault{Kind: sim.Outage}, 100, 8 * second, 0, plus(4), nil}, // 9, 8, 7 and 6 tokens are above 5
		{"finagle_budget", sim.Fault{Kind: sim.Outage}, 200, 8 * second, 0, func(n int) int { return n + 100 + n/5 }, nil},
		{"tenacity", sim.Fault{Kind: sim.Outage}, 100, 2 * second, second, times(100), nil}, // one in 10 ms
		{"stamina", sim.Fault{Kind: sim.Outage}, 20, 5 * second, 0, times(10), nil},
		{"polly", sim.Fault{Kind: sim.Outage}, 1000, 22 * second, 0, exactly(100 + 5), nil}, // a probe each 5 s, until the last retry at 28 s
		{"resilience4j", sim.Fault{Kind: sim.Outage}, 1000, 22 * second, 0, exactly(100), nil},
		{"resilience4j", sim.Fault{Kind: sim.Outage}, 200, 70 * second, 0, exactly(100 + 10), nil},
		{"failsafe_mix", sim.Fault{Kind: sim.Outage}, 1000, 400 * ms, 50 * ms, exactly(10), nil},
		{"gobreaker", sim.Fault{Kind: sim.Outage}, 1000, 900 * ms, 50 * ms, exactly(6), nil},
		{"failsafe_mix", sim.Fault{Kind: sim.Outage}, 1000, 22 * second, 0, exactly(10 + 43), exactly(10 + 52)}, // a probe each 0.5 s
		{"gobreaker", sim.Fault{Kind: sim.Outage}, 1000, 22 * second, 0, exactly(6 + 21), exactly(6 + 26)},      // a probe each second
	} {
		row.fault.To = time.Hour
		s := sim.Storm("dead", row.fault)
		s.Load.Rate, s.Duration, s.Clients.Processes, s.Clients.Deadline = row.rate, row.duration, 1, row.deadline
		s.Clients.Library = row.library
		r := play(t, s, 1)
		if row.most == nil {
			row.most = row.least
		}
		if least, most := row.least(r.Operations), row.most(r.Operations); r.Attempts < least || r.Attempts > most || r.Succeeded > 0 {
			t.Errorf("%s, %v: %d operations made %d attempts, and %d succeeded; want %d to %d", row.library, row.fault.Kind, r.Operations, r.Attempts, r.Succeeded, least, most)
		}
	}
}

func plus(retries int) func(int) int   { return func(n int) int { return n + retries } }
func times(attempts int) func(int) int { return func(n int) int { return n * attempts } }
func exactly(all int) func(int) int    { return func(int) int { return all } }

// In health no library refuses calls, and each recovers almost all of a few failures.
func TestLibrariesInHealth(t *testing.T) {
	for _, name := range sim.Libraries() {
		s := sim.Storm("health")
		s.Duration, s.Clients.Library = 5*time.Second, name
		if r := play(t, s, 1); r.Attempts != r.Operations || r.Failed > 0 || r.Trips > 0 {
			t.Errorf("%s: %d operations, %d attempts, %d failed, %d trips", name, r.Operations, r.Attempts, r.Failed, r.Trips)
		}
		s.Faults = []sim.Fault{{Kind: sim.Errors, Level: 0.01, To: s.Duration}}
		if r := play(t, s, 1); r.Failed > r.Operations/1000 || r.Trips > 0 {
			t.Errorf("%s, 1 %% errors: of %d operations %d failed, %d trips", name, r.Operations, r.Failed, r.Trips)
		}
	}
}

// The AWS SDKs refund a retry that succeeds, so the tokens pay for all retries up to some
// 30 % of errors: 1 + p + p² attempts per operation.
func TestLibrariesGiveTokensBack(t *testing.T) {
	s := sim.Storm("errors", sim.Fault{Kind: sim.Errors, Level: 0.25, To: time.Hour})
	s.Clients.Library, s.Clients.Deadline = "aws_standard", 0
	if r := play(t, s, 1); math.Abs(r.Amplification.During-1.3125) > 0.02 {
		t.Errorf("%.3f attempts for each operation, want 1.3125", r.Amplification.During)
	}
}

// gobreaker ignores results of calls of an earlier state: 200 timeouts while it is open do
// not keep it open for more than a second.
func TestLibrariesKnowOldResults(t *testing.T) {
	s := sim.Storm("black hole", sim.Fault{Kind: sim.BlackHole, To: time.Hour})
	s.Load.Rate, s.Duration, s.Clients.Processes, s.Clients.Library = 1000, 2*time.Second, 1, "gobreaker"
	s.Clients.Policy.AttemptTimeout = 200 * time.Millisecond
	if r := play(t, s, 1); r.Steps[11].Attempts != 0 || r.Steps[12].Attempts != 1 {
		t.Errorf("%d attempts from 1.1 s on and %d from 1.2 s on, want a probe then", r.Steps[11].Attempts, r.Steps[12].Attempts)
	}
}

// A call that its caller's deadline ends is a success for Polly's breaker, which does not
// handle it, and a failure for the breaker of resilience4j.
func TestLibrariesAndDeadlines(t *testing.T) {
	for name, trips := range map[string]int{"polly": 0, "resilience4j": 1} {
		s := sim.Storm("black hole", sim.Fault{Kind: sim.BlackHole, To: time.Hour})
		s.Clients.Processes, s.Clients.Library, s.Clients.Deadline = 1, name, 100*time.Millisecond
		s.Clients.Policy.AttemptTimeout = 0
		if r := play(t, s, 1); r.Trips != trips {
			t.Errorf("%s: opened %d times, want %d", name, r.Trips, trips)
		}
	}
}

// A library starts with new tokens when its processes restart.
func TestLibrariesRestart(t *testing.T) {
	s := sim.Storm("restart", sim.Fault{Kind: sim.Outage, To: time.Hour}, sim.Fault{Kind: sim.Restart, From: 4 * time.Second, To: 4 * time.Second})
	s.Load.Rate, s.Duration, s.Clients.Processes, s.Clients.Deadline, s.Clients.Library = 100, 8*time.Second, 3, 0, "aws_2026"
	if r := play(t, s, 1); r.Attempts != r.Operations+2*3*35 {
		t.Errorf("%d operations made %d attempts, want %d", r.Operations, r.Attempts, r.Operations+2*3*35)
	}
}

func TestUnknownLibrary(t *testing.T) {
	s := sim.Storm("x")
	s.Clients.Library = "hystrix"
	var e *sim.Error
	if err := s.Validate(); !errors.As(err, &e) || e.Field != "Clients.Library" || e.Value != "hystrix" {
		t.Errorf("error %v", err)
	}
	names := map[string]bool{}
	for _, c := range sim.Contenders() {
		if names[c.Name] {
			t.Errorf("two contenders are called %q", c.Name)
		}
		names[c.Name] = true
		if err := c.In(sim.Storm("x")).Validate(); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
	}
	for _, name := range sim.Libraries() {
		if !names[name] {
			t.Errorf("%q is no contender", name)
		}
	}
}

// The figures of another model, written without this code, for libraries in the storms:
// the mean lost seconds, within 0.45 s.
func TestKnownLibraries(t *testing.T) {
	for _, row := range []struct {
		library, storm string
		processes      int
		lost           float64
	}{
		{"failsafe_mix", "outage", 20, 4.9},
		{"failsafe_mix", "brownout", 20, 4.7},
		{"failsafe_mix", "throttle", 20, 2.2},
		{"failsafe_mix", "outage", 100, 4.8},
		{"failsafe_mix", "brownout", 100, 5.9},
		{"failsafe_mix", "throttle", 100, 2.2},
		{"gobreaker", "throttle", 20, 2.7},
		{"gobreaker", "outage", 100, 5.0},
		{"gobreaker", "throttle", 100, 2.5},
	} {
		lost, seeds := 0.0, uint64(3)
		for seed := range seeds {
			lost += play(t, storm(t, row.storm, row.library, row.processes, false), seed+1).Lost.Seconds() / float64(seeds)
		}
		if d := lost - row.lost; d > 0.45 || d < -0.45 {
			t.Errorf("%s, %s, %d processes: %.2f s lost, want %.2f", row.library, row.storm, row.processes, lost, row.lost)
		}
	}
}

// The processes of a library share nothing, even if Clients.Shared is set.
func TestLibrariesShareNothing(t *testing.T) {
	alone, shared := storm(t, "outage", "gobreaker", 5, false), storm(t, "outage", "gobreaker", 5, true)
	a, b := play(t, alone, 1), play(t, shared, 1)
	if !reflect.DeepEqual(a, b) || a.Trips < 5 {
		t.Errorf("%d trips and %v lost, shared %d and %v", a.Trips, a.Lost, b.Trips, b.Lost)
	}
}
