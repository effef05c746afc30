package simulate_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/simulate"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/sim"
)

const second = time.Second

// result is one of an outage of 5 s with 1,600 operations a second.
func result(lost, recovery time.Duration, during, after float64) sim.Result {
	return sim.Result{
		Operations: 35_000, Failed: int(lost.Seconds() * 1600), Lost: lost, Recovery: recovery,
		Amplification: sim.Amplification{During: during, After: after},
	}
}

func wasteful(r sim.Result) sim.Result {
	r.Wasted = 0.4
	return r
}

func tripped(r sim.Result) sim.Result {
	r.Trips = 20
	return r
}

func slow(r sim.Result) sim.Result {
	r.Latency.P99 = 2900 * time.Millisecond
	return r
}

// Every verdict says what to change, if anything is wrong.
func TestVerdicts(t *testing.T) {
	once, five := sim.NoRetries(), sim.Backoff()
	untimed := five
	untimed.AttemptTimeout = 0
	shuts, budget := &circuit.Config{}, &circuit.Config{FailureThreshold: circuit.Off, Budget: 10}
	gate, both := &circuit.Config{Gate: circuit.Wait}, &circuit.Config{Gate: circuit.Wait, Budget: 10}
	none, stuck := result(5*second, 0, 1, 1), result(5*second, sim.Never, 1, 1)
	for _, row := range []struct {
		policy       retry.Policy
		breaker      *circuit.Config
		result, none sim.Result
		grade        simulate.Grade
		text, advice string
	}{
		{once, nil, none, none, simulate.Fair, "the baseline: without retries, the fault costs 5.0 s of traffic", "Retry with a gate and a budget (preset: service)"},
		{once, nil, result(0, 0, 1, 1), result(0, 0, 1, 1), simulate.Good, "loses nothing", "Nothing to change"},
		{five, nil, result(17*second, sim.Never, 4.9, 5), none, simulate.Bad, "never recovers: 5.0 attempts per operation keep the service overloaded after the fault", "Add a gate and a budget (gate: wait, budget: 10)"},
		{five, shuts, tripped(result(17*second, sim.Never, 0, 0)), none, simulate.Bad, "does not recover within the simulation: its circuit breakers still refuse calls, for 30s at a time", "Add a gate and a budget (gate: wait, budget: 10)"},
		{five, both, result(17*second, sim.Never, 1, 1), none, simulate.Bad, "never recovers", "No setting of the policy helps: "},
		{untimed, both, result(17*second, sim.Never, 1, 1), none, simulate.Bad, "never recovers", "End attempts that take too long (attempt_timeout: 200ms)"},
		{five, nil, result(17*second, sim.Never, 4.9, 5), stuck, simulate.Bad, "worse than no retries: loses 17.0 s of traffic instead of 5.0 s", "Add a gate and a budget"},
		{five, gate, result(7*second, 0, 4.9, 1), none, simulate.Bad, "worse than no retries: loses 7.0 s of traffic instead of 5.0 s", "Add a budget (budget: 10), which stops retries in an outage"},
		{five, both, result(4*second, 3*second, 1, 1), stuck, simulate.Good, "loses 4.0 s of traffic instead of 5.0 s, and the service recovers 3.0 s after the fault", "Nothing to change"},
		{five, budget, result(4*second, 3*second, 1, 1), none, simulate.Bad, "slow to recover: 3.0 s after the fault, without retries as soon as the fault ends", "Add a gate (gate: wait), which admits what the service can handle"},
		{five, nil, result(2*second, 0, 3.1, 1), none, simulate.Fair, "multiplies the load by 3.1 in the fault, and loses 2.0 s of traffic", "Add a gate and a budget"},
		{five, budget, result(4900*time.Millisecond, 0, 1, 1), none, simulate.Fair, "hardly better than no retries: loses 4.9 s of traffic instead of 5.0 s", "Add a gate (gate: wait)"},
		{five, budget, result(4990*time.Millisecond, 0, 1, 1), none, simulate.Fair, "no better than no retries: loses 5.0 s of traffic", "Add a gate (gate: wait)"},
		{five, budget, result(5100*time.Millisecond, 0, 1, 1), none, simulate.Fair, "no better than no retries: loses 5.1 s of traffic", "Add a gate (gate: wait)"},
		{untimed, shuts, result(5*second, 0, 1.01, 1), none, simulate.Fair, "no better than no retries: loses 5.0 s of traffic", "End attempts that take too long, and add a gate and a budget (attempt_timeout: 200ms, gate: wait, budget: 10)"},
		{five, budget, wasteful(result(2*second, 0, 1, 1)), none, simulate.Fair, "loses 2.0 s of traffic instead of 5.0 s, but 40 % of the work is for callers that have given up", "Add a gate (gate: wait)"},
		{five, both, result(2*second, 200*time.Millisecond, 0.3, 1), none, simulate.Good, "loses 2.0 s of traffic instead of 5.0 s, and the service recovers 0.2 s after the fault", "Nothing to change"},
		{five, both, slow(result(2*second, 0, 0.3, 1)), none, simulate.Good, "loses 2.0 s of traffic instead of 5.0 s, and the service recovers as soon as the fault ends", "Nothing to change, unless callers cannot wait: 1 of 100 takes 2.9 s or more, and gate: fail_fast refuses it at once"},
		{five, budget, result(0, 0, 1.1, 1), result(40*time.Millisecond, 0, 1, 1), simulate.Good, "loses nothing", "Nothing to change"},
	} {
		by := sim.Contender{Policy: row.policy, Breaker: row.breaker}
		v := simulate.Judge(simulate.Facts{Scenario: sim.Storms()[0], By: by, Result: row.result, None: row.none})
		if v.Grade != row.grade || v.Text != row.text || !strings.HasPrefix(v.Advice, row.advice) {
			t.Errorf("%+v, lost %v, recovery %v:\n%s: %s; %s\nwant\n%s: %s; %s",
				row.breaker, row.result.Lost, row.result.Recovery, v.Grade, v.Text, v.Advice, row.grade, row.text, row.advice)
		}
	}
}

