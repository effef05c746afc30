package retry_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
	"github.com/seed-0f2c7998/perdure/retry"
)

// Of several reasons to stop, the first in the order counts. Each row removes one more
// reason.
func TestDecideOrder(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 11, 8, 0, 0, 0, time.UTC)
	inner := fmt.Errorf("x: %w", &retry.Error{Stop: retry.ErrExhausted, Last: errDown})
	open := &circuit.OpenError{Name: "b", State: circuit.Open, RetryAt: now.Add(time.Minute)}
	p := retry.Policy{MaxAttempts: 3, MaxRetryAfter: 10 * time.Second, Jitter: retry.NoJitter, BaseDelay: 2 * time.Second, Classify: retry.Always}
	o := retry.Outcome{
		Attempt: 3, Err: retry.Permanent(retry.After(inner, 0)), Ended: context.DeadlineExceeded, Now: now,
		Deadline: now.Add(time.Second), Open: open, Budgeted: true,
	}
	for _, c := range []struct {
		change func()
		stop   error
		at     time.Time
		class  retry.Class
		reason retry.Reason
	}{
		{func() {}, context.DeadlineExceeded, time.Time{}, permanent, retry.ReasonDeadline},
		{func() { o.Ended = context.Canceled }, context.Canceled, time.Time{}, ignored, retry.ReasonCancelled},
		{func() { o.Ended = nil }, retry.ErrPermanent, time.Time{}, permanent, retry.ReasonNested},
		{func() { o.Err = retry.Permanent(errDown) }, retry.ErrPermanent, time.Time{}, permanent, retry.ReasonPermanent},
		{func() { o.Err = retry.After(errDown, 11*time.Second) }, retry.ErrExhausted, now.Add(11 * time.Second), throttled, retry.ReasonExhausted},
		{func() { o.Attempt = 1 }, retry.ErrRetryLater, now.Add(11 * time.Second), throttled, retry.ReasonRetryLater},
		{func() { o.Err = errDown }, retry.ErrDeadline, time.Time{}, transient, retry.ReasonDeadline},
		{func() { o.Deadline = time.Time{} }, open, open.RetryAt, transient, retry.ReasonBreakerOpen},
		{func() { open.RetryAt = now.Add(2 * time.Second) }, retry.ErrBudget, time.Time{}, transient, retry.ReasonBudget},
		{func() { o.Balance = 20 }, nil, time.Time{}, transient, 0},
	} {
		c.change()
		d := p.Decide(o, 0.5)
		if !errors.Is(d.Stop, c.stop) || (d.Stop == nil) != (c.stop == nil) || !d.RetryAt.Equal(c.at) || d.Class != c.class || d.Reason != c.reason {
			t.Errorf("%+v\ngives %+v\nwant %v, %v, %v, reason %v", o, d, c.stop, c.at, c.class, c.reason)
		}
		if d.Stop == nil && (d.Delay != 2*time.Second || d.Cost != circuit.Token) {
			t.Errorf("%+v, want 2s for a token", d)
		}
	}
	open.RetryAt = time.Time{} // isolated: no time to wait for
	if d := p.Decide(o, 0); d.Reason != retry.ReasonBreakerOpen || !errors.Is(d.Stop, open) {
		t.Errorf("isolated: %+v", d)
	}
}

// Decide does not classify an Outcome that has a class.
func TestDecideTakesTheClassOfTheOutcome(t *testing.T) {
	t.Parallel()
	p := retry.Policy{Jitter: retry.NoJitter, Classify: func(error) retry.Class { t.Error("asked"); return permanent }}
	d := p.Decide(retry.Outcome{Attempt: 1, Err: errDown, Class: throttled, Hint: 5 * time.Second}, 0)
	if want := (retry.Decision{Class: throttled, Hint: 5 * time.Second, Delay: 5 * time.Second, Cost: circuit.Token, RetryAt: d.RetryAt}); d != want {
		t.Errorf("%+v, want %+v", d, want)
	}
}

// Decide is pure: the same arguments give the same decision, and no wait is
// ever beyond what the deadline leaves, above the cap without a hint, below a
// hint, or paid for from an empty budget.
func TestDecideInvariants(t *testing.T) {
	t.Parallel()
	seed := testseed.Of(t, 5)
	rnd := rand.New(rand.NewPCG(seed, seed))
	now := time.Now()
	span := func() time.Duration { // of any size
		return time.Duration(math.Exp(rnd.Float64()*30)) * time.Microsecond
	}
	modes := jitterModes()
	waits, stops := 0, 0
	for range 20_000 {
		p := retry.Policy{
			MaxAttempts: []int{0, 1, 7, retry.Unlimited}[rnd.IntN(4)], BaseDelay: min(span(), 20*time.Second),
			JitterMode: modes[rnd.IntN(len(modes))], Jitter: []time.Duration{0, retry.NoJitter, span()}[rnd.IntN(3)],
			MaxElapsed: []time.Duration{0, span()}[rnd.IntN(2)], IgnoreRetryAfter: rnd.IntN(4) == 0,
		}
		o := retry.Outcome{
			Attempt: 1 + rnd.IntN(9), Err: errDown, Class: retry.Class(1 + rnd.IntN(4)), Now: now, Elapsed: span(),
			Hint: []time.Duration{0, span()}[rnd.IntN(2)], Budgeted: rnd.IntN(2) == 0, Balance: circuit.Tokens(rnd.IntN(100)), Spent: circuit.Tokens(rnd.IntN(60)),
		}
		if rnd.IntN(2) == 0 {
			o.Deadline = now.Add(span())
		}
		u := rnd.Float64()
		d := p.Decide(o, u)
		if again := p.Decide(o, u); !reflect.DeepEqual(d, again) {
			t.Fatalf("seed %d: %+v %+v: %+v, then %+v", seed, p, o, d, again)
		}
		if d.Stop != nil {
			stops++
			if d.Delay != 0 && errors.Is(d.Stop, retry.ErrRetryLater) {
				t.Fatalf("seed %d: %+v", seed, d)
			}
			continue
		}
		waits++
		bad := ""
		switch end := now.Add(d.Delay); {
		case !o.Deadline.IsZero() && end.After(o.Deadline):
			bad = "it sleeps into the deadline"
		case p.MaxElapsed > 0 && o.Elapsed+d.Delay > p.MaxElapsed:
			bad = "it sleeps beyond MaxElapsed"
		case d.Delay < d.Hint || d.Hint == 0 && d.Delay > 30*time.Second:
			bad = "it is early, or above the cap"
		case d.Hint != 0 && d.Hint != o.Hint || p.IgnoreRetryAfter && d.Hint != 0 || d.Hint > time.Minute:
			bad = "that is not the hint to obey"
		case o.Class == permanent || o.Class == ignored || p.Attempts() > 0 && o.Attempt >= p.Attempts():
			bad = "it should stop"
		case o.Budgeted && (d.Cost > o.Balance || (d.Cost == 0) != (o.Class == conflict) || d.Cost > 0 && o.Spent+d.Cost > max(circuit.Token, (o.Balance+o.Spent)/2)):
			bad = "it cannot pay"
		}
		if bad != "" {
			t.Fatalf("seed %d: %s:\n%+v\n%+v\n%+v", seed, bad, p, o, d)
		}
	}
	if waits < 1000 || stops < 1000 {
		t.Errorf("seed %d: %d waits and %d stops show little", seed, waits, stops)
	}
}
