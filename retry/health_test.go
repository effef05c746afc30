package retry_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A layer makes one operation of one attempt through a breaker.
type layer func(context.Context, *circuit.Breaker, func(context.Context) error) error

// layers are the ways to make one.
func layers() map[string]layer {
	return map[string]layer{
		"retry.Do": func(ctx context.Context, b *circuit.Breaker, f func(context.Context) error) error {
			return retry.Do(ctx, &retry.Policy{Breaker: b, MaxAttempts: 1, Observe: func(context.Context, retry.Event) {}}, f)
		},
		"retry.Value": func(ctx context.Context, b *circuit.Breaker, f func(context.Context) error) error {
			_, err := retry.Value(ctx, &retry.Policy{Breaker: b, MaxAttempts: 1, MaxElapsed: time.Hour, Observe: func(context.Context, retry.Event) {}},
				func(ctx context.Context) (int, error) { return 1, f(ctx) })
			return err
		},
		"Breaker.Do": func(ctx context.Context, b *circuit.Breaker, f func(context.Context) error) error {
			return b.Do(ctx, f)
		},
		"circuit.Do": func(ctx context.Context, b *circuit.Breaker, f func(context.Context) error) error {
			_, err := circuit.Do(ctx, b, func(ctx context.Context) (int, error) { return 1, f(ctx) })
			return err
		},
	}
}

// A rpcError belongs to a package that no rule knows.
type rpcError struct{}

func (rpcError) Error() string { return "rpc error: code = Unavailable" }

// An error has the same effect on breaker and budget from each caller. Five failures in
// a row open the breaker; a success or a permanent error ends the row.
func TestClassesForTheBreaker(t *testing.T) {
	t.Parallel()
	const failure, success, free, nothing = "failure", "success", "success that pays nothing", "nothing"
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"nil":                       {nil, success},
		"unknown":                   {errDown, failure},
		"rpc":                       {rpcError{}, failure},
		"wrapped unknown":           {fmt.Errorf("step: %w", errDown), failure},
		"a dead connection":         {driver.ErrBadConn, failure},
		"the end":                   {io.ErrUnexpectedEOF, failure},
		"marked transient":          {retry.Transient(errDown), failure},
		"503":                       {&coded{status: 503}, failure},
		"final":                     {retry.Final(errDown), failure},
		"404":                       {&coded{status: 404}, success},
		"AccessDenied":              {&coded{code: "AccessDenied"}, success},
		"marked permanent":          {retry.Permanent(errDown), success},
		"marked conflict":           {retry.Conflict(errDown), free},
		"marked ignored":            {retry.Ignored(errDown), nothing},
		"cancelled by another":      {context.Canceled, nothing},
		"another breaker's refusal": {fmt.Errorf("step: %w", &circuit.OpenError{Name: "other", State: circuit.Open}), nothing},
		"a retry that waited in vain": {
			&retry.Error{Operation: "x", Stop: retry.ErrRetryLater, RetryAt: time.Now()}, nothing,
		},
		"throttled":      {retry.After(errDown, time.Second), nothing}, // alone
		"SlowDown":       {&coded{code: "SlowDown", status: 503}, nothing},
		"a wait of days": {retry.After(errDown, 72*time.Hour), nothing},
	} {
		for by, do := range layers() {
			b := breaker(circuit.Config{Budget: 10})
			b.RecordFailure()
			breakers.Withdraw(b, circuit.Token)
			_ = do(t.Context(), b, func(context.Context) error { return c.err })
			got, failures := nothing, b.Metrics().Failures
			balance, _ := breakers.Balance(b)
			switch {
			case failures == 2:
				got = failure
			case failures == 0 && balance == 0:
				got = free
			case failures == 0 && balance == circuit.Token/5:
				got = success
			case failures != 1 || balance != 0:
				got = fmt.Sprintf("%d failures and %d twentieths", failures, balance)
			}
			if got != c.want {
				t.Errorf("%s, %s: %s, want %s", name, by, got, c.want)
			}
		}
	}
}

// 200 unknown errors of 200 calls used to leave the breaker closed and to fill the
// budget, and a probe with an unknown error closed the breaker.
func TestUnknownErrorsOpen(t *testing.T) {
	t.Parallel()
	for by, do := range layers() {
		synctest.Test(t, func(t *testing.T) {
			b := breaker(circuit.Config{Budget: 10})
			made := 0
			fail := func(context.Context) error { made++; return rpcError{} }
			for range 200 {
				_ = do(t.Context(), b, fail)
			}
			if balance, _ := breakers.Balance(b); made != 5 || b.State() != circuit.Open || balance != circuit.Token {
				t.Errorf("%s: %d calls were made, the breaker is %v, %d twentieths", by, made, b.State(), balance)
			}
			<-time.After(30 * time.Second)
			if _ = do(t.Context(), b, fail); made != 6 || b.State() != circuit.Open {
				t.Errorf("%s: after a probe with an unknown error: %v", by, b.State())
			}
		})
	}
}

