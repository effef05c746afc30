package simulate

import (
	"cmp"
	"fmt"
	"math"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/sim"
)

// A Verdict describes what a policy does, and what to change.
type Verdict struct {
	Grade  Grade
	Text   string
	Advice string  // the text of Change, or why there is no Change
	Change *Change // nil if nothing is to be changed
}

// A Grade is good, fair or bad.
type Grade string

// The grades.
const (
	Good Grade = "good" // better than no retries
	Fair Grade = "fair" // no better than no retries, or at a price
	Bad  Grade = "bad"  // worse than no retries
)

// A Change is a change of a policy or its circuit breaker.
type Change struct {
	Text  string
	apply func(sim.Contender) sim.Contender
}

// Facts are the input of a verdict.
type Facts struct {
	Scenario sim.Scenario
	By       sim.Contender
	Result   sim.Result
	None     sim.Result // without retries, in the same scenario
}

// Limits of the rules.
const (
	muchLoad  = 1.5 // attempts per operation
	muchWaste = 0.2 // part of the work
	longWait  = time.Second
)

// Judge returns the verdict on a policy.
func Judge(f Facts) Verdict {
	v := Verdict{}
	v.Grade, v.Text = f.judge()
	if v.Grade != Good {
		v.Change = f.change()
	}
	v.Advice = f.advice(v)
	return v
}

// judge returns grade and text of the first rule that holds.
func (f Facts) judge() (Grade, string) {
	r, lost, none := f.Result, f.lost(f.Result), f.lost(f.None)
	costs, instead := seconds(lost)+" of traffic", " instead of "+seconds(none)
	little := max(none/10, sim.Step/2) // a difference that does not matter
	recovers := ""
	if r.Recovery != sim.Never {
		recovers = ", and the service recovers " + after(r.Recovery)
	}
	never := len(f.Scenario.Faults) > 0 && r.Recovery == sim.Never && f.None.Recovery != sim.Never
	for _, rule := range []struct {
		holds bool
		grade Grade
		text  string
	}{
		{lost > 0 && f.By.Policy.Attempts() == 1 && f.By.Breaker == nil && f.By.Library == "", Fair, "the baseline: without retries, the " + cause(f.Scenario) + " costs " + costs},
		{never && f.refuses(), Bad, "does not recover within the simulation: its circuit breakers still refuse calls" + f.atATime()},
		{never && r.Amplification.After > muchLoad, Bad, fmt.Sprintf("never recovers: %.1f attempts per operation keep the service overloaded after the fault", r.Amplification.After)},
		{never, Bad, "never recovers"},
		{lost > none+little, Bad, "worse than no retries: loses " + costs + instead},
		{r.Recovery != sim.Never && f.None.Recovery != sim.Never && r.Recovery > f.None.Recovery+longWait, Bad, "slow to recover: " + after(r.Recovery) + ", without retries " + after(f.None.Recovery)},
		{r.Amplification.During > muchLoad, Fair, fmt.Sprintf("multiplies the load by %.1f in the fault, and loses %s", r.Amplification.During, costs)},
		{lost == 0, Good, "loses nothing"},
		{lost >= none-little && lost < none && seconds(lost) != seconds(none), Fair, "hardly better than no retries: loses " + costs + instead},
		{lost >= none-little, Fair, "no better than no retries: loses " + costs},
		{r.Wasted > muchWaste, Fair, fmt.Sprintf("loses %s%s, but %.0f %% of the work is for callers that have given up", costs, instead, 100*r.Wasted)},
		{true, Good, "loses " + costs + instead + recovers},
	} {
		if rule.holds {
			return rule.grade, rule.text
		}
	}
	return "", "" // the last rule holds
}

