package sim

import (
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
)

// Storm returns the scenario in which policies are compared: 40 workers that take
// 10 to 30 ms, a queue of 2,000, and 1,600 operations a second, which are 80 % of
// that capacity, for 22 s. Their callers wait for 3 s, and an attempt may take
// 200 ms. The faults are those given.
func Storm(name string, faults ...Fault) Scenario {
	return Scenario{
		Name: name, Duration: 22 * time.Second, Load: Load{Rate: 1600},
		Clients: Clients{Processes: 20, Deadline: 3 * time.Second, Policy: NoRetries()},
		Backend: Backend{Workers: 40, Queue: 2000, Service: Time{Mean: 20 * time.Millisecond}},
		Faults:  faults,
	}
}

// Storms returns the faults that every policy has to stand, of 5 s each, in the
// scenario of [Storm].
func Storms() []Scenario {
	fault := func(f Fault) Fault {
		f.From, f.To = 4*time.Second, 9*time.Second
		return f
	}
	return []Scenario{
		Storm("outage", fault(Fault{Kind: Outage})),
		Storm("crash", fault(Fault{Kind: Crash})),
		Storm("brownout", fault(Fault{Kind: Brownout, Level: 0.2})),
		Storm("throttle", fault(Fault{Kind: Throttle, Level: 0.4, RetryAfter: time.Second})),
		Storm("throttle without Retry-After", fault(Fault{Kind: Throttle, Level: 0.4})),
		Storm("errors 5 %", fault(Fault{Kind: Errors, Level: 0.05})),
		Storm("errors 30 %", fault(Fault{Kind: Errors, Level: 0.3})),
		Storm("deploy in a brownout", fault(Fault{Kind: Brownout, Level: 0.2}), Fault{Kind: Restart, From: 6500 * time.Millisecond, To: 6500 * time.Millisecond}),
	}
}

// attemptTimeout is that of the policies below.
const attemptTimeout = 200 * time.Millisecond

// NoRetries returns a policy of one attempt: that with which all others compare.
func NoRetries() retry.Policy {
	return retry.Policy{MaxAttempts: 1, AttemptTimeout: attemptTimeout}
}

// Backoff returns a policy of five attempts with full jitter from 50 ms to 1 s,
// which is what most retry libraries do.
func Backoff() retry.Policy {
	return retry.Policy{
		MaxAttempts: 5, BaseDelay: 50 * time.Millisecond, MaxDelay: time.Second, JitterMode: retry.FullJitter,
		AttemptTimeout: attemptTimeout,
	}
}

// A Contender is how clients call, to be compared with others.
type Contender struct {
	Name    string
	Policy  retry.Policy
	Breaker *circuit.Config
	Library string // as Clients.Library
}

// In returns s with clients that call as c does.
func (c Contender) In(s Scenario) Scenario {
	s.Clients.Policy, s.Clients.Breaker, s.Clients.Library = c.Policy, c.Breaker, c.Library
	return s
}

// Contenders returns the policies that are worth a comparison in a storm: backoff is
// full jitter alone, preset the circuit breaker and the policy that zeros mean, and
// the last ones are [Libraries].
func Contenders() []Contender {
	timed := func(p retry.Policy) retry.Policy {
		p.AttemptTimeout = attemptTimeout
		return p
	}
	service := circuit.Service()
	all := []Contender{
		{Name: "none", Policy: NoRetries()},
		{Name: "backoff", Policy: Backoff()},
		{Name: "backoff_budget", Policy: Backoff(), Breaker: &circuit.Config{FailureThreshold: circuit.Off, Budget: 10}},
		{Name: "preset", Policy: timed(retry.Default()), Breaker: &circuit.Config{}},
		{Name: "service", Policy: timed(retry.Service()), Breaker: &service},
	}
	for _, name := range Libraries() {
		all = append(all, Contender{Name: name, Policy: NoRetries(), Library: name})
	}
	return all
}
