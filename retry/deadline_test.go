package retry_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/retry"
)

// With 10 s left, the waits of 1, 2 and 4 s fit, and the wait of 8 s does not: the call
// ends at once, at 7 s, with the last error and the times.
func TestDeadlineIsNotSleptInto(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]func(context.Context, *retry.Policy) (context.Context, context.CancelFunc){
		"the caller's deadline": func(ctx context.Context, _ *retry.Policy) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 10*time.Second)
		},
		"MaxElapsed": func(ctx context.Context, p *retry.Policy) (context.Context, context.CancelFunc) {
			p.MaxElapsed = 10 * time.Second
			return ctx, func() {}
		},
		"the nearer of both": func(ctx context.Context, p *retry.Policy) (context.Context, context.CancelFunc) {
			p.MaxElapsed = 10 * time.Second
			return context.WithTimeout(ctx, time.Minute)
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := retry.Policy{Jitter: retry.NoJitter, Classify: retry.Always, Timed: true}
			ctx, cancel := limit(t.Context(), &p)
			defer cancel()
			f, made := always(errDown)
			begin := time.Now()
			err := retry.Do(ctx, &p, f)
			e := stopped(t, err, retry.ErrDeadline, 4)
			if took := time.Since(begin); took != 7*time.Second || e.Elapsed != took || made.n != 4 {
				t.Errorf("%s: %d calls in %v (says %v), want 4 in 7s", name, made.n, took, e.Elapsed)
			}
			if text := e.Stop.Error(); !strings.HasSuffix(text, ": 8.01s needed, 3s left") {
				t.Errorf("%s: %s, want 8.01s needed, 3s left", name, text)
			}
			if e.Last != errDown || !errors.Is(err, context.DeadlineExceeded) { //nolint:errorlint // as itself
				t.Errorf("%s: last is %v in %v", name, e.Last, err)
			}
		})
	}
}

// A wait is never shortened to fit: either the whole wait and a useful attempt fit, or
// the operation ends without a wait.
func TestDeadlineByTheMillisecond(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		left    time.Duration
		retried bool
	}{
		{900 * time.Millisecond, false},
		{time.Second, false},
		{time.Second + 9*time.Millisecond, false},
		{time.Second + 10*time.Millisecond, true},
		{2 * time.Second, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), c.left)
			defer cancel()
			p := retry.Policy{Jitter: retry.NoJitter, Classify: retry.Always}
			f, made := calls(errDown)
			begin := time.Now()
			err := retry.Do(ctx, &p, f)
			want := map[bool]time.Duration{true: time.Second}[c.retried]
			if (err == nil) != c.retried || time.Since(begin) != want {
				t.Errorf("%v left: %d calls in %v, %v", c.left, made.n, time.Since(begin), err)
			}
		})
	}
}

// MaxElapsed counts from the start of the first attempt, not from its end.
func TestMaxElapsedCountsTheAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := retry.Policy{MaxElapsed: 10 * time.Second, Jitter: retry.NoJitter, Classify: retry.Always}
		n := 0
		err := retry.Do(t.Context(), &p, func(context.Context) error {
			n++
			<-time.After(3 * time.Second)
			return errDown
		})
		// 0-3, 4-7; the third could begin at 9 and does; it ends at 12.
		e := stopped(t, err, retry.ErrDeadline, 3)
		if n != 3 || e.Elapsed != 12*time.Second || !strings.HasSuffix(e.Stop.Error(), ", 0s left") {
			t.Errorf("%d calls, %v, %v", n, e.Elapsed, e.Stop)
		}
	})
}

// Times close to the longest duration do not overflow.
func TestDeadlineOfHugeDelays(t *testing.T) {
	t.Parallel()
	p := retry.Policy{
		BaseDelay: math.MaxInt64, MaxDelay: math.MaxInt64, Jitter: retry.NoJitter,
		MaxElapsed: time.Hour, Classify: retry.Always,
	}
	f, _ := always(errDown)
	err := retry.Do(t.Context(), &p, f)
	if e := stopped(t, err, retry.ErrDeadline, 1); !strings.Contains(e.Stop.Error(), p.BaseDelay.Round(time.Millisecond).String()+" needed") {
		t.Errorf("%v, want %v needed", e.Stop, p.BaseDelay)
	}
}

// An attempt that reaches its own timeout is retried, whatever error the operation
// returns; an attempt that reaches the caller's deadline is not.
func TestAttemptTimeout(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(context.Context) error{
		"the context's error": func(ctx context.Context) error { return ctx.Err() },
		"wrapped":             func(ctx context.Context) error { return fmt.Errorf("put: %w", ctx.Err()) },
		"one of its own":      func(context.Context) error { return errors.New("killed") },
		"joined":              func(ctx context.Context) error { return errors.Join(errDown, context.Cause(ctx)) },
	} {
		synctest.Test(t, func(t *testing.T) {
			p := retry.Policy{AttemptTimeout: 2 * time.Second, Jitter: retry.NoJitter}
			n, begin := 0, time.Now()
			err := retry.Do(t.Context(), &p, func(ctx context.Context) error {
				if n++; n < 3 {
					<-ctx.Done()
					return end(ctx)
				}
				return nil
			})
			if took := time.Since(begin); err != nil || n != 3 || took != 7*time.Second {
				t.Errorf("%s: %v after %d attempts in %v, want 3 in 7s", name, err, n, took)
			}
		})
	}
}

