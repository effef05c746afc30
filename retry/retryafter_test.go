package retry_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A wait that the server asks for is a floor: with our own backoff below it,
// the wait is between H and H + H/4, at most 15 s more; the cap does not count.
func TestRetryAfterIsAFloor(t *testing.T) {
	t.Parallel()
	const seed = 11
	rnd := rand.New(rand.NewPCG(seed, seed))
	p := retry.Policy{MaxRetryAfter: 24 * time.Hour}
	for _, hint := range []time.Duration{4 * time.Second, 20 * time.Second, time.Minute, 2 * time.Minute, 10 * time.Hour} {
		spread := min(hint/4, 15*time.Second)
		sample := make([]float64, 2000)
		for i := range sample {
			d := p.Decide(retry.Outcome{Attempt: 1, Err: retry.After(errDown, hint)}, rnd.Float64())
			if d.Stop != nil || d.Hint != hint || d.Delay < hint || d.Delay > hint+spread {
				t.Fatalf("seed %d: told %v: %+v, want %v to %v", seed, hint, d, hint, hint+spread)
			}
			sample[i] = float64(d.Delay-hint) / float64(spread)
		}
		if d, limit := distance(sample), 1.95/math.Sqrt(2000); d > limit {
			t.Errorf("seed %d: told %v: %.4f from uniform, want at most %.4f", seed, hint, d, limit)
		}
	}
}

// A longer backoff is kept, and without jitter nothing is added.
func TestRetryAfterBesideTheBackoff(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		policy  retry.Policy
		attempt int
		hint    time.Duration
		want    time.Duration
	}{
		{retry.Policy{Jitter: retry.NoJitter}, 4, 3 * time.Second, 8 * time.Second},
		{retry.Policy{Jitter: retry.NoJitter}, 1, 3 * time.Second, 3 * time.Second},
		{retry.Policy{Jitter: retry.NoJitter, MaxDelay: 2 * time.Second}, 4, 50 * time.Second, 50 * time.Second},
		{retry.Policy{Jitter: retry.NoJitter, IgnoreRetryAfter: true}, 2, 50 * time.Second, 2 * time.Second},
		{retry.Policy{Jitter: retry.NoJitter, IgnoreRetryAfter: true}, 1, time.Hour, time.Second},
		{retry.Policy{Jitter: retry.NoJitter}, 1, time.Minute, time.Minute}, // the limit itself is allowed
		{retry.Policy{Jitter: retry.NoJitter}, 1, -time.Minute, time.Second},
		{retry.Policy{Jitter: retry.NoJitter}, 1, 0, time.Second},
	} {
		d := c.policy.Decide(retry.Outcome{Attempt: c.attempt, Err: retry.After(errDown, c.hint)}, 0.99)
		if d.Stop != nil || d.Delay != c.want {
			t.Errorf("attempt %d, told %v: %+v, want a delay of %v", c.attempt, c.hint, d, c.want)
		}
	}
}

// A hint that exceeds MaxRetryAfter or the deadline ends the call at once, with a
// RetryAt.
func TestRetryAfterTooLate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		policy  retry.Policy
		timeout time.Duration
		hint    time.Duration
		stops   bool
	}{
		{"above the limit", retry.Policy{}, 0, time.Minute + 1, true},
		{"far above it", retry.Policy{}, 0, math.MaxInt64, true},
		{"above a limit of its own", retry.Policy{MaxRetryAfter: time.Second}, 0, 2 * time.Second, true},
		{"beyond the deadline", retry.Policy{}, 20 * time.Second, 30 * time.Second, true},
		{"beyond MaxElapsed", retry.Policy{MaxElapsed: 20 * time.Second}, 0, 30 * time.Second, true},
		{"up to the deadline", retry.Policy{}, 30 * time.Second, 30 * time.Second, true},
		{"just before the deadline", retry.Policy{}, 30*time.Second + 10*time.Millisecond, 30 * time.Second, false},
		{"a pipeline's", retry.Pipeline(), 0, 14 * time.Minute, false},
		{"above a pipeline's", retry.Pipeline(), 0, 15*time.Minute + 1, true},
		{"ignored", retry.Policy{IgnoreRetryAfter: true}, 20 * time.Second, time.Hour, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			if c.timeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, c.timeout)
				defer cancel()
			}
			begin := time.Now()
			f, made := calls(retry.After(errDown, c.hint))
			err := retry.Do(ctx, &c.policy, f)
			took := time.Since(begin)
			if !c.stops {
				if err != nil || !c.policy.IgnoreRetryAfter && took < c.hint {
					t.Errorf("%s: %v after %v, want success after %v", c.name, err, took, c.hint)
				}
				return
			}
			e := stopped(t, err, retry.ErrRetryLater, 1)
			if took != 0 || made.n != 1 || !e.RetryAt.Equal(begin.Add(c.hint)) || !errors.Is(err, errDown) {
				t.Errorf("%s: %+v after %d calls in %v, want to come back at %v", c.name, e, made.n, took, begin.Add(c.hint))
			}
		})
	}
}