// change returns the change that is most likely to help, or nil.
func (f Facts) change() *Change {
	p, b := f.By.Policy, cmp.Or(f.By.Breaker, &circuit.Config{FailureThreshold: circuit.Off})
	switch {
	case p.Attempts() == 1 || f.By.Library != "":
		return &Change{"Retry with a gate and a budget (preset: service)", func(c sim.Contender) sim.Contender {
			service, breaker := retry.Service(), circuit.Service()
			service.AttemptTimeout = c.Policy.AttemptTimeout
			c.Policy, c.Breaker, c.Library = service, &breaker, ""
			return c
		}}
	case p.AttemptTimeout == 0 && f.Result.Trips == 0 && math.Abs(f.Result.Amplification.During-1) < 0.05:
		return f.timeout() // the first attempt uses all of the time
	case b.Gate == circuit.NoGate && b.Budget > 0:
		return &Change{"Add a gate (gate: wait), which admits what the service can handle", gated}
	case b.Gate == circuit.NoGate:
		return &Change{"Add a gate and a budget (gate: wait, budget: 10)", gated}
	case b.Budget == 0:
		return &Change{"Add a budget (budget: 10), which stops retries in an outage", gated}
	case p.AttemptTimeout == 0:
		return f.timeout()
	}
	return nil
}

// timeout returns the change that ends attempts after ten times their usual time. It adds a gate: without one, consecutive
// timeouts open a circuit breaker.
func (f Facts) timeout() *Change {
	timeout := 10 * cmp.Or(f.Scenario.Backend.Service.Mean, 20*time.Millisecond)
	end := func(c sim.Contender) sim.Contender {
		c.Policy.AttemptTimeout = timeout
		return c
	}
	if f.By.Breaker != nil && f.By.Breaker.Gate != circuit.NoGate {
		return &Change{fmt.Sprintf("End attempts that take too long (attempt_timeout: %v)", timeout), end}
	}
	return &Change{
		fmt.Sprintf("End attempts that take too long, and add a gate and a budget (attempt_timeout: %v, gate: wait, budget: 10)", timeout),
		func(c sim.Contender) sim.Contender { return gated(end(c)) },
	}
}

// gated returns c with a gate and a budget, and without the breaker's other rules.
func gated(c sim.Contender) sim.Contender {
	breaker := circuit.Config{}
	if c.Breaker != nil {
		breaker = *c.Breaker
	}
	breaker.Gate, breaker.Budget = cmp.Or(breaker.Gate, circuit.Wait), cmp.Or(breaker.Budget, 10)
	breaker.FailureThreshold = 0
	c.Breaker = &breaker
	return c
}

// advice returns what to do after a verdict.
func (f Facts) advice(v Verdict) string {
	switch {
	case v.Change != nil:
		return v.Change.Text
	case v.Grade != Good:
		return "No setting of the policy helps: check whether the processes can share their state (store: host)"
	case f.Result.Latency.P99 > longWait && f.By.Breaker != nil && f.By.Breaker.Gate == circuit.Wait:
		return fmt.Sprintf("Nothing to change, unless callers cannot wait: 1 of 100 takes %s or more, and gate: fail_fast refuses it at once", seconds(f.Result.Latency.P99))
	default:
		return "Nothing to change"
	}
}

// lost returns the traffic that failed, as a duration. In a closed loop it is the failed part
// of the whole duration.
func (f Facts) lost(r sim.Result) time.Duration {
	if f.Scenario.Load.Clients == 0 || r.Operations == 0 {
		return r.Lost
	}
	return time.Duration(float64(r.Failed) / float64(r.Operations) * float64(f.Scenario.Duration))
}

// cause returns what costs traffic in a scenario.
func cause(s sim.Scenario) string {
	if len(s.Faults) == 0 {
		return "load"
	}
	return "fault"
}

// refuses reports whether circuit breakers, and not the service, end calls after the fault.
func (f Facts) refuses() bool {
	gate := f.By.Breaker != nil && f.By.Breaker.Gate != circuit.NoGate
	return !gate && f.Result.Trips > 0 && f.Result.Amplification.After < muchLoad
}

// atATime returns how long circuit breakers stay open, if the policy has one.
func (f Facts) atATime() string {
	if f.By.Breaker == nil {
		return ""
	}
	return fmt.Sprintf(", for %v at a time", cmp.Or(f.By.Breaker.RecoveryTimeout, 30*time.Second))
}

// seconds returns a duration in seconds, with one decimal.
func seconds(d time.Duration) string {
	if d == sim.Never {
		return "never"
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// after returns how long after the fault an instant is.
func after(d time.Duration) string {
	if d == 0 {
		return "as soon as the fault ends"
	}
	return seconds(d) + " after the fault"
}