// What a change gives is told, also if that is nothing.
func TestChangesAreReported(t *testing.T) {
	before := result(5*second, sim.Never, 2, 1)
	worse := "Add a gate: it then loses 6.0 s, which is worse: the fault causes the loss, not the policy.\n"
	for want, changed := range map[string]sim.Result{
		"Add a gate: it then loses 2.0 s.\n":                               result(2*second, 0, 2, 1),
		"Add a gate: it then loses 5.0 s.\n":                               result(5*second, second, 2, 1),
		"Add a gate: it then loses 4.0 s, and does not recover, either.\n": result(4*second, sim.Never, 2, 1),
		"Add a gate: it then loses 4.9 s: the fault causes the loss":       result(4900*time.Millisecond, sim.Never, 2, 1),
		worse:                                   result(6*second, second, 0.1, 1),
		strings.Replace(worse, "6.0", "4.0", 1): result(4*second, sim.Never, 0.1, 1),
	} {
		before := before
		if strings.Contains(want, "4.0 s, which is worse") {
			before.Recovery = 0
		}
		c := simulate.Comparison{Scenario: sim.Storms()[0], Outcomes: []simulate.Outcome{
			{Result: before, Verdict: simulate.Verdict{Advice: "Add a gate"}, Changed: &changed},
		}}
		var table strings.Builder
		if err := c.Table(&table); err != nil || !strings.Contains(table.String(), want) {
			t.Errorf("%v: %s, want %q", err, table.String(), want)
		}
	}
}

// What comes after a fault has no figure if nothing arrives after it.
func TestLoadAfterTheEnd(t *testing.T) {
	for to, want := range map[time.Duration]string{4 * second: " 1.00× ", 5 * second: " - ", 9 * second: " - "} {
		s := sim.Storm("late", sim.Fault{Kind: sim.Outage, From: second, To: to})
		s.Duration = 5 * second
		c := simulate.Comparison{Scenario: s, Outcomes: []simulate.Outcome{{Result: result(second, 0, 3, 1)}}}
		var table strings.Builder
		if err := c.Table(&table); err != nil || !strings.Contains(strings.Join(strings.Fields(table.String()), " "), " 3.00×"+want) {
			t.Errorf("a fault until %v: %v, want %q behind 3.00× in\n%s", to, err, want, table.String())
		}
	}
}

