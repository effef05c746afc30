// Package plan computes what a retry policy does: when each attempt begins (earliest, likely
// and latest), the chance of success until then, and the load on the service.
package plan

import (
	"cmp"
	"errors"
	"math"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
)

// maxAttempts is the maximum number of attempts in a plan: a policy may have more.
const maxAttempts = 10_000

// A Plan describes an operation whose attempts all fail with an error that is retried.
type Plan struct {
	Policy      retry.Policy
	FailureRate float64   // chance that an attempt fails, independent of the others
	Attempts    []Attempt // the attempts on the median path (u = 0.5)
	Endless     bool      // the plan has only the first attempts
	Stop        error     // why no attempt follows; nil if Endless
	Worst       Worst
	Budget      *Budget         // nil without a budget
	Breaker     *circuit.Config // nil without a circuit breaker
	GateWait    time.Duration   // how long a call waits at a gate
	Warnings    []Warning
}

// Budget is how many retries of the operation a retry budget pays for.
type Budget struct {
	Fresh int // if the budget is new, as in a process that has just begun
	Full  int // if the budget is full, after many successes
}

// An Attempt is one attempt of a plan. Its instants count from the beginning of the first
// attempt.
type Attempt struct {
	Number   int
	Ceiling  time.Duration // of the exponential wait before it; 0 for the first
	Shortest time.Duration // shortest wait before it
	Longest  time.Duration // longest wait before it
	Earliest time.Duration // instant if attempts take no time and each wait is the shortest
	Likely   time.Duration // instant if attempts take no time and each wait is the mean
	Latest   time.Duration // instant if attempts take their timeout and each wait is the longest
	InTime   bool          // at Latest, the attempt is still made
	Success  float64       // chance that this attempt or an earlier one succeeds
}

// Worst is the longest way to fail.
type Worst struct {
	Attempts int           // made if each wait is the longest
	Begins   time.Duration // latest instant of the last attempt
	Ends     time.Duration // latest end of the last attempt; equals Begins if attempts have no timeout
}

// Make returns the plan of p with a circuit breaker of c, under the conditions f. If c is
// nil, the plan has no circuit breaker.
func Make(p retry.Policy, c *circuit.Config, f Facts) *Plan {
	plan := lay(p, cmp.Or(c, &circuit.Config{}).Budget, f.failureRate())
	j := newJudge(p, c, f)
	plan.Breaker, plan.GateWait, plan.Warnings = c, j.gateWait(), j.warnings(c)
	return plan
}

// lay returns the attempts of p. budget is the ceiling of a retry budget in tokens; 0 means
// no budget. failureRate is the chance that an attempt fails.
func lay(p retry.Policy, budget, failureRate float64) *Plan {
	plan := &Plan{
		Policy: p, FailureRate: failureRate, Endless: true,
		Attempts: []Attempt{{Number: 1, InTime: true, Success: 1 - failureRate}},
	}
	p.RetryOn, p.IgnoreOn = nil, nil // the error of a plan is always retried
	flat := p
	flat.Jitter = retry.NoJitter
	early, late := walk{policy: &p, u: 0}, walk{policy: &p, u: 1, takes: p.AttemptTimeout}
	likely := walk{policy: &p, u: 0.5}
	for n := 1; n < maxAttempts; n++ {
		inTime := late.step(n)
		early.step(n)
		if inTime {
			plan.Worst.Attempts, plan.Worst.Begins = n+1, late.at
		}
		if !likely.step(n) {
			plan.Endless, plan.Stop = false, likely.stop
			break
		}
		low, width := p.Range(n, retry.ClassTransient)
		ceiling, _ := flat.Range(n, retry.ClassTransient)
		plan.Attempts = append(plan.Attempts, Attempt{
			Number: n + 1, Ceiling: ceiling, Shortest: low, Longest: low + width,
			Earliest: early.at, Likely: likely.at, Latest: late.at, InTime: inTime,
			Success: 1 - math.Pow(failureRate, float64(n+1)),
		})
	}
	plan.Worst.Attempts = max(plan.Worst.Attempts, 1)
	if errors.Is(late.stop, retry.ErrDeadline) {
		plan.Worst.Begins = p.MaxElapsed // shorter waits may come closer to the limit
	}
	if budget > 0 {
		plan.Budget = &Budget{
			Fresh: affordable(p, circuit.Token), Full: affordable(p, circuit.Tokens(budget*float64(circuit.Token))),
		}
	}
	plan.Worst.Ends = plan.Worst.Begins + p.AttemptTimeout
	return plan
}

// affordable returns how many retries of p, if there is time for all, a balance covers.
func affordable(p retry.Policy, balance circuit.Tokens) int {
	p.MaxElapsed = 0
	spent := circuit.Tokens(0)
	for n := 1; n < maxAttempts; n++ {
		d := p.Decide(retry.Outcome{
			Attempt: n, Err: errFailed, Class: retry.ClassTransient,
			Budgeted: true, Balance: balance, Spent: spent,
		}, 0)
		if d.Stop != nil {
			return n - 1
		}
		balance, spent = balance-d.Cost, spent+d.Cost
	}
	return maxAttempts
}

// A walk is one path through the attempts.
type walk struct {
	policy *retry.Policy
	u      float64       // random number: 0 makes each wait the shortest, 1 the longest
	takes  time.Duration // duration of each attempt
	at     time.Duration // when the last attempt began
	stop   error         // why no attempt follows; nil if one may
}

// step decides what follows attempt n, and reports whether it is another attempt, which
// begins at w.at.
func (w *walk) step(n int) bool {
	if w.stop != nil {
		return false
	}
	elapsed := w.at + w.takes
	d := w.policy.Decide(retry.Outcome{
		Attempt: n, Err: errFailed, Class: retry.ClassTransient,
		Now: time.Unix(0, 0).Add(elapsed), Elapsed: elapsed,
	}, w.u)
	if w.stop = d.Stop; w.stop != nil {
		return false
	}
	w.at = elapsed + d.Delay
	return true
}

// errFailed is the error of all attempts of a plan.
var errFailed = errors.New("failed")

// Amplification returns how many attempts an operation makes on average, and
// how many while everything fails.
func (p *Plan) Amplification() (mean, outage float64) {
	n := float64(len(p.Attempts))
	if p.FailureRate == 1 {
		return n, n
	}
	return (1 - math.Pow(p.FailureRate, n)) / (1 - p.FailureRate), n
}

// Success returns the chance that the operation succeeds.
func (p *Plan) Success() float64 { return p.Attempts[len(p.Attempts)-1].Success }
