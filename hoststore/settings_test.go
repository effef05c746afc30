//go:build unix

package hoststore_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/hoststore"
)

// twoProcesses returns two breakers of one file, as of processes with the settings one and
// other.
func twoProcesses(t *testing.T, one, other circuit.Config) (a, b *circuit.Breaker) {
	t.Helper()
	dir := t.TempDir()
	process := func(c circuit.Config) *circuit.Breaker {
		store := hoststore.Open(dir)
		t.Cleanup(store.Close)
		c.Store, c.Observe = store, func(context.Context, circuit.Transition) {}
		b, err := new(circuit.Registry).Get("backend", c)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	return process(one), process(other)
}

// wait returns how long b refuses calls, by its error.
func wait(t *testing.T, b *circuit.Breaker) time.Duration {
	t.Helper()
	p, err := b.Acquire()
	open, ok := errors.AsType[*circuit.OpenError](err)
	if !ok {
		p.Cancel()
		return 0
	}
	if at := b.Metrics().RetryAt; open.State == circuit.Open && !at.Equal(open.RetryAt) {
		t.Errorf("RetryAt is %v in Metrics, and %v in the error", at, open.RetryAt)
	}
	return time.Until(open.RetryAt)
}

// The process that opens a breaker decides for how long. A process with a shorter
// recovery timeout used to send a probe at once.
func TestAnOpeningLastsForAllAsItsOpenerDecided(t *testing.T) {
	const hour = time.Hour
	for _, row := range []struct {
		name       string
		one, other circuit.Config
		lasts      time.Duration
	}{
		{"longer", circuit.Config{RecoveryTimeout: hour}, circuit.Config{}, hour},
		{"much longer", circuit.Config{RecoveryTimeout: hour}, circuit.Config{RecoveryTimeout: time.Millisecond}, hour},
		{"a little longer", circuit.Config{RecoveryTimeout: 2 * time.Minute}, circuit.Config{}, 2 * time.Minute},
		{"shorter", circuit.Config{}, circuit.Config{RecoveryTimeout: hour}, 30 * time.Second},
		{"more than a day", circuit.Config{RecoveryTimeout: 30 * hour}, circuit.Config{}, 30 * hour},
		{"before a gate", circuit.Config{RecoveryTimeout: hour}, circuit.Config{Gate: circuit.FailFast}, hour},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := twoProcesses(t, row.one, row.other)
				for range 5 {
					a.RecordFailure()
				}
				if left := wait(t, b); left != row.lasts || b.State() != circuit.Open {
					t.Fatalf("the other process is %v for %v, want open for %v", b.State(), left, row.lasts)
				}
				<-time.After(row.lasts - time.Second)
				if left := wait(t, b); left != time.Second || b.State() != circuit.Open {
					t.Errorf("a second before the end, the other process is %v for %v", b.State(), left)
				}
				<-time.After(time.Second)
				if p, err := b.Acquire(); err != nil || !p.Probe() {
					t.Errorf("at the end, the other process sends no probe: %v", err)
				}
				if spent := b.Metrics().OpenTime; spent != row.lasts {
					t.Errorf("the other process says that it was open for %v, want %v", spent, row.lasts)
				}
			})
		})
	}
}

// The process that sends a probe decides for how long it may take. A process with a
// shorter lease used to send a second probe at once, and the result of the first was lost.
func TestALeaseLastsForAllAsItsProbeNeeds(t *testing.T) {
	slow := circuit.Config{ProbeLease: time.Hour, HalfOpenMax: 2, SuccessThreshold: 2}
	synctest.Test(t, func(t *testing.T) {
		a, b := twoProcesses(t, slow, circuit.Config{HalfOpenMax: 2, SuccessThreshold: 2})
		a.Trip()
		<-time.After(30 * time.Second)
		first, err := a.Acquire()
		if err != nil {
			t.Fatal(err)
		}
		second, err := b.Acquire() // its lease ends earlier
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if left := wait(t, b); left < time.Minute || left > time.Hour {
				t.Errorf("while the slow probe is in flight, the other process refuses calls for %v", left)
			}
			<-time.After(59 * time.Minute)
		}
		second.Success()
		first.Success()
		if a.State() != circuit.Closed {
			t.Errorf("after two probes that succeed, the breaker is %v", a.State())
		}
	})
	synctest.Test(t, func(t *testing.T) {
		a, b := twoProcesses(t, circuit.Config{ProbeLease: time.Hour}, circuit.Config{})
		a.Trip()
		<-time.After(30 * time.Second)
		if _, err := a.Acquire(); err != nil { // its process is killed
			t.Fatal(err)
		}
		if left := wait(t, b); left != time.Hour {
			t.Errorf("the slot of the lost probe is taken for %v, want an hour", left)
		}
		<-time.After(time.Hour)
		p, err := a.Acquire()
		if err != nil {
			t.Fatalf("the slot is not free at the end of the lease: %v", err)
		}
		p.Cancel()
		if _, err := b.Acquire(); err != nil { // is killed as well
			t.Fatal(err)
		}
		if left := wait(t, a); left != 30*time.Second {
			t.Errorf("the slot of a probe of the other process is taken for %v, want its 30 s", left)
		}
	})
}

// The number of failed probes in a row, and the probation after them, are of the service.
// Calls of a process with the default settings used to end both.
func TestOpenTimesGrowAlsoBesideAProcessWithoutGrowth(t *testing.T) {
	grows := circuit.Config{RecoveryTimeout: time.Hour, OpenGrowth: 2, OpenMax: 8 * time.Hour}
	synctest.Test(t, func(t *testing.T) {
		a, b := twoProcesses(t, grows, circuit.Config{})
		probe := func(of *circuit.Breaker) circuit.Permit {
			p, err := of.Acquire()
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		a.Trip()
		<-time.After(time.Hour)
		probe(a).Failure()
		<-time.After(2 * time.Hour)
		probe(b).Failure()
		if left := wait(t, a); left != 30*time.Second {
			t.Errorf("after a failed probe of the process without growth, the breaker is open for %v, want its 30 s", left)
		}
		<-time.After(30 * time.Second)
		probe(a).Failure()
		if left := wait(t, b); left != 8*time.Hour {
			t.Errorf("after three failed probes, the breaker is open for %v, want 8 h", left)
		}
		<-time.After(8 * time.Hour)
		probe(a).Success()
		<-time.After(time.Hour)
		for range 5 {
			probe(b).Success()
		}
		for range 5 {
			a.RecordFailure()
		}
		if left := wait(t, b); left != 8*time.Hour {
			t.Errorf("on probation, the breaker opens for %v, want 8 h", left)
		}
	})
}
