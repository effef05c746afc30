// Package plan works out what a retry policy will do: when each attempt comes
// at the earliest, as a rule and at the latest, what it adds to the chance of
// success, and what it costs the service that is called.
package plan

import (
	"cmp"
	"errors"
	"math"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
)

// maxAttempts is how many attempts a plan holds at most: a policy may have any
// number.
const maxAttempts = 10_000

// A Plan is what an operation does whose every attempt fails with an error that is retried.
type Plan struct {
	Policy      retry.Policy
	FailureRate float64   // of each attempt, whatever became of the others
	Attempts    []Attempt // those that are made if chance is neither kind nor cruel
	Endless     bool      // there are more attempts than a plan holds: these are the first
	Stop        error     // why no other attempt follows; nil if Endless
	Worst       Worst
	Budget      *Budget         // nil: there is none
	Breaker     *circuit.Config // nil: there is none
	Patience    time.Duration   // how long a call waits at a gate
	Warnings    []Warning
}

// Budget is how many retries of the operation a retry budget pays for.
type Budget struct {
	Fresh int // if it is new, as in a process that has just begun
	Full  int // if it is full, because all went well for a while
}

// An Attempt is one of the attempts of a plan. The instants count from the
// beginning of the first.
type Attempt struct {
	Number   int
	Ceiling  time.Duration // of the exponential wait before it; 0 for the first
	Shortest time.Duration // that the wait before it can be
	Longest  time.Duration
	Earliest time.Duration // instant: no attempt takes any time, each wait is the shortest
	Likely   time.Duration // no attempt takes any time, each wait is the mean
	Latest   time.Duration // each attempt takes all of its timeout, each wait is the longest
	InTime   bool          // false: at its Latest it would be too late, so that then it is not made
	Success  float64       // chance that this attempt, or one before it, succeeds
}

// Worst is the longest that it takes to fail.
type Worst struct {
	Attempts int           // that are made if each wait is the longest
	Begins   time.Duration // the last attempt, at the latest
	Ends     time.Duration // as Begins if attempts have no timeout: then nobody knows
}

// Make returns the plan of p with the circuit breaker of c, where calls meet f. If c is
// nil, there is none.
func Make(p retry.Policy, c *circuit.Config, f Facts) *Plan {
	plan := lay(p, cmp.Or(c, &circuit.Config{}).Budget, f.failureRate())
	j := newJudge(p, c, f)
	plan.Breaker, plan.Patience, plan.Warnings = c, j.patience(), j.warnings(c)
	return plan
}

// lay returns the attempts of p, with a retry budget of that many tokens (0: none),
// of which a part, failureRate, fails.
func lay(p retry.Policy, budget, failureRate float64) *Plan {
	plan := &Plan{
		Policy: p, FailureRate: failureRate, Endless: true,
		Attempts: []Attempt{{Number: 1, InTime: true, Success: 1 - failureRate}},
	}
	p.RetryOn, p.IgnoreOn = nil, nil // which choose by the error: this one they choose
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
		plan.Worst.Begins = p.MaxElapsed // a luckier way may come closer to it than the one of the longest waits
	}
	if budget > 0 {
		plan.Budget = &Budget{
			Fresh: affordable(&p, circuit.Token), Full: affordable(&p, circuit.Tokens(budget*float64(circuit.Token))),
		}
	}
	plan.Worst.Ends = plan.Worst.Begins + p.AttemptTimeout
	return plan
}

// affordable returns how many retries a balance pays for, if each of them fails
// and there is time for all.
func affordable(p *retry.Policy, balance circuit.Tokens) int {
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

// A walk is one way through the attempts.
type walk struct {
	policy *retry.Policy
	u      float64       // chance: 0 makes each wait the shortest, 1 the longest
	takes  time.Duration // that each attempt takes
	at     time.Duration // when the last one began
	stop   error         // why no other follows
}

// step asks the policy what follows attempt n, and reports whether it is
// another attempt, which then begins at w.at.
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

// errFailed is what every attempt of a plan fails with.
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