// After a fault that lasts until the end, no recovery can be observed.
func TestVerdictOnAFaultWithoutEnd(t *testing.T) {
	v := simulate.Judge(simulate.Facts{
		Scenario: sim.Storm("long", sim.Fault{Kind: sim.BlackHole, To: 22 * second}), By: sim.Contender{Policy: sim.Backoff()},
		Result: result(9*second, sim.Never, 0.8, 0), None: result(20*second, sim.Never, 1, 0),
	})
	if v.Grade != simulate.Good || v.Text != "loses 9.0 s of traffic instead of 20.0 s" {
		t.Errorf("%+v", v)
	}
}

// Without a fault there is nothing to recover from.
func TestVerdictWithoutAFault(t *testing.T) {
	v := simulate.Judge(simulate.Facts{
		Scenario: sim.Storm("healthy"), By: sim.Contender{Policy: sim.Backoff(), Breaker: &circuit.Config{}},
		Result: result(9*second, sim.Never, 0, 0.6), None: result(0, 0, 0, 1),
	})
	if v.Grade != simulate.Bad || v.Text != "worse than no retries: loses 9.0 s of traffic instead of 0.0 s" {
		t.Errorf("%+v", v)
	}
	much := result(20*second, sim.Never, 0, 1)
	v = simulate.Judge(simulate.Facts{Scenario: sim.Storm("overload"), By: sim.Contender{Policy: sim.NoRetries()}, Result: much, None: much})
	if v.Text != "the baseline: without retries, the load costs 20.0 s of traffic" {
		t.Errorf("%+v", v)
	}
}

// In a closed loop, what is lost is the part of the operations that failed.
func TestVerdictOnAClosedLoop(t *testing.T) {
	s := sim.Storms()[0]
	s.Load = sim.Load{Clients: 10}
	r := sim.Result{Operations: 220, Failed: 100, Recovery: sim.Never}
	v := simulate.Judge(simulate.Facts{
		Scenario: s, By: sim.Contender{Policy: sim.Backoff()}, Result: r, None: sim.Result{Operations: 220, Failed: 10, Recovery: sim.Never},
	})
	if v.Grade != simulate.Bad || v.Text != "worse than no retries: loses 10.0 s of traffic instead of 1.0 s" {
		t.Errorf("%+v", v)
	}
}

// The table of a closed loop shows what its verdict speaks of.
func TestTableOfAClosedLoop(t *testing.T) {
	s := sim.Storm("closed", sim.Fault{Kind: sim.Outage, From: 0, To: 5 * second})
	s.Load, s.Duration, s.Drain = sim.Load{Clients: 3, Think: second}, 5*second, second
	all, err := simulate.Policies([]string{"none"}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := simulate.Run(t.Context(), s, 1, all, func(string, float64) {})
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	if err := c.Table(&table); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"none    5.0 s  100.0 %", "the fault costs 5.0 s of traffic", "it then loses 4."} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("no %q in\n%s", want, table.String())
		}
	}
}

// What a verdict advises is better than what it is about, for each policy that can be named; but for
// one of a hundred attempts a second for each caller, which takes long.
func TestAdviceHelps(t *testing.T) {
	names := slices.DeleteFunc(simulate.PolicyNames(), func(name string) bool { return name == "tenacity" })
	for _, name := range []string{"outage", "brownout", "throttle", "one_shard_down"} {
		s, err := simulate.Scenario(name, "")
		if err != nil {
			t.Fatal(err)
		}
		all, err := simulate.Policies(names, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		c, err := simulate.Run(t.Context(), s, 1, all, func(string, float64) {})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range c.Outcomes {
			switch {
			case o.Changed == nil:
				if o.Verdict.Grade != simulate.Good {
					t.Errorf("%s, %s: %s, and no advice", name, o.Name, o.Verdict.Text)
				}
			case o.Changed.Lost > o.Result.Lost+50*time.Millisecond:
				t.Errorf("%s, %s: %s; %s: loses %v instead of %v", name, o.Name, o.Verdict.Text, o.Verdict.Advice, o.Changed.Lost, o.Result.Lost)
			}
		}
	}
}
