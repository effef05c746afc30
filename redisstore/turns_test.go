package redisstore_test

import (
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/redisstore"
)

// dueFleet returns n members whose fleet is open, with its time up.
func dueFleet(t *testing.T, n int, o redisstore.Options) []member {
	t.Helper()
	f := fleet(t, n, o, circuit.Config{FailureThreshold: 1, RecoveryTimeout: 20 * time.Millisecond})
	f[0].Trip() // by hand: a vote would be none that arrives when its time is up
	for _, m := range f {
		eventually(t, func() bool {
			st, _ := m.Status("backend")
			return m.State() == circuit.HalfOpen && st.State == circuit.Open && !st.Until.After(time.Now())
		}, "open, and its time is up, here and in the fleet")
	}
	return f
}

// Who calls seldom still gets to probe: the lease waits for its next call.
func TestSeldomCaller(t *testing.T) {
	f := dueFleet(t, 1, steady(startServer(t)))
	if f[0].Allow() {
		t.Fatal("a call passes without a lease")
	}
	// Each call comes after the lease would have ended six times. It may be refused,
	// if this process got no turn meanwhile to keep its lease.
	const lease = 3 * 50 * time.Millisecond
	for last, try := time.Now(), 0; try < 30; try++ {
		eventually(t, func() bool { return time.Since(last) > 6*lease }, "a seldom caller calls")
		if p, err := f[0].Acquire(); err == nil && p.Probe() {
			return
		}
		last = time.Now()
	}
	t.Fatal("no call is a probe")
}

// Who has the lease and does not call any more gives way to one that does.
func TestIdleHolder(t *testing.T) {
	f := dueFleet(t, 2, steady(startServer(t)))
	if f[0].Allow() {
		t.Fatal("a call passes without a lease")
	}
	eventually(t, func() bool { st, _ := f[0].Status("backend"); return st.Holder == "node-0" }, "it has the lease")
	took := eventually(t, f[1].Allow, "the other gets to probe")
	t.Logf("the other got to probe after %v", took)
}

// A node whose probe has failed lets another go first: were it the one that is
// broken, it would keep the fleet open.
func TestFailedProberGivesWay(t *testing.T) {
	srv := startServer(t)
	o := redisstore.Options{URL: srv.url(), Quorum: 1, Sync: 20 * time.Second, Stale: patience} // who failed lets others go first for ten seconds
	f := dueFleet(t, 2, o)
	awaitProbe(t, f[0].Breaker).Failure()
	for turn := range 4 {
		last, next := f[turn%2], f[1-turn%2]
		eventually(t, func() bool { return last.State() == circuit.HalfOpen && next.State() == circuit.HalfOpen }, "its time is up")
		eventually(t, func() bool {
			if last.Allow() {
				t.Fatalf("turn %d: who failed last probes again, and nobody else could", turn)
			}
			p, err := next.Acquire()
			if err == nil {
				p.Failure()
			}
			return err == nil
		}, "the other probes")
	}
}