// A time whose low 32 bits are 0 has its effect on 32-bit machines, too: an attempt of
// n·2³² ns had no deadline there.
func TestTimesOf32ZeroBits(t *testing.T) {
	t.Parallel()
	for n := range time.Duration(4) {
		span := (n + 1) << 32
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			p := retry.Policy{AttemptTimeout: span, MaxAttempts: 1, Classify: retry.Always}
			f := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
			if err := retry.Do(t.Context(), &p, f); time.Since(begin) != span {
				t.Errorf("AttemptTimeout %v: %v after %v", span, err, time.Since(begin))
			}
			p = retry.Policy{MaxElapsed: span, BaseDelay: span, MaxDelay: span, Jitter: retry.NoJitter, Classify: retry.Always}
			fails, made := always(errDown)
			if err := retry.Do(t.Context(), &p, fails); !errors.Is(err, retry.ErrDeadline) || made.n != 1 {
				t.Errorf("MaxElapsed %v: %v after %d attempts", span, err, made.n)
			}
			p = retry.Policy{MaxRetryAfter: span}
			asks, made := always(retry.After(errDown, span+1))
			if err := retry.Do(t.Context(), &p, asks); !errors.Is(err, retry.ErrRetryLater) || made.n != 1 {
				t.Errorf("MaxRetryAfter %v: %v after %d attempts", span, err, made.n)
			}
			begin = time.Now()
			p = retry.Policy{BaseDelay: span, MaxDelay: span, ThrottleDelay: span, MaxAttempts: 2, Jitter: retry.NoJitter, Classify: retry.Always}
			again, _ := always(errDown)
			if err := retry.Do(t.Context(), &p, again); time.Since(begin) != span {
				t.Errorf("BaseDelay %v: %v after %v", span, err, time.Since(begin))
			}
		})
	}
}

// The timeout of an attempt ends with the attempt, and an attempt that fails before its
// timeout is classified by its error.
func TestAttemptTimeoutEndsWithTheAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := retry.Policy{AttemptTimeout: time.Second}
		var kept context.Context
		err := retry.Do(t.Context(), &p, func(ctx context.Context) error {
			kept = ctx
			if _, ok := ctx.Deadline(); !ok {
				t.Error("the attempt's context has no deadline")
			}
			return errDown
		})
		if err != errDown || !errors.Is(kept.Err(), context.Canceled) { //nolint:errorlint // as itself
			t.Errorf("%v; the attempt's context: %v", err, kept.Err())
		}
	})
}

// If the context has ended, Do returns its cause and makes no attempt.
func TestContextDoneBeforeTheFirstAttempt(t *testing.T) {
	t.Parallel()
	cause := errors.New("the run was called off")
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	caused, cancelCause := context.WithCancelCause(t.Context())
	cancelCause(cause)
	late, cancelLate := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancelLate()
	for _, c := range []struct {
		ctx  context.Context
		want error
	}{{canceled, context.Canceled}, {caused, cause}, {late, context.DeadlineExceeded}} {
		for name, p := range map[string]*retry.Policy{
			"plain": {}, "timeout": {AttemptTimeout: time.Second}, "nil": nil, "breaker": {Breaker: breaker(open(time.Hour))},
		} {
			f, made := calls()
			if err := retry.Do(c.ctx, p, f); !errors.Is(err, c.want) || err.Error() != c.want.Error() || made.n != 0 {
				t.Errorf("%s policy: %v after %d calls, want %v after none", name, err, made.n, c.want)
			}
		}
	}
}

// If the caller gives up during a wait, Do returns at once, with the cause and the last
// error.
func TestCancelWakesTheWait(t *testing.T) {
	t.Parallel()
	cause := errors.New("the run was called off")
	for name, c := range map[string]struct {
		make func(context.Context) (context.Context, func())
		want error
	}{
		"cancel": {func(ctx context.Context) (context.Context, func()) {
			ctx, cancel := context.WithCancel(ctx)
			return ctx, cancel
		}, context.Canceled},
		"cause": {func(ctx context.Context) (context.Context, func()) {
			ctx, cancel := context.WithCancelCause(ctx)
			return ctx, func() { cancel(cause) }
		}, cause},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := c.make(t.Context())
			defer cancel()
			time.AfterFunc(1500*time.Millisecond, cancel)
			var r record
			p := retry.Policy{Jitter: retry.NoJitter, Classify: retry.Always, Observe: r.observe}
			f, made := always(errDown)
			begin := time.Now()
			err := retry.Do(ctx, &p, f)
			e := stopped(t, err, c.want, 2)
			if took := time.Since(begin); took != 1500*time.Millisecond || made.n != 2 {
				t.Errorf("%s: %d calls in %v, want 2 in 1.5s", name, made.n, took)
			}
			if e.Last != errDown || !errors.Is(err, errDown) { //nolint:errorlint // as itself
				t.Errorf("%s: last is %v", name, e.Last)
			}
			if got := r.kinds(); got != "retrying retrying stopped" {
				t.Errorf("%s: events %s", name, got)
			}
		})
	}
}

// If the caller gives up during an attempt, the error has the cause and the attempt's
// error, each once.
func TestCancelDuringAnAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		n := 0
		err := retry.Do(ctx, &retry.Policy{Classify: retry.Always}, func(ctx context.Context) error {
			n++
			<-ctx.Done()
			return fmt.Errorf("put: %w", ctx.Err())
		})
		e := stopped(t, err, context.DeadlineExceeded, 1)
		if n != 1 || e.Last.Error() != "put: context deadline exceeded" {
			t.Errorf("%d calls, last %v", n, e.Last)
		}
	})
}
