package awsretry_test

import (
	"context"
	"maps"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/metrics"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// Each operation of a client counts once, however it ends: at once, after a retry, for an
// error that is not retried, because the caller gives up during the SDK's wait, or because
// the breaker refuses it.
func TestOperationsAreCounted(t *testing.T) {
	server := start(t, s3test.Rule{Method: "PUT", Prefix: "/bikes/twice", Nth: []int{1}, Fault: s3test.SlowDown()},
		s3test.Rule{Prefix: "/bikes/never", Fault: s3test.SlowDown()})
	var registry metrics.Registry
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p := retry.Policy{BaseDelay: time.Millisecond, Jitter: retry.NoJitter, Metrics: &registry}
	p.Observe = func(context.Context, retry.Event) {}
	p.Breaker = circuit.New("bikes", circuit.Config{Observe: func(context.Context, circuit.Transition) {}})
	for _, step := range []func() error{
		func() error { return put(ctx, connect(t, server, &p), "once", []byte("text")) },
		func() error { return put(ctx, connect(t, server, &p), "twice", []byte("text")) },
		func() error { return get(ctx, connect(t, server, &p), "missing") },
		func() error {
			slow := p
			slow.ThrottleDelay, slow.MaxDelay = time.Hour, time.Hour
			slow.Observe = func(context.Context, retry.Event) { cancel() }
			return put(ctx, connect(t, server, &slow), "never", []byte("text"))
		},
		func() error {
			p.Breaker.Trip()
			return put(t.Context(), connect(t, server, &p), "refused", []byte("text"))
		},
	} {
		_ = step()
	}
	got := map[string]float64{}
	for _, f := range registry.Snapshot().Families {
		for _, s := range f.Samples {
			if f.Name == "perdure_calls" || f.Name == "perdure_attempts" {
				got[s.Labels[0].Value+" "+s.Labels[2].Value+" "+s.Labels[3].Value] += s.Value
			}
		}
	}
	want := map[string]float64{
		"PutObject 1 success": 1, "PutObject 1 throttled": 2, "PutObject 2 success": 1, "GetObject 1 permanent": 1,
		"PutObject success ": 2, "PutObject cancelled cancelled": 1, "PutObject refused breaker_open": 1,
		"GetObject success ": 0, "GetObject failure permanent": 1,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
