package plan_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure"
	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/plan"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
	"github.com/seed-0f2c7998/perdure/retry"
)

// Each foolish setting is warned of, and its neighbour that is not foolish is not.
func TestWarnings(t *testing.T) {
	const ms, second = time.Millisecond, time.Second
	full := retry.Policy{JitterMode: retry.FullJitter, BaseDelay: 50 * ms}
	timed := func(n int, timeout, elapsed time.Duration) retry.Policy {
		p := full
		p.MaxAttempts, p.AttemptTimeout, p.MaxElapsed = n, timeout, elapsed
		return p
	}
	gate := circuit.Config{Gate: circuit.Wait, Budget: 10}
	budget := func(b float64) circuit.Config { return circuit.Config{Gate: circuit.Wait, Budget: b} }
	for _, row := range []struct {
		what   string
		policy retry.Policy
		config circuit.Config
		facts  plan.Facts
		want   string // field, value, and words of why and of what to do; "" means no warning
	}{
		{"no jitter", retry.Policy{Jitter: retry.NoJitter}, circuit.Config{}, plan.Facts{}, "jitter|0s|in waves|jitter_mode: full"},
		{"next to no jitter", retry.Policy{Jitter: ms}, circuit.Config{}, plan.Facts{}, "jitter|1ms|in waves|jitter_mode: full"},
		{"some jitter", retry.Policy{Jitter: 50 * ms}, circuit.Config{}, plan.Facts{}, ""},
		{"no jitter, no retry", retry.Policy{Jitter: retry.NoJitter, MaxAttempts: 1}, circuit.Config{}, plan.Facts{}, ""},

		{"endless", retry.Policy{MaxAttempts: retry.Unlimited}, circuit.Config{}, plan.Facts{}, "max_attempts|unlimited|nothing ends|Set max_elapsed"},
		{"endless with a deadline", retry.Policy{MaxAttempts: retry.Unlimited}, circuit.Config{}, plan.Facts{Deadline: time.Minute}, ""},

		{"timeouts beyond max_elapsed", timed(5, 10*second, 30*second), circuit.Config{}, plan.Facts{}, "attempt_timeout|10s|max_elapsed ends the operation after 30s, so only 3 of 5|attempt_timeout to 6s or less"},
		{"timeouts beyond the deadline", timed(5, second, 0), circuit.Config{}, plan.Facts{Deadline: 3 * second}, "attempt_timeout|1s|the deadline ends the operation after 3s, so only 3 of 5|600ms or less"},
		{"one timeout is all", timed(5, 5*second, 0), circuit.Config{}, plan.Facts{Deadline: 3 * second}, "attempt_timeout|5s|no retry follows|600ms or less"},
		{"timeouts that fit", timed(5, 200*ms, 0), circuit.Config{}, plan.Facts{Deadline: 3 * second}, ""},

		{"attempts that do not fit", retry.Policy{MaxAttempts: 10, MaxElapsed: 30 * second}, circuit.Config{}, plan.Facts{}, "max_attempts|10|max_elapsed ends the operation after 30s, by when 5 attempts have been made|max_attempts: 5"},
		{"no time for any retry", retry.Policy{}, circuit.Config{}, plan.Facts{Deadline: second}, "max_attempts|5|the deadline ends the operation after 1s, by when 1 attempt has|shorter base_delay"},
		{"unlimited attempts never all fit", retry.Pipeline(), gate, plan.Facts{}, ""},

		{"a hint not heeded", retry.Policy{IgnoreRetryAfter: true}, circuit.Config{}, plan.Facts{RetryAfter: 10 * second}, "respect_retry_after|false|first retry comes after at most 2s, but the service sends Retry-After: 10s|Omit respect_retry_after"},
		{"a hint that is shorter than the wait", retry.Policy{IgnoreRetryAfter: true}, circuit.Config{}, plan.Facts{RetryAfter: second}, ""},
		{"a cap below the hint", retry.Policy{MaxRetryAfter: 5 * second}, circuit.Config{}, plan.Facts{RetryAfter: 10 * second}, "max_retry_after|5s|sends Retry-After: 10s, which ends the operation|max_retry_after to 10s"},
		{"a deadline below the hint", full, circuit.Config{}, plan.Facts{RetryAfter: 10 * second, Deadline: 3 * second}, "deadline|3s|sends Retry-After: 10s|Allow more than 10s"},
		{"a hint that fits", retry.Policy{}, circuit.Config{}, plan.Facts{RetryAfter: 10 * second}, ""},

		{"no rule", retry.Policy{}, circuit.Config{FailureThreshold: circuit.Off}, plan.Facts{}, "failure_threshold|off|never opens|gate: wait"},
		{"no rule but a budget", retry.Policy{}, circuit.Config{FailureThreshold: circuit.Off, Budget: 10}, plan.Facts{}, ""},
		{"an open time at a gate", retry.Policy{}, circuit.Config{Gate: circuit.Wait, RecoveryTimeout: 5 * second}, plan.Facts{}, "recovery_timeout_seconds|5s|no effect|gate: off"},
		{"an open time of the window at a gate", retry.Policy{}, circuit.Config{Gate: circuit.Wait, RecoveryTimeout: 5 * second, Window: 10 * second, FailureRatio: 0.5}, plan.Facts{}, ""},
		{"an open time without a gate", retry.Policy{}, circuit.Config{RecoveryTimeout: 5 * second}, plan.Facts{}, ""},
		{"a window that is never full", retry.Policy{}, circuit.Config{Window: 10 * second, FailureRatio: 0.5}, plan.Facts{CallsPerSecond: 0.5}, "window|10s|holds 5 calls at 0.5 calls a second, and a verdict needs 20|window to 40s"},
		{"a window that is full", retry.Policy{}, circuit.Config{Window: 10 * second, FailureRatio: 0.5}, plan.Facts{CallsPerSecond: 2}, "failure_threshold|5|in a row|"},
		{"a busy row", full, circuit.Config{Budget: 500}, plan.Facts{CallsPerSecond: 1600}, "failure_threshold|5|if 30 % of the calls fail, that many fail in a row every 370ms, and each time the circuit breaker opens for 30s|gate: wait"},
		{"a busy row where nearly all fail", full, circuit.Config{Budget: 500}, plan.Facts{CallsPerSecond: 1600, FailureRate: 0.9}, ""},
		{"a quiet row", full, circuit.Config{Budget: 10}, plan.Facts{CallsPerSecond: 1}, ""},
		{"a busy row of few errors", full, circuit.Config{Budget: 500}, plan.Facts{CallsPerSecond: 100, FailureRate: 0.01}, ""},

		{"a gate without a timeout", full, gate, plan.Facts{CallsPerSecond: 100}, "attempt_timeout|none|only after 3.75s|few times"},
		{"a gate with a timeout", timed(5, second, 0), gate, plan.Facts{CallsPerSecond: 100}, ""},

		{"no budget", full, circuit.Config{Window: second, FailureRatio: 0.5, FailureThreshold: circuit.Off}, plan.Facts{CallsPerSecond: 1000}, "budget|none|1000 calls a second become 5000 attempts|budget: 10"},
		{"no budget, no time for a retry", retry.Policy{}, circuit.Config{Window: second, FailureRatio: 0.5, FailureThreshold: circuit.Off}, plan.Facts{CallsPerSecond: 1000, Deadline: second}, "max_attempts|5|by when 1 attempt has|max_attempts: 1"},
		{"no budget, few calls", full, circuit.Config{}, plan.Facts{CallsPerSecond: 1}, ""},
		{"a budget of nothing", full, budget(2), plan.Facts{}, "budget|2|even when full it covers 1 retry|budget: 10"},
		{"a budget and a deadline", retry.Policy{MaxAttempts: 3}, budget(10), plan.Facts{Deadline: second}, "max_attempts|3|the deadline ends|shorter base_delay"},
		{"a budget for two attempts", retry.Policy{MaxAttempts: 2}, budget(1), plan.Facts{}, ""},
		{"a brief budget", timed(5, 200*ms, 0), budget(10), plan.Facts{CallsPerSecond: 2000}, "budget|10|50ms makes 100 calls fail, and the budget covers the retries of 10|budget: 100,"},
		{"a budget for a blip", timed(5, 200*ms, 0), budget(100), plan.Facts{CallsPerSecond: 2000}, ""},

		{"a rate below the calls", full, circuit.Config{Rate: 5}, plan.Facts{CallsPerSecond: 8}, "failure_threshold|5|in a row|;rate|5/s|8 calls a second, more and more|higher rate"},
	} {
		got := plan.Make(row.policy, &row.config, row.facts).Warnings
		wants := strings.Split(row.want, ";")
		if row.want == "" {
			wants = nil
		}
		if len(got) != len(wants) {
			t.Errorf("%s: %d warnings %+v, want %d", row.what, len(got), got, len(wants))
			continue
		}
		for i, want := range wants {
			part := strings.Split(want, "|")
			if w := got[i]; w.Field != part[0] || w.Value != part[1] || !strings.Contains(w.Why, part[2]) || !strings.Contains(w.Do, part[3]) {
				t.Errorf("%s: %+v, want %q", row.what, w, part)
			}
		}
	}
}

