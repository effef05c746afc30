package sim_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/sim"
)

// A loop is callers of one process that call again when their call has ended. So they
// determine the demand: of a service in trouble, from 5 s to 30 s, they demand next to nothing.
type loop struct {
	fault   sim.Fault
	callers int
	think   time.Duration // mean time between two calls of a caller
	varied  bool          // the service time has a long tail, so that every tenth call is a slow one
	errors  float64       // ratio of independent errors, at all times
	timeout time.Duration // of an attempt; 0 means none
	shared  bool          // the gate is in a cell that other processes may share
}

const loopFrom, loopTo, loopEnd = 5 * time.Second, 30 * time.Second, 40 * time.Second

func (l loop) scenario() sim.Scenario {
	l.fault.From, l.fault.To = loopFrom, loopTo
	service := sim.Constant
	if l.varied {
		service = sim.LogNormal
	}
	return sim.Scenario{
		Name: fmt.Sprintf("%v, %d callers that think for %v, varied %v, %g %% errors, attempts of %v, shared %v",
			l.fault.Kind, l.callers, l.think, l.varied, 100*l.errors, l.timeout, l.shared),
		Duration: loopEnd, Load: sim.Load{Clients: l.callers, Think: l.think},
		Clients: sim.Clients{
			Shared: l.shared, Breaker: &circuit.Config{Gate: circuit.Wait, Budget: 1000},
			Policy: retry.Policy{MaxAttempts: 5, BaseDelay: time.Millisecond, MaxDelay: 5 * time.Millisecond, JitterMode: retry.FullJitter, AttemptTimeout: l.timeout},
		},
		Backend: sim.Backend{Workers: max(l.callers, 4), Queue: 2000, Service: sim.Time{Distribution: service}},
		Faults:  []sim.Fault{l.fault, {Kind: sim.Errors, To: loopEnd, Level: l.errors}},
	}
}

// back returns how long after the fault callers were back: each second from then on had at
// least 90 % of the successes of a second before the fault, or 80 % if calls vary.
func (l loop) back(r sim.Result) time.Duration {
	const second = int(time.Second / sim.Step)
	successes := func(first, seconds int) (n int) {
		for _, c := range r.Steps[first : first+seconds*second] {
			n += c.Succeeded
		}
		return n
	}
	before := 0.9 * float64(successes(second, 4)) / 4
	if l.varied {
		before *= 8. / 9
	}
	last := int(loopEnd/sim.Step) - second
	for ; last >= int(loopTo/sim.Step) && float64(successes(last, 1)) >= before; last-- {
	}
	return time.Duration(last+1)*sim.Step - loopTo
}

// Callers in a loop are back soon after a fault: when a probe has found that the service
// responds, after at most 0.6 s, or 2.5 s if attempts were slow, and a second. The pace used to follow
// their demand: eight callers were back after 7 to 12 s, and on a cell that
// processes may share after 11 to 35 s; 64 callers with errors of 30 % never were.
func TestGateLetsCallersInALoopBack(t *testing.T) {
	long := os.Getenv("PERDURE_TEST_LONG") != ""
	loops := []loop{
		{callers: 1},
		{callers: 8},
		{callers: 64},
		{callers: 8, varied: true},
		{callers: 8, think: time.Millisecond},
		{callers: 8, think: 5 * time.Millisecond},
		{callers: 8, think: 20 * time.Millisecond, varied: true},
	}
	for _, f := range []sim.Fault{{Kind: sim.SlowNetwork, Delay: 380 * time.Millisecond}, {Kind: sim.Outage}, {Kind: sim.Brownout, Level: 1. / 64}} {
		for _, l := range loops {
			for _, e := range []float64{0, 0.05, 0.16, 0.3} {
				if !long && (e == 0.05 || l.callers == 64 && e == 0) {
					continue
				}
				for _, timeout := range []time.Duration{0, 200 * time.Millisecond} {
					l.fault, l.errors, l.timeout, l.shared = f, e, timeout, false
					l.isBack(t)
					if l.shared = true; l.think <= time.Millisecond { // others are back when the limit is lifted, after up to 10 s
						l.isBack(t)
					}
				}
			}
		}
	}
}

func (l loop) isBack(t *testing.T) {
	t.Helper()
	s := l.scenario()
	most := 4500 * time.Millisecond
	if l.fault.Kind == sim.Outage {
		most = 3500 * time.Millisecond
	}
	if d := l.back(play(t, s, 1)); d > most {
		t.Errorf("%s: back after %v, want %v", s.Name, d, most)
	}
}