// Callers in a hurry do not open the breaker that others share with them.
func TestShortDeadlinesAreNeutral(t *testing.T) {
	t.Parallel()
	slow := func(ctx context.Context) error {
		select {
		case <-time.After(20 * time.Millisecond):
			return nil
		case <-ctx.Done():
			return fmt.Errorf("reading: %w", ctx.Err())
		}
	}
	queued := func(ctx context.Context) error {
		<-ctx.Done() // a semaphore that is never released
		return errors.New("no place in the queue")
	}
	for by, do := range layers() {
		for what, f := range map[string]func(context.Context) error{"a slow service": slow, "a semaphore": queued} {
			synctest.Test(t, func(t *testing.T) {
				b := breaker(circuit.Config{FailureThreshold: 1})
				var all sync.WaitGroup
				for range 5 {
					all.Go(func() {
						for range 20 {
							ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
							if err := do(ctx, b, f); err == nil {
								t.Errorf("%s, %s: it is not slow", by, what)
							}
							cancel()
						}
					})
				}
				all.Wait()
				if b.State() != circuit.Closed || b.Metrics().Failures != 0 {
					t.Errorf("%s, %s: %+v", by, what, b.Metrics())
				}
				if err := do(t.Context(), b, slow); err != nil {
					t.Errorf("%s, %s: another caller: %v", by, what, err)
				}
			})
		}
	}
}

// A service that hangs opens the breaker although its callers have no other
// timeout than their own deadline: from the second call on they are measured.
func TestHangingServiceOpens(t *testing.T) {
	t.Parallel()
	hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	for by, do := range layers() {
		synctest.Test(t, func(t *testing.T) {
			b := breaker(circuit.Config{RecoveryTimeout: time.Minute})
			try := func(d time.Duration) {
				ctx, cancel := context.WithTimeout(t.Context(), d)
				defer cancel()
				_ = do(ctx, b, hang)
			}
			for i := range 6 {
				if b.State() != circuit.Closed {
					t.Fatalf("%s: open after %d calls", by, i)
				}
				try(2 * time.Second)
			}
			if b.State() != circuit.Open {
				t.Fatalf("%s: %v after 6 calls that hang", by, b.State())
			}
			<-time.After(time.Minute)
			if try(50 * time.Millisecond); b.State() != circuit.HalfOpen {
				t.Errorf("%s: a probe in a hurry leads to %v", by, b.State())
			}
			if try(2 * time.Second); b.State() != circuit.Open {
				t.Errorf("%s: a probe that hangs leads to %v", by, b.State())
			}
		})
	}
}

// An attempt's own timeout is the service's failure, however short.
func TestAttemptTimeoutIsAFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := breaker(circuit.Config{})
		p := retry.Policy{Breaker: b, AttemptTimeout: 5 * time.Millisecond}
		stopped(t, retry.Do(t.Context(), &p, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }), retry.ErrExhausted, 5)
		if b.State() != circuit.Open {
			t.Errorf("%+v", b.Metrics())
		}
	})
}

// A trap panics, or ends its goroutine, when it is asked what it means.
type trap struct{ spring func() }

func (t *trap) Error() string                     { return "trap" }
func (t *trap) ErrorCode() string                 { t.spring(); return "" }
func (t *trap) RetryAfter() (time.Duration, bool) { t.spring(); return 0, false }

type unwrapTrap struct{ trap }

func (t *unwrapTrap) Unwrap() error { t.spring(); return nil }

// Whatever panics while an error is classified passes through, and the probe
// that brought the error is given back: the next call is the probe.
func TestPanicsWhileClassifying(t *testing.T) {
	t.Parallel()
	var typedNil *coded
	for name, spring := range map[string]func(){"panic": func() { panic("boom") }, "Goexit": runtime.Goexit} {
		for what, c := range map[string]struct {
			policy retry.Policy
			err    error
		}{
			"Classify":    {retry.Policy{Classify: func(error) retry.Class { spring(); return 0 }}, errDown},
			"a method":    {retry.Policy{}, &trap{spring}},
			"Unwrap":      {retry.Policy{}, &unwrapTrap{trap{func() {}}}},
			"a typed nil": {retry.Policy{}, typedNil},
		} {
			if u, ok := c.err.(*unwrapTrap); ok { //nolint:errorlint // as it stands above
				u.trap = trap{spring}
			}
			for by, do := range map[string]func(*circuit.Breaker) error{
				"retry.Do": func(b *circuit.Breaker) error {
					c.policy.Breaker = b
					return retry.Do(t.Context(), &c.policy, func(context.Context) error { return c.err })
				},
				"circuit.Do": func(b *circuit.Breaker) error {
					return b.Do(t.Context(), func(context.Context) error {
						if what == "Classify" {
							spring()
						}
						return c.err
					})
				},
			} {
				synctest.Test(t, func(t *testing.T) {
					b := breaker(open(time.Second))
					b.Trip()
					<-time.After(time.Second)
					if thrown, returned := end1(func() { _ = do(b) }); returned || (name == "panic") != (thrown != nil) && what != "a typed nil" {
						t.Errorf("%s, %s, %s: got %v, returned %v", name, what, by, thrown, returned)
					}
					f, made := calls()
					if err := retry.Do(t.Context(), &retry.Policy{Breaker: b}, f); err != nil || made.n != 1 || b.State() != circuit.Closed {
						t.Errorf("%s, %s, %s: then %v, %v", name, what, by, err, b.State())
					}
				})
			}
		}
	}
}
