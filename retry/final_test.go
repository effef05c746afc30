package retry_test

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A final error ends the operation like a permanent error, but keeps its class and its
// hint for the breaker.
func TestFinal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := breaker(circuit.Config{FailureThreshold: 1})
		p := retry.Policy{Breaker: b, Jitter: retry.NoJitter}
		busy := &coded{code: "SlowDown", status: 503, after: 20 * time.Second}
		final := retry.Final(busy)
		f, made := always(final)
		if err := retry.Do(t.Context(), &p, f); err != final || made.n != 1 { //nolint:errorlint // as itself
			t.Fatalf("%v after %d attempts, want itself after 1", err, made.n)
		}
		if m := b.Metrics(); m.Failures != 0 || m.State != circuit.Closed {
			t.Errorf("one throttled response: %+v", m)
		}
		f, _ = calls(retry.Conflict(errDown), fmt.Errorf("post: %w", final))
		e := stopped(t, retry.Do(t.Context(), &p, f), retry.ErrPermanent, 2)
		if b.State() != circuit.Closed || !e.RetryAt.Equal(time.Now().Add(20*time.Second)) || !errors.Is(e, busy) {
			t.Errorf("breaker %v, %+v", b.State(), e)
		}
	})
}

// A final error used to have to be permanent, and so a breaker took every POST that a
// dead service failed for a good response.
func TestFinalStopsAndIsStillAFailure(t *testing.T) {
	t.Parallel()
	failure := errors.New("reset after it was sent")
	for _, c := range []struct {
		name string
		err  error
		want circuit.State
	}{
		{"transient", retry.Final(retry.Transient(failure)), circuit.Open},
		{"throttled", retry.Final(retry.After(failure, time.Second)), circuit.Closed}, // alone it says little,
		{"transient around it", retry.Transient(retry.Final(failure)), circuit.Open},
		{"permanent", retry.Final(retry.Permanent(failure)), circuit.Closed},
		{"unknown", retry.Final(failure), circuit.Open},
	} {
		b := breaker(circuit.Config{FailureThreshold: 1})
		policy := retry.Policy{Breaker: b, Observe: func(context.Context, retry.Event) {}}
		attempts := 0
		err := retry.Do(t.Context(), &policy, func(context.Context) error { attempts++; return c.err })
		if attempts != 1 || !errors.Is(err, failure) {
			t.Errorf("%s: %d attempts, error %v; want one, and the operation's own", c.name, attempts, err)
		}
		if b.State() != c.want {
			t.Errorf("%s: the breaker is %v, want %v", c.name, b.State(), c.want)
		}
	}
	if retry.Final(nil) != nil {
		t.Error("Final(nil) is not nil")
	}
}

// Final does not change the class, and has its effect beside and below other marks.
func TestFinalBesideOtherMarks(t *testing.T) {
	t.Parallel()
	denied := &coded{code: "AccessDenied"}
	for name, c := range map[string]struct {
		err   error
		class retry.Class
	}{
		"alone":             {retry.Final(errDown), unknown},
		"of a code":         {retry.Final(&coded{code: "SlowDown"}), throttled},
		"of a mark":         {retry.Final(retry.Transient(denied)), transient},
		"under a mark":      {retry.Transient(fmt.Errorf("x: %w", retry.Final(denied))), transient},
		"beside a mark":     {errors.Join(retry.Transient(errDown), retry.Final(errDown)), transient},
		"beside one, first": {errors.Join(retry.Final(errDown), retry.After(errDown, time.Second)), throttled},
		"deep in another":   {errors.Join(errDown, fmt.Errorf("y: %w", errors.Join(retry.Transient(errDown), retry.Final(errDown)))), transient},
	} {
		d := new(retry.Policy).Decide(retry.Outcome{Attempt: 1, Err: c.err}, 0)
		if !errors.Is(d.Stop, retry.ErrPermanent) || d.Class != c.class {
			t.Errorf("%s: %+v, want %v and no other attempt", name, d, c.class)
		}
	}
}

// Of joined errors, each may be the final one.
func TestClassOfJoinedErrors(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"errno beside errno":     errors.Join(syscall.ENOSPC, syscall.ECONNRESET),
		"timeout beside refused": errors.Join(&coded{code: "Unheard"}, syscall.EINVAL, syscall.ETIMEDOUT),
		"mark beside error":      errors.Join(errDown, fmt.Errorf("x: %w", retry.Transient(errDown))),
	} {
		if got, _ := new(retry.Policy).ClassOf(err); got != transient {
			t.Errorf("%s: %v, want transient", name, got)
		}
	}
}

// Timeout reports whether the last attempt timed out, also through a *url.Error.
func TestErrorTimeout(t *testing.T) {
	t.Parallel()
	for last, want := range map[error]bool{
		errDown: false, syscall.ETIMEDOUT: true, nil: false, fmt.Errorf("x: %w", syscall.ETIMEDOUT): true,
	} {
		if got := (&retry.Error{Stop: retry.ErrExhausted, Last: last}).Timeout(); got != want {
			t.Errorf("%v: %v, want %v", last, got, want)
		}
	}
}
