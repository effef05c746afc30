package plan

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/gate"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/retry"
)

// Facts are the conditions of calls. 0 means unknown.
type Facts struct {
	FailureRate    float64       // chance that an attempt fails
	CallsPerSecond float64       // of all callers that share the circuit breaker
	Deadline       time.Duration // of the caller
	RetryAfter     time.Duration // that the service sends
}

// DefaultFailureRate is the FailureRate of a service in trouble if Facts has none.
const DefaultFailureRate = 0.3

func (f Facts) failureRate() float64 { return cmp.Or(f.FailureRate, DefaultFailureRate) }

// A Warning is about a setting that most likely does not do what its author intends.
type Warning struct {
	Field string `json:"field"` // name of the parameter, such as jitter
	Value string `json:"value"`
	Why   string `json:"why"`
	Do    string `json:"do"` // what to change
}

// A judge holds the input of the rules.
type judge struct {
	p     *retry.Policy
	c     *circuit.Config
	f     Facts
	n     int           // attempts
	limit time.Duration // of the operation: max_elapsed or the deadline; 0 means no limit
	bound string        // the name of the limit
	plan  *Plan         // with the limit
}

// newJudge returns the judge of a policy and its circuit breaker, under the conditions f. If
// c is nil, there is no circuit breaker.
func newJudge(p retry.Policy, c *circuit.Config, f Facts) *judge {
	j := &judge{p: &p, c: cmp.Or(c, &circuit.Config{}), f: f, n: p.Attempts(), limit: p.MaxElapsed, bound: "max_elapsed"}
	if f.Deadline > 0 && (j.limit == 0 || f.Deadline < j.limit) {
		j.limit, j.bound = f.Deadline, "the deadline"
	}
	within := p
	within.MaxElapsed = j.limit
	j.plan = lay(within, j.c.Budget, f.failureRate())
	return j
}

// warnings returns the warnings about the policy and c, its circuit breaker, if not nil.
func (j *judge) warnings(c *circuit.Config) (all []Warning) {
	rules := []func(*judge) *Warning{noJitter, endless, slowTimeouts, neverFit, earlyRetry, longHint, noBudget}
	if c != nil {
		rules = append(rules, noRule, emptyWindow, busyRow, untimedGate, gatedTime, smallBudget, briefBudget, lowRate)
	}
	for _, rule := range rules {
		if w := rule(j); w != nil {
			all = append(all, *w)
		}
	}
	return all
}

// retries reports whether the policy retries at all, if attempts take no time.
func (j *judge) retries() bool { return len(j.plan.Attempts) > 1 }

func noJitter(j *judge) *Warning {
	low, width := j.p.Range(1, retry.ClassTransient)
	if !j.retries() || width >= (low+width)/100 {
		return nil
	}
	return &Warning{
		"jitter", short(max(j.p.Jitter, 0)), "calls that fail together are retried together, in waves",
		"Omit jitter, or set jitter_mode: full",
	}
}

func endless(j *judge) *Warning {
	if j.n != retry.Unlimited || j.limit > 0 {
		return nil
	}
	return &Warning{
		"max_attempts", "unlimited", "nothing ends an operation while the service is down",
		"Set max_elapsed, or give calls a deadline",
	}
}

// slowTimeouts finds a timeout after which there is no time for all attempts.
func slowTimeouts(j *judge) *Warning {
	timeout := j.p.AttemptTimeout
	switch {
	case timeout == 0 || j.limit == 0 || !j.retries():
		return nil
	case timeout >= j.limit:
		return &Warning{
			"attempt_timeout", short(timeout), fmt.Sprintf("%s ends the operation after %s, so no retry follows an attempt that times out", j.bound, short(j.limit)),
			"Set attempt_timeout to " + short(j.limit/time.Duration(max(j.n, 2))) + " or less",
		}
	case float64(j.n)*timeout.Seconds() <= j.limit.Seconds() || j.plan.Worst.Attempts >= j.n:
		return nil
	}
	return &Warning{
		"attempt_timeout", short(timeout),
		fmt.Sprintf("%s ends the operation after %s, so only %d of %d attempts are made if they time out", j.bound, short(j.limit), j.plan.Worst.Attempts, j.n),
		"Set attempt_timeout to " + short(j.limit/time.Duration(j.n)) + " or less",
	}
}

