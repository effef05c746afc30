package retry_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
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

// Our own backoff is kept where it is the longer one, and without jitter
// nothing is added.
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

// What is above MaxRetryAfter, or does not fit the time, ends the call at once
// and tells when to come back.
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

// A hint is seen through marks and wrapping, which say nothing of it.
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

// The one that is told to wait does exactly that: the instant that it has set
// for its siblings does not hold it a second time.
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

// 2,000 operations whose server asked one of them for 30 s: none is early, and
// they do not all come in one second.
func TestRetryAfterHoldsSiblings(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const siblings, hint = 2000, 30 * time.Second
		b := breaker(circuit.Config{FailureThreshold: 1000})
		begin := time.Now()
		var mu sync.Mutex
		var at []time.Duration
		var held record
		p := retry.Policy{Breaker: b, Observe: held.observe}
		first, _ := calls(retry.After(errDown, hint))
		var all sync.WaitGroup
		all.Go(func() { _ = retry.Do(t.Context(), &p, first) })
		synctest.Wait()
		for range siblings {
			all.Go(func() {
				err := retry.Do(t.Context(), &p, func(context.Context) error {
					mu.Lock()
					defer mu.Unlock()
					at = append(at, time.Since(begin))
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		slices.Sort(at)
		if len(at) != siblings || at[0] < hint || at[siblings-1] > hint+hint/4+2*time.Millisecond {
			t.Fatalf("%d came from %v to %v", len(at), at[0], at[len(at)-1])
		}
		busiest := 0 // of any second
		for i, j := 0, 0; i < siblings; i++ {
			for at[i]-at[j] > time.Second {
				j++
			}
			busiest = max(busiest, i-j+1)
		}
		if busiest > siblings/5 {
			t.Errorf("%d of %d in one second, want about one in 7.5", busiest, siblings)
		}
		if n := len(held.events()); n != siblings+2 { // one each, and the first one's two
			t.Errorf("%d events, want %d", n, siblings+2)
		}
		e := held.events()[1]
		if e.Kind != retry.Delayed || e.Attempt != 1 || e.Hint < hint-time.Second || e.Delay < e.Hint || e.RetryAt.IsZero() || e.Err != nil {
			t.Errorf("event of a sibling: %+v", e)
		}
	})
}

// Siblings that may not or cannot wait that long are told when to come back,
// and the server is not asked.
func TestRetryAfterTurnsSiblingsAway(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		policy  retry.Policy
		timeout time.Duration
		hint    time.Duration
	}{
		{"limit", retry.Policy{}, time.Hour, 5 * time.Minute},
		{"deadline", retry.Policy{}, 10 * time.Second, 30 * time.Second},
		{"MaxElapsed", retry.Policy{MaxElapsed: 10 * time.Second}, time.Hour, 30 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), c.timeout)
			defer cancel()
			until := time.Now().Add(c.hint)
			var r record
			c.policy.Breaker, c.policy.Observe = breaker(circuit.Config{}), r.observe
			first, _ := calls(retry.After(errDown, c.hint))
			_ = retry.Do(ctx, &c.policy, first)

			begin := time.Now()
			f, made := calls()
			err := retry.Do(ctx, &c.policy, f)
			e := stopped(t, err, retry.ErrRetryLater, 0)
			if made.n != 0 || time.Since(begin) != 0 || e.Last != nil || e.RetryAt.Sub(until).Abs() > 2*time.Millisecond {
				t.Errorf("%s: %d calls in %v, %+v", c.name, made.n, time.Since(begin), e)
			}
			if last := r.events()[len(r.events())-1]; last.Kind != retry.Stopped || last.Attempt != 0 || !errors.Is(last.Stop, retry.ErrRetryLater) {
				t.Errorf("%s: event %+v", c.name, last)
			}
			ignoring := retry.Policy{Breaker: c.policy.Breaker, IgnoreRetryAfter: true}
			if err := retry.Do(ctx, &ignoring, f); err != nil || made.n != 1 {
				t.Errorf("%s: IgnoreRetryAfter: %v after %d calls", c.name, err, made.n)
			}
		})
	}
}

// A sibling that is held can be cancelled, and waits on when the server asks
// for more meanwhile.
func TestRetryAfterWhileHeld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := breaker(circuit.Config{})
		p := retry.Policy{Breaker: b, Jitter: retry.NoJitter}
		begin := time.Now()
		b.HoldUntil(begin.Add(10 * time.Second))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		time.AfterFunc(4*time.Second, cancel)
		f, made := calls()
		if err := retry.Do(ctx, &p, f); err != context.Canceled || time.Since(begin) != 4*time.Second || made.n != 0 { //nolint:errorlint // as itself
			t.Errorf("cancelled: %v after %d calls in %v", err, made.n, time.Since(begin))
		}
		time.AfterFunc(2*time.Second, func() { b.HoldUntil(begin.Add(25 * time.Second)) })
		if err := retry.Do(t.Context(), &p, f); err != nil {
			t.Error(err)
		}
		if late := time.Since(begin) - 25*time.Second; late < 0 || late > 5*time.Millisecond {
			t.Errorf("came at %v, want 25s", time.Since(begin))
		}
		// In all it waits no longer than the policy allows for one hint.
		begin = time.Now()
		b.HoldUntil(begin.Add(40 * time.Second))
		time.AfterFunc(39*time.Second, func() { b.HoldUntil(begin.Add(80 * time.Second)) })
		stopped(t, retry.Do(t.Context(), &p, f), retry.ErrRetryLater, 0)
		if took := time.Since(begin); took > 41*time.Second || made.n != 1 {
			t.Errorf("gave up after %v and %d calls", took, made.n)
		}
	})
}
