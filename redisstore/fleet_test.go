package redisstore_test

import (
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/redisstore"
)

// What one node finds, another respects; one probe, by one of them, closes both.
func TestTwoAgree(t *testing.T) {
	srv := startServer(t)
	f := fleet(t, 2, redisstore.Options{URL: srv.url(), Quorum: 1}, circuit.Config{FailureThreshold: 3, RecoveryTimeout: 50 * time.Millisecond})
	a, b := f[0], f[1]
	fail(t, a.Breaker, 3)
	took := eventually(t, time.Second, func() bool { return b.Peek() != nil }, "the other opens")
	t.Logf("the other opened after %v", took)
	var probe circuit.Permit
	eventually(t, 2*time.Second, func() bool {
		p, err := b.Acquire()
		probe = p
		return err == nil
	}, "a probe passes")
	if a.Allow() {
		t.Error("a second probe passes")
	}
	probe.Success()
	eventually(t, time.Second, func() bool { return a.State() == circuit.Closed && b.State() == circuit.Closed }, "both close")
}