// No preset is foolish, by itself and where calls come as it is meant for.
func TestPresetsAreNotWarnedOf(t *testing.T) {
	for _, name := range retry.PresetNames() {
		var c circuit.Config
		switch name {
		case "service":
			c = circuit.Service()
		case "pipeline":
			c = circuit.Pipeline()
		}
		for _, f := range []plan.Facts{
			{},
			{FailureRate: 1},
			{CallsPerSecond: 0.1, Deadline: time.Hour, RetryAfter: 5 * time.Second},
		} {
			if w := plan.Make(preset(t, name), &c, f).Warnings; len(w) > 0 {
				t.Errorf("%s, %+v: %+v", name, f, w)
			}
		}
	}
	service := circuit.Service()
	busy := preset(t, "service")
	busy.AttemptTimeout = 200 * time.Millisecond
	if w := plan.Make(busy, &service, plan.Facts{CallsPerSecond: 200, Deadline: 3 * time.Second, FailureRate: 0.05}).Warnings; len(w) > 0 {
		t.Errorf("service at 200 calls a second: %+v", w)
	}
}

// Without a circuit breaker, no rule of one is warned of.
func TestWarningsWithoutABreaker(t *testing.T) {
	p := retry.Policy{JitterMode: retry.FullJitter}
	if w := plan.Make(p, nil, plan.Facts{CallsPerSecond: 1}).Warnings; len(w) > 0 {
		t.Errorf("%+v", w)
	}
	if w := plan.Make(p, nil, plan.Facts{CallsPerSecond: 1000}).Warnings; len(w) != 1 || w[0].Field != "budget" {
		t.Errorf("%+v, want one about the budget", w)
	}
}