// neverFit finds attempts for which there is no time even if attempts take none.
func neverFit(j *judge) *Warning {
	made := len(j.plan.Attempts)
	if j.n == retry.Unlimited || !errors.Is(j.plan.Stop, retry.ErrDeadline) {
		return nil
	}
	return &Warning{
		"max_attempts", strconv.Itoa(j.n), fmt.Sprintf("%s ends the operation after %s, by when %s been made", j.bound, short(j.limit), attempts(made)),
		fmt.Sprintf("Set max_attempts: %d, or a shorter base_delay", made),
	}
}

// attempts returns a number of attempts, with have.
func attempts(n int) string {
	if n == 1 {
		return "1 attempt has"
	}
	return fmt.Sprintf("%d attempts have", n)
}

// earlyRetry finds a policy that retries before the service's Retry-After is over.
func earlyRetry(j *judge) *Warning {
	low, width := j.p.Range(1, retry.ClassThrottled)
	if !j.retries() || !j.p.IgnoreRetryAfter || low+width >= j.f.RetryAfter {
		return nil
	}
	return &Warning{
		"respect_retry_after", "false", fmt.Sprintf("the first retry comes after at most %s, but the service sends Retry-After: %s", short(low+width), short(j.f.RetryAfter)),
		"Omit respect_retry_after",
	}
}

// longHint finds a Retry-After that ends the operation.
func longHint(j *judge) *Warning {
	d := j.p.Decide(retry.Outcome{
		Attempt: 1, Err: errFailed, Class: retry.ClassThrottled, Hint: j.f.RetryAfter, Now: time.Unix(0, 0),
	}, 0)
	asked := short(j.f.RetryAfter)
	most := cmp.Or(j.p.MaxRetryAfter, time.Minute)
	switch {
	case !j.retries() || j.p.IgnoreRetryAfter || j.f.RetryAfter == 0:
		return nil
	case errors.Is(d.Stop, retry.ErrRetryLater) && j.f.RetryAfter > most:
		return &Warning{
			"max_retry_after", short(most), "the service sends Retry-After: " + asked + ", which ends the operation at once",
			"Set max_retry_after to " + asked + " or more",
		}
	case j.limit > 0 && j.f.RetryAfter >= j.limit:
		return &Warning{
			strings.TrimPrefix(j.bound, "the "), short(j.limit), "the service sends Retry-After: " + asked + ", which ends the operation at once",
			"Allow more than " + asked,
		}
	}
	return nil
}

func noRule(j *judge) *Warning {
	if c := j.c; c.FailureThreshold != circuit.Off || c.Window > 0 || c.Gate != circuit.NoGate || c.Budget > 0 || c.Rate > 0 || c.Concurrency > 0 {
		return nil
	}
	return &Warning{
		"failure_threshold", "off", "no other rule is set, so the circuit breaker never opens",
		"Set gate: wait, or a window with a failure_ratio",
	}
}

// emptyWindow finds a window that never has enough calls for a verdict.
func emptyWindow(j *judge) *Warning {
	held, least := j.f.CallsPerSecond*j.c.Window.Seconds(), cmp.Or(j.c.MinCalls, 20)
	if j.c.Window == 0 || j.f.CallsPerSecond == 0 || held >= float64(least) {
		return nil
	}
	needed := time.Duration(math.Ceil(float64(least) / j.f.CallsPerSecond * 1e9))
	return &Warning{
		"window", short(j.c.Window), fmt.Sprintf("it holds %s at %s a second, and a verdict needs %d", calls(held), calls(j.f.CallsPerSecond), least),
		"Set window to " + short(needed) + " or more, or a smaller min_calls",
	}
}

// busyRow finds a rule of consecutive failures that random errors fulfil again and again.
func busyRow(j *judge) *Warning {
	row, rate := cmp.Or(j.c.FailureThreshold, 5), j.f.failureRate()
	if j.c.Gate != circuit.NoGate || row == circuit.Off || j.f.CallsPerSecond == 0 || rate > 0.5 {
		return nil
	}
	chance := math.Pow(rate, float64(row))
	each := (1 - chance) / ((1 - rate) * chance) / j.f.CallsPerSecond // seconds, on average
	shut := cmp.Or(j.c.RecoveryTimeout, 30*time.Second)
	if each > 10*shut.Seconds() { // it is open for at most a tenth of the time
		return nil
	}
	return &Warning{
		"failure_threshold", strconv.Itoa(row),
		fmt.Sprintf("if %.4g %% of the calls fail, that many fail in a row every %s, and each time the circuit breaker opens for %s",
			100*rate, short(brief(each)), short(shut)),
		"Set gate: wait, or failure_threshold: off with a window and a failure_ratio",
	}
}

