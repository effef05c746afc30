package redisstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
)

// The server's clock is put back, or another node takes over whose clock is behind.
// What was open then used to stay open for as long, and leases to be held.
func TestServerClockPutBack(t *testing.T) {
	srv := startServer(t)
	all := fleet(t, 2, brisk(srv), circuit.Config{FailureThreshold: 1, RecoveryTimeout: 100 * time.Millisecond, ProbeLease: 200 * time.Millisecond})
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
	fail(t, all[0].Breaker, 1)
	eventually(t, func() bool { return all[1].State() != circuit.Closed }, "it is open")
	putBack("since", "until")
	eventually(t, func() bool { return works(all[1]) }, "a probe passes though the clock was put back")
	eventually(t, func() bool { return all[0].State() == circuit.Closed }, "it is closed")

	fail(t, all[0].Breaker, 1)
	var probe circuit.Permit
	eventually(t, func() bool {
		p, err := all[0].Acquire()
		probe = p
		return err == nil && p.Probe()
	}, "a probe passes")
	putBack("since", "until", "lease.since", "lease.till")
	eventually(t, func() bool { return works(all[1]) }, "the probe that hangs is given up")
	probe.Success() // too late: it counts for nothing
}

// The clock is put back by an hour, and the schedule of a rate was an hour ahead of it.
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