// Whatever the settings, a warning names one of them, and has all its parts.
func TestAnyWarnings(t *testing.T) {
	var names []string
	for _, p := range slices.Concat(retry.Parameters(), circuit.Parameters(), []perdure.Parameter{{Name: "deadline"}}) {
		names = append(names, p.Name)
	}
	random := rand.New(rand.NewPCG(testseed.Of(t, 13), 0))
	some := func(all ...time.Duration) time.Duration { return all[random.IntN(len(all))] }
	spans := []time.Duration{0, 0, 1, time.Millisecond, time.Second, time.Minute, 1<<63 - 1}
	for range 2000 {
		p := retry.Policy{
			MaxAttempts: []int{0, -1, 1, 2, 7, 100}[random.IntN(6)], BaseDelay: some(spans...), MaxDelay: some(spans...),
			Jitter: some(-1, 0, 1, time.Second), JitterMode: retry.JitterMode(random.IntN(3)), AttemptTimeout: some(spans...),
			MaxElapsed: some(spans...), MaxRetryAfter: some(spans...), IgnoreRetryAfter: random.IntN(2) == 0,
		}
		c := circuit.Config{
			FailureThreshold: []int{0, -1, 1, 1000}[random.IntN(4)], RecoveryTimeout: some(0, time.Millisecond, time.Hour), MinCalls: random.IntN(3) * 1000,
			Window: some(0, 10*time.Millisecond, time.Hour), FailureRatio: random.Float64(), Budget: []float64{0, 1, 10, 1000}[random.IntN(4)], Gate: circuit.GateMode(random.IntN(3)),
		}
		f := plan.Facts{random.Float64(), randomRate(random), some(spans...), some(spans...)}
		for _, w := range plan.Make(p, &c, f).Warnings {
			if !slices.Contains(names, w.Field) || w.Value == "" || w.Why == "" || w.Do == "" || strings.Contains(w.Why+w.Do, "%!") {
				t.Fatalf("%+v, %+v, %+v: %+v", p, c, f, w)
			}
			if strings.Contains(w.Do+",", w.Field+": "+w.Value+",") {
				t.Fatalf("%+v, %+v, %+v: %+v advises what is set", p, c, f, w)
			}
		}
	}
}

func randomRate(r *rand.Rand) float64 { return []float64{0, 1e-9, 1, 50, 1e7}[r.IntN(5)] }
