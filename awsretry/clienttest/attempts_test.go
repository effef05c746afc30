package clienttest_test

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/awsretry"
	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
)

// The client of the instance's metadata resolves its endpoint outside of the loop, and was never retried nor seen.
func TestEachClientIsRetriedAsThePolicySays(t *testing.T) {
	ignore := func(context.Context, circuit.Transition) {}
	for name, call := range operations {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int64
			server := start(t, func(w http.ResponseWriter, r *http.Request) {
				if !isToken(w, r) {
					requests.Add(1)
					w.WriteHeader(http.StatusServiceUnavailable)
				}
			})
			p := quick(t)
			var last retry.Event
			p.Observe = func(_ context.Context, e retry.Event) { last = e }
			p.Breaker = circuit.New("attempts", circuit.Config{FailureThreshold: 3, Observe: ignore})
			cfg := configure(server)
			awsretry.Apply(&cfg, &p)
			err := call(t.Context(), cfg)
			gaveUp, ok := errors.AsType[*retry.Error](err)
			if !ok || requests.Load() != 3 || gaveUp.Attempts != 3 || !errors.Is(err, retry.ErrExhausted) {
				t.Fatalf("always 503: %d requests, %v, want 3, exhausted", requests.Load(), err)
			}
			if gaveUp.Operation != name || last.Operation != name {
				t.Errorf("the operation is %q in the error, %q in the event, want %q", gaveUp.Operation, last.Operation, name)
			}
			if p.Breaker.State() != circuit.Open {
				t.Errorf("after three failures the breaker is %v, want open", p.Breaker.State())
			}
			if err := call(t.Context(), cfg); !errors.As(err, new(*circuit.OpenError)) || requests.Load() != 3 {
				t.Errorf("with the breaker open: %v after %d requests, want its error, and no more requests", err, requests.Load())
			}

			requests.Store(0)
			p = quick(t)
			p.Breaker = circuit.New("budget", circuit.Config{
				FailureThreshold: circuit.Off, Window: time.Second, FailureRatio: 1, MinCalls: 1000, Budget: 10, Observe: ignore,
			})
			cfg = configure(server)
			awsretry.Apply(&cfg, &p)
			if err := call(t.Context(), cfg); !errors.Is(err, retry.ErrBudget) || requests.Load() != 2 {
				t.Errorf("with one token: %d requests, %v, want 2, %v", requests.Load(), err, retry.ErrBudget)
			}
		})
	}
}
