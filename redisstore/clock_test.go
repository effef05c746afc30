package redisstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
)

// The server's clock is set back, or another node takes over whose clock is behind. An
// open breaker used to stay open for as long, and so did leases.
func TestServerClockPutBack(t *testing.T) {
	srv := startServer(t)
	all := fleet(t, 2, steady(srv), circuit.Config{FailureThreshold: 1, RecoveryTimeout: 100 * time.Millisecond, ProbeLease: 200 * time.Millisecond})
	client := srv.client()
	putBack := func(fields ...string) {
		t.Helper()
		for _, field := range fields {
			if err := client.Do(t.Context(), client.B().Hincrby().Key("circuit_breaker:backend").Field(field).Increment(3_600_000).Build()).Error(); err != nil {
				t.Fatal(err)
			}
		}
	}
	works := func(m member) bool {
		return m.Do(t.Context(), func(context.Context) error { return nil }) == nil
	}
	opens(t, all[0])
	eventually(t, func() bool { return all[1].State() != circuit.Closed }, "the other is open")
	putBack("since", "until")
	eventually(t, func() bool { return works(all[1]) }, "a probe passes after the clock was set back")
	eventually(t, func() bool { return works(all[1]) && all[0].State() == circuit.Closed }, "the first is closed")

	opens(t, all[0])
	var probe circuit.Permit
	eventually(t, func() bool {
		p, err := all[0].Acquire()
		probe = p
		return err == nil && p.Probe()
	}, "a probe passes")
	putBack("since", "until", "lease.since", "lease.till")
	eventually(t, func() bool { return works(all[1]) }, "the lease of the hanging probe ends")
	probe.Success() // too late to count
}

// The clock is set back by an hour, so the schedule of a rate is an hour ahead of it.
func TestServerClockPutBackDelaysNoRate(t *testing.T) {
	srv := startServer(t)
	client := srv.client()
	all := fleet(t, 2, brisk(srv), circuit.Config{Rate: 20})
	for range 3 {
		for _, m := range all {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			if err := m.Do(ctx, func(context.Context) error { return nil }); err != nil {
				t.Fatal(err)
			}
			cancel()
		}
		for _, field := range []string{"rate.next", "rate.at"} {
			if err := client.Do(t.Context(), client.B().Hincrby().Key("circuit_breaker:backend").Field(field).Increment(3_600_000_000).Build()).Error(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
