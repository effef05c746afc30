package retry_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
)

// If an inner retry has given up, the outer retry gives up as well, at its first attempt
// and with the inner retry's own error.
func TestNested(t *testing.T) {
	t.Parallel()
	fast := retry.Policy{Name: "inner", MaxAttempts: 3, BaseDelay: 1, Jitter: retry.NoJitter, Classify: retry.Always}
	for _, c := range []struct {
		name                   string
		outer                  retry.Policy
		first                  error // of the outer operation, before any inner one
		outerCalls, innerCalls int
		kinds                  string
	}{
		{"innermost retries", retry.Policy{}, nil, 1, 3, "nested"},
		{"even if all is worth it", retry.Policy{Classify: retry.Always}, nil, 1, 3, "nested"},
		{"at a later attempt", retry.Policy{Classify: retry.Always}, errDown, 2, 3, "retrying nested"},
		{"unless asked for", retry.Policy{RetryNested: true, MaxAttempts: 4}, nil, 4, 12, "retrying retrying retrying stopped"},
	} {
		var r record
		c.outer.BaseDelay, c.outer.Jitter, c.outer.Observe = 1, retry.NoJitter, r.observe
		f, inner := always(errDown)
		outerCalls := 0
		err := retry.Do(t.Context(), &c.outer, func(ctx context.Context) error {
			if outerCalls++; outerCalls == 1 && c.first != nil {
				return c.first
			}
			return fmt.Errorf("step: %w", retry.Do(ctx, &fast, f))
		})
		if outerCalls != c.outerCalls || inner.n != c.innerCalls || r.kinds() != c.kinds {
			t.Errorf("%s: %d outer and %d inner calls, events %s; want %d, %d, %s",
				c.name, outerCalls, inner.n, r.kinds(), c.outerCalls, c.innerCalls, c.kinds)
		}
		if !errors.Is(err, retry.ErrExhausted) || !errors.Is(err, errDown) {
			t.Errorf("%s: %v", c.name, err)
		}
		if c.outerCalls == 1 && err.Error() != "step: inner: attempts exhausted after 3 attempts: the service is down" {
			t.Errorf("%s: %v, want the inner one's as it is", c.name, err)
		}
		if c.first != nil {
			stopped(t, err, retry.ErrPermanent, 2)
		}
	}
}

// With RetryNested the reason of the inner retry decides: a permanent error stays
// permanent, and an open breaker is no failure of the service.
func TestNestedReasons(t *testing.T) {
	t.Parallel()
	p := retry.Policy{RetryNested: true}
	for stop, want := range map[error]retry.Class{
		retry.ErrExhausted: transient, retry.ErrBudget: transient, retry.ErrDeadline: transient,
		retry.ErrPermanent: permanent, retry.ErrRetryLater: ignored, context.Canceled: ignored,
		&circuit.OpenError{}: ignored,
	} {
		classes(t, &p, want, &retry.Error{Operation: "inner", Attempts: 2, Stop: stop, Last: context.DeadlineExceeded})
	}
}

// A retry that gives up because of an inner retry or breaker has the RetryAt of that
// retry or breaker.
func TestNestedRetryAt(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 11, 8, 0, 0, 0, time.UTC)
	at := now.Add(time.Minute)
	later := &retry.Error{Stop: retry.ErrRetryLater, RetryAt: at}
	for name, c := range map[string]struct {
		err    error
		nested bool // is retried, if anything is
		want   time.Time
	}{
		"a retry":              {fmt.Errorf("x: %w", later), false, at},
		"a retry, retried":     {fmt.Errorf("x: %w", later), true, at},
		"a breaker":            {fmt.Errorf("x: %w", &circuit.OpenError{State: circuit.Open, RetryAt: at}), false, at},
		"an isolated breaker":  {&circuit.OpenError{State: circuit.Isolated}, false, time.Time{}},
		"a retry with a hint":  {&retry.Error{Stop: retry.ErrExhausted, Last: retry.After(errDown, time.Hour)}, false, now.Add(time.Hour)},
		"a permanent error":    {errDown, false, time.Time{}},
		"one that is too soon": {errors.Join(later, retry.After(errDown, time.Second)), false, at},
	} {
		p := retry.Policy{RetryNested: c.nested}
		d := p.Decide(retry.Outcome{Attempt: 2, Err: c.err, Now: now}, 0)
		if !errors.Is(d.Stop, retry.ErrPermanent) || !d.RetryAt.Equal(c.want) {
			t.Errorf("%s: %+v, want to stop and come back at %v", name, d, c.want)
		}
	}
}

// A step that an orchestrator runs again makes fewer attempts each time, at least one,
// and never unlimited attempts because MaxElapsed became 0.
func TestForRerun(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		n        int
		is, want retry.Policy
	}{
		{0, retry.Policy{}, retry.Policy{}},
		{-1, retry.Policy{MaxAttempts: 4}, retry.Policy{MaxAttempts: 4}},
		{1, retry.Policy{}, retry.Policy{MaxAttempts: 2}},
		{2, retry.Policy{}, retry.Policy{MaxAttempts: 1}},
		{3, retry.Policy{MaxAttempts: 20}, retry.Policy{MaxAttempts: 2}},
		{math.MaxInt, retry.Policy{MaxAttempts: math.MaxInt}, retry.Policy{MaxAttempts: 1}},
		{1, retry.Policy{MaxAttempts: 1}, retry.Policy{MaxAttempts: 1}},
		{1, retry.Policy{MaxAttempts: 8, MaxElapsed: time.Minute}, retry.Policy{MaxAttempts: 4, MaxElapsed: time.Minute}},
		{2, retry.Policy{MaxAttempts: retry.Unlimited, MaxElapsed: time.Minute}, retry.Policy{MaxAttempts: retry.Unlimited, MaxElapsed: 15 * time.Second}},
		{100, retry.Policy{MaxAttempts: retry.Unlimited, MaxElapsed: time.Minute}, retry.Policy{MaxAttempts: retry.Unlimited, MaxElapsed: 1}},
		{3, retry.Policy{MaxAttempts: retry.Unlimited}, retry.Policy{MaxAttempts: retry.Unlimited}},
		{1, retry.Policy{MaxAttempts: -7}, retry.Policy{MaxAttempts: -7}}, // Validate has to see it
	} {
		got := c.is.ForRerun(c.n)
		if got.MaxAttempts != c.want.MaxAttempts || got.MaxElapsed != c.want.MaxElapsed {
			t.Errorf("%d attempts in %v, ForRerun(%d): %d in %v, want %d in %v", c.is.MaxAttempts, c.is.MaxElapsed, c.n,
				got.MaxAttempts, got.MaxElapsed, c.want.MaxAttempts, c.want.MaxElapsed)
		}
	}
}

// All runs together make fewer than twice the attempts of the first, and one for
// each of the others.
func TestForRerunOfAllRuns(t *testing.T) {
	t.Parallel()
	for attempts := 1; attempts <= 40; attempts++ {
		sum := 0
		for n := range 40 {
			p := retry.Policy{MaxAttempts: attempts}.ForRerun(n)
			if sum += p.Attempts(); sum >= 2*attempts+n {
				t.Errorf("%d attempts, run again %d times: %d attempts in all, want fewer than %d", attempts, n, sum, 2*attempts+n)
			}
		}
	}
}
