package sim_test

import (
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/sim"
)

// A gate does not make a service with long calls worse, though a ramp takes several times
// as long as a call. On one cell it used to: a probe kept successes from doubling the
// credits for 10 ms, and at this demand a probe is sent every 10 ms.
func TestGateOfASlowService(t *testing.T) {
	service := circuit.Service()
	for _, base := range []time.Duration{200 * time.Millisecond, 400 * time.Millisecond} {
		for _, s := range sim.Storms() {
			s.Backend.Service.Mean = base
			s.Backend.Workers *= int(base / (20 * time.Millisecond))
			s.Clients.Deadline = 6 * time.Second
			s.Clients.Policy.AttemptTimeout = 10 * base
			without := mean(t, s, 1)
			s.Clients.Policy, s.Clients.Breaker = retry.Service(), &service
			for _, shared := range []bool{false, true} {
				s.Clients.Shared = shared
				m, name := mean(t, s, 1), fleet(base.String()+", "+s.Name, s.Clients.Processes, shared)
				if m.lost > without.lost+0.15 || m.recovery > without.recovery+1+5*base.Seconds() || m.during > 1.45 {
					t.Errorf("%s: %v; without retries %v", name, m, without)
				}
			}
		}
	}
}

// New processes learn in a brownout that attempts take as long as the queue: 0.1 s and
// more. The successes after the fault correct it. Otherwise the standing queue counts as
// fast: they lost 6.1 s, and recovered after 9.6 s.
func TestGateDoubtsTheTimeOfAQueue(t *testing.T) {
	for _, s := range sim.Storms() {
		if s.Name == "deploy in a brownout" {
			m := mean(t, with(s, gated, 1, false), 5)
			m.check(t, goal{lost: 3})
		}
	}
}