// brief returns a number of seconds as a duration with two digits.
func brief(seconds float64) time.Duration {
	unit := math.Pow(10, math.Floor(math.Log10(seconds*1e9))-1)
	return time.Duration(seconds * 1e9).Round(time.Duration(max(unit, 1)))
}

// lateGate is the minimum rate of calls at which a gate must notice a slow service early.
const lateGate = 1

func untimedGate(j *judge) *Warning {
	if j.c.Gate == circuit.NoGate || j.p.AttemptTimeout > 0 || j.f.CallsPerSecond < lateGate {
		return nil
	}
	return &Warning{
		"attempt_timeout", "none", "the gate counts an attempt as too slow only after " + short(gate.LateAfter(j.gateWait(), 0)),
		"Set attempt_timeout to a few times what an attempt usually takes",
	}
}

// gatedTime finds an open time beside a gate, where only a window or Trip opens the breaker for a time.
func gatedTime(j *judge) *Warning {
	if j.c.Gate == circuit.NoGate || j.c.RecoveryTimeout == 0 || j.c.Window > 0 {
		return nil
	}
	return &Warning{
		"recovery_timeout_seconds", short(j.c.RecoveryTimeout), "it has no effect: a gate does not refuse all calls for a fixed time",
		"Omit recovery_timeout_seconds, or set gate: off",
	}
}

// gateWait returns how long a call waits at a gate.
func (j *judge) gateWait() time.Duration { return cmp.Or(j.limit, gate.Patience) }

// volume is the minimum rate of calls whose retries can overload a service.
const volume = 10

func noBudget(j *judge) *Warning {
	if !j.retries() || j.c.Budget > 0 || j.c.Gate != circuit.NoGate || j.f.CallsPerSecond < volume {
		return nil
	}
	return &Warning{
		"budget", "none", fmt.Sprintf("while everything fails, %s a second become %.4g attempts", calls(j.f.CallsPerSecond), j.f.CallsPerSecond*float64(len(j.plan.Attempts))),
		"Set budget: 10, and gate: wait",
	}
}

func smallBudget(j *judge) *Warning {
	if j.c.Budget == 0 || j.plan.Budget.Full > 1 || j.n == 2 || !j.retries() {
		return nil
	}
	return &Warning{
		"budget", fmt.Sprintf("%g", j.c.Budget), "an operation may take half of it, so even when full it covers 1 retry",
		"Set budget: 10",
	}
}

// briefBudget finds a budget that a brief fault exhausts.
func briefBudget(j *judge) *Warning {
	const blip, most = 50 * time.Millisecond, 1000
	failed := j.f.CallsPerSecond * blip.Seconds()
	if j.c.Budget == 0 || !j.retries() || failed <= j.c.Budget || j.c.Budget == most {
		return nil
	}
	return &Warning{
		"budget", fmt.Sprintf("%g", j.c.Budget),
		fmt.Sprintf("a fault of %s makes %s fail, and the budget covers the retries of %.0f", short(blip), calls(failed), j.c.Budget),
		fmt.Sprintf("Set budget: %.0f, if each call matters", min(math.Ceil(failed), most)),
	}
}

func lowRate(j *judge) *Warning {
	if j.c.Rate == 0 || j.f.CallsPerSecond <= j.c.Rate {
		return nil
	}
	return &Warning{
		"rate", setting.RateText(j.c.Rate), "with " + calls(j.f.CallsPerSecond) + " a second, more and more of them wait",
		"Set a higher rate, or make fewer calls",
	}
}

// calls returns a number of calls with few digits.
func calls(n float64) string {
	if n >= 10 {
		n = math.Round(n)
	}
	text := strconv.FormatFloat(n, 'g', 3, 64)
	if n >= 100 {
		text = strconv.FormatFloat(n, 'f', 0, 64)
	}
	if text == "1" {
		return "1 call"
	}
	return text + " calls"
}
