package redisstore_test

import (
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/redisstore"
)

// dueFleet returns n members of a fleet that is open and whose open time has elapsed.
func dueFleet(t *testing.T, n int, o redisstore.Options) []member {
	t.Helper()
	f := fleet(t, n, o, circuit.Config{FailureThreshold: 1, RecoveryTimeout: 20 * time.Millisecond})
	f[0].Trip() // manually: a vote would expire with its open time
	for _, m := range f {
		eventually(t, func() bool {
			st, _ := m.Status("backend")
			return m.State() == circuit.HalfOpen && st.State == circuit.Open && !st.Until.After(time.Now())
		}, "open, and the open time has elapsed, here and in the fleet")
	}
	return f
}

// A process that calls seldom may probe too: the lease waits for its next call.
func TestSeldomCaller(t *testing.T) {
	f := dueFleet(t, 1, steady(startServer(t)))
	if f[0].Allow() {
		t.Fatal("a call passes without a lease")
	}
	// Each call comes after the lease would have ended six times. It may be refused if
	// this process did not run in time to extend its lease.
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

// A holder of the lease that no longer calls gives way to a process that calls.
func TestIdleHolder(t *testing.T) {
	f := dueFleet(t, 2, steady(startServer(t)))
	if f[0].Allow() {
		t.Fatal("a call passes without a lease")
	}
	eventually(t, func() bool { st, _ := f[0].Status("backend"); return st.Holder == "node-0" }, "the first has the lease")
	took := eventually(t, f[1].Allow, "the other probes")
	t.Logf("the other probed after %v", took)
}

// A node whose probe has failed lets another go first: if only that node is broken, it
// would keep the fleet open.
func TestFailedProberGivesWay(t *testing.T) {
	srv := startServer(t)
	o := redisstore.Options{URL: srv.url(), Quorum: 1, Sync: 20 * time.Second, Stale: patience} // a node that failed yields for ten seconds
	f := dueFleet(t, 2, o)
	awaitProbe(t, f[0].Breaker).Failure()
	for turn := range 4 {
		last, next := f[turn%2], f[1-turn%2]
		eventually(t, func() bool { return last.State() == circuit.HalfOpen && next.State() == circuit.HalfOpen }, "the open time has elapsed")
		eventually(t, func() bool {
			if last.Allow() {
				t.Fatalf("turn %d: the node that failed last probes before the other could", turn)
			}
			p, err := next.Acquire()
			if err == nil {
				p.Failure()
			}
			return err == nil
		}, "the other probes")
	}
}
