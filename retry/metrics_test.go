package retry_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/seed-0f2c7998/perdure/metrics"
	"github.com/seed-0f2c7998/perdure/retry"
)

// Each attempt, each end and each wait is counted once.
func TestCallsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var registry metrics.Registry
		p := retry.Policy{Name: "load", MaxAttempts: 3, Metrics: &registry}
		_ = retry.Do(t.Context(), &p, func(context.Context) error { return nil })
		n := 0
		_ = retry.Do(t.Context(), &p, func(context.Context) error {
			if n++; n < 3 {
				return retry.Transient(errors.New("not yet"))
			}
			return nil
		})
		if err := retry.Do(t.Context(), &p, func(context.Context) error { return retry.Permanent(errors.New("never")) }); err == nil {
			t.Error("no error")
		}
		done, cancel := context.WithCancel(t.Context())
		cancel()
		if err := retry.Do(done, &p, func(context.Context) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("%v, want that the caller cancelled", err)
		}
		var text strings.Builder
		if err := registry.Snapshot().Write(&text, metrics.Text); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			`perdure_attempts_total{operation="load",key="",attempt="1",class="success"} 1`,
			`perdure_attempts_total{operation="load",key="",attempt="1",class="transient"} 1`,
			`perdure_attempts_total{operation="load",key="",attempt="3",class="success"} 1`,
			`perdure_attempts_total{operation="load",key="",attempt="1",class="permanent"} 1`,
		} {
			if !strings.Contains(text.String(), want) {
				t.Errorf("no %s in\n%s", want, text.String())
			}
		}
	})
}
