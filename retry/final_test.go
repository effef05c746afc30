package retry_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
)

// An error that is final used to have to be permanent, and so a breaker took
// every POST that a dead service failed for a good answer.
func TestFinalStopsAndIsStillAFailure(t *testing.T) {
	t.Parallel()
	failure := errors.New("reset after it was sent")
	for _, c := range []struct {
		name string
		err  error
		want circuit.State
	}{
		{"transient", retry.Final(retry.Transient(failure)), circuit.Open},
		{"throttled", retry.Final(retry.After(failure, time.Second)), circuit.Open},
		{"transient around it", retry.Transient(retry.Final(failure)), circuit.Open},
		{"permanent", retry.Final(retry.Permanent(failure)), circuit.Closed},
		{"unknown", retry.Final(failure), circuit.Closed},
	} {
		breaker := circuit.New(c.name, circuit.Config{FailureThreshold: 1, Observe: func(circuit.Transition) {}})
		policy := retry.Policy{Breaker: breaker, Observe: func(retry.Event) {}}
		attempts := 0
		err := retry.Do(t.Context(), &policy, func(context.Context) error { attempts++; return c.err })
		if attempts != 1 || !errors.Is(err, failure) {
			t.Errorf("%s: %d attempts, error %v; want one, and the operation's own", c.name, attempts, err)
		}
		if breaker.State() != c.want {
			t.Errorf("%s: the breaker is %v, want %v", c.name, breaker.State(), c.want)
		}
	}
	if retry.Final(nil) != nil {
		t.Error("Final(nil) is not nil")
	}
}

func TestFinalKeepsTheHint(t *testing.T) {
	t.Parallel()
	breaker := circuit.New("held", circuit.Config{})
	policy := retry.Policy{Breaker: breaker, Observe: func(retry.Event) {}}
	_ = retry.Do(t.Context(), &policy, func(context.Context) error {
		return retry.Final(retry.After(errors.New("busy"), time.Hour))
	})
	if left := time.Until(breaker.NotBefore()); left < 59*time.Minute {
		t.Errorf("the key is held for %v, want the hour that the server asked for", left)
	}
}
