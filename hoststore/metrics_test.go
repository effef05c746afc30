//go:build unix

package hoststore_test

import (
	"context"
	"errors"
	"testing"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/hoststore"
	"github.com/seed-0f2c7998/perdure/metrics"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A host file counts, for all processes: the attempts of policies that have Metrics, by
// class, their retries, refusals by reason, the retries that the budget denied, and the time
// that the breaker was open. A policy without Metrics writes none of its attempts there.
func TestAHostFileCounts(t *testing.T) {
	path := t.TempDir() + "/state"
	var registry metrics.Registry
	down := errors.New("down")
	breaker := func() *circuit.Breaker {
		store := hoststore.Open(path)
		t.Cleanup(func() { store.Close() })
		return circuit.New("lake", circuit.Config{Store: store, Budget: 10, FailureThreshold: 4, Observe: func(context.Context, circuit.Transition) {}})
	}
	run := func(b *circuit.Breaker, m retry.Meter, errs ...error) {
		p := retry.Policy{Name: "load", Breaker: b, Metrics: m, BaseDelay: 1, Jitter: retry.NoJitter, Observe: func(context.Context, retry.Event) {}}
		_ = retry.Do(t.Context(), &p, func(context.Context) error {
			if len(errs) == 0 {
				return nil
			}
			err := errs[0]
			errs = errs[1:]
			return err
		})
	}
	one, two, off := breaker(), breaker(), breaker()
	run(one, &registry)
	run(two, &registry, retry.Transient(down))
	run(off, nil, retry.Permanent(down))
	run(one, &registry, retry.Permanent(down))
	run(two, &registry, retry.Transient(down), retry.Transient(down)) // the budget is spent
	run(one, &registry, retry.Transient(down))
	run(two, &registry, down) // the fourth failure in a row
	run(one, &registry)       // refused
	m := off.Metrics()
	if want := (circuit.Attempts{Success: 2, Transient: 4, Permanent: 1, Unknown: 1, Retries: 2}); m.Attempts != want {
		t.Errorf("attempts %+v, want %+v", m.Attempts, want)
	}
	if want := (circuit.Refused{Open: 1, Budget: 2}); m.Refused != want {
		t.Errorf("refusals %+v, want %+v", m.Refused, want)
	}
	if m.State != circuit.Open || m.OpenTime <= 0 || m.OpenTime >= m.RetryAt.Sub(m.Since) {
		t.Errorf("%v, open for %v since %v", m.State, m.OpenTime, m.Since)
	}
	two.Reset()
	if before, after := off.Metrics().OpenTime, one.Metrics().OpenTime; before == 0 || before != after {
		t.Errorf("after the opening: %v, then %v", before, after)
	}
}