// The spread does not overrun what the deadline leaves.
func TestRetryAfterSpreadIsCutByTheDeadline(t *testing.T) {
	t.Parallel()
	now := time.Now()
	p := retry.Policy{}
	for _, left := range []time.Duration{30*time.Second + 10*time.Millisecond, 31 * time.Second, 33 * time.Second, time.Hour} {
		for _, u := range []float64{0, 0.5, math.Nextafter(1, 0)} {
			d := p.Decide(retry.Outcome{
				Attempt: 1, Err: retry.After(errDown, 30*time.Second), Now: now, Deadline: now.Add(left),
			}, u)
			most := min(left-10*time.Millisecond, 37500*time.Millisecond)
			if d.Stop != nil || d.Delay < 30*time.Second || d.Delay > most {
				t.Errorf("%v left, u %v: %+v, want 30s to %v", left, u, d, most)
			}
		}
	}
}

// Marks and wrapping without a hint do not hide the hint inside them.
func TestRetryAfterOfWrappedErrors(t *testing.T) {
	t.Parallel()
	hinted := &coded{code: "SlowDown", status: 503, after: 20 * time.Second}
	for name, err := range map[string]error{
		"bare":                            hinted,
		"wrapped":                         fmt.Errorf("put: %w", hinted),
		"joined":                          errors.Join(errDown, hinted),
		"joined by a sibling without one": errors.Join(&coded{code: "X"}, hinted, &coded{code: "X"}),
		"the longest of several":          fmt.Errorf("%w, %w", retry.After(errDown, time.Second), errors.Join(errDown, hinted)),
		"asked for nothing more":          retry.After(hinted, 0),
		"marked transient":                retry.Transient(hinted),
		"marked permanent":                fmt.Errorf("put: %w", retry.Permanent(fmt.Errorf("x: %w", hinted))),
		"marked twice":                    retry.Transient(retry.Transient(hinted)),
		"marked, wrapped":                 retry.Transient(fmt.Errorf("put: %w", retry.After(errDown, 20*time.Second))),
	} {
		if _, hint := new(retry.Policy).ClassOf(err); hint != 20*time.Second {
			t.Errorf("%s: hint %v, want 20s", name, hint)
		}
	}
	if _, hint := new(retry.Policy).ClassOf(retry.After(hinted, 5*time.Second)); hint != 5*time.Second {
		t.Errorf("After over a hint: %v, want its own 5s", hint)
	}
}

// A call waits exactly as long as the server asks: the not-before instant that it sets for
// its siblings does not delay the call a second time.
func TestRetryAfterIsWaitedOnce(t *testing.T) {
	t.Parallel()
	for _, odd := range []time.Duration{0, 1, 999_999, 500 * time.Microsecond} {
		synctest.Test(t, func(t *testing.T) {
			<-time.After(odd) // the instant is kept in milliseconds
			var r record
			p := retry.Policy{Jitter: retry.NoJitter, Breaker: breaker(circuit.Config{}), Observe: r.observe}
			f, made := calls(retry.After(errDown, time.Minute))
			if err := retry.Do(t.Context(), &p, f); err != nil {
				t.Fatal(err)
			}
			if late := made.at[1] - time.Minute; late < 0 || late > 2*time.Millisecond || r.kinds() != "retrying succeeded" {
				t.Errorf("%v into a millisecond: second attempt after %v; events %s", odd, made.at[1], r.kinds())
			}
		})
	}
}
