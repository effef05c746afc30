package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
)

// fail makes calls of b fail until b is no longer closed.
func fail(t *testing.T, b *circuit.Breaker) {
	t.Helper()
	for range 3 {
		p, err := b.Acquire()
		if err != nil {
			t.Fatalf("a closed breaker refuses: %v", err)
		}
		p.Failure()
	}
	if b.State() == circuit.Closed {
		t.Fatal("the breaker is closed after three failures")
	}
}

// opens makes calls of the first breaker fail until none is closed. A vote that arrives
// after its open time does not count, so one opening may not be enough.
func opens(t *testing.T, of []*circuit.Breaker) {
	t.Helper()
	eventually(t, func() bool {
		if p, err := of[0].Acquire(); err == nil {
			p.Failure()
		}
		return all(of, notClosed)
	}, "all are open")
}

// probe waits until one of the breakers sends a probe.
func probe(t *testing.T, of []*circuit.Breaker) (p circuit.Permit) {
	t.Helper()
	eventually(t, func() bool {
		for _, b := range of {
			var err error
			if p, err = b.Acquire(); err == nil && p.Probe() {
				return true
			} else if err == nil {
				t.Fatal("a call that is no probe passes")
			}
		}
		return false
	}, "a probe passes")
	return p
}

// closes waits until all are closed.
func (s Subject) closes(t *testing.T, of []*circuit.Breaker) {
	t.Helper()
	eventually(t, func() bool {
		for i := 0; s.Noisy && i < len(of); i++ {
			if p, err := of[i].Acquire(); err == nil {
				p.Success()
			}
		}
		return all(of, are(circuit.Closed))
	}, "all are closed")
}

func testTrip(t *testing.T, s Subject) {
	t.Helper()
	c := quick()
	c.RecoveryTimeout = time.Hour
	b := s.breakers(t, 3, c)
	fail(t, b[0])
	eventually(t, func() bool { return all(b, are(circuit.Open)) }, "all are open")
	for i := range b {
		_, err := b[i].Acquire()
		if e, ok := errors.AsType[*circuit.OpenError](err); !ok || e.State != circuit.Open || time.Until(e.RetryAt) > time.Hour+time.Second {
			t.Errorf("breaker %d: %v, want an OpenError with RetryAt within the hour", i, err)
		}
	}
}

func testOneProbe(t *testing.T, s Subject) {
	t.Helper()
	b := s.breakers(t, 3, quick())
	opens(t, b)
	p := probe(t, b)
	for range 100 {
		for i := range b {
			if _, err := b[i].Acquire(); err == nil && !s.Noisy {
				t.Fatalf("breaker %d lets a call pass while a probe is in flight", i)
			}
		}
	}
	p.Success()
	s.closes(t, b)
}

func testLease(t *testing.T, s Subject) {
	t.Helper()
	c := quick()
	c.ProbeLease = 50 * time.Millisecond
	b := s.breakers(t, 2, c)
	opens(t, b)
	lost := probe(t, b)
	eventually(t, func() bool { // a process under load may let a lease end again
		for i := range b {
			if p, err := b[i].Acquire(); err == nil {
				p.Success()
			}
		}
		return all(b, are(circuit.Closed))
	}, "all are closed after the lease of the first probe")
	lost.Failure() // too late to count
	if !s.Noisy && !all(b, are(circuit.Closed)) {
		t.Error("a probe whose lease had ended has opened a breaker")
	}
}

func testFailedProbe(t *testing.T, s Subject) {
	t.Helper()
	b := s.breakers(t, 2, quick())
	opens(t, b)
	for range 3 {
		probe(t, b).Failure()
	}
	probe(t, b).Success()
	s.closes(t, b)
}

func testOpenersTime(t *testing.T, s Subject) {
	t.Helper()
	long := quick()
	long.RecoveryTimeout = time.Hour
	b := s.breakersOf(t, long, quick())
	fail(t, b[0])
	eventually(t, func() bool { return all(b, notClosed) }, "all are open")
	_, err := b[1].Acquire()
	if e, ok := errors.AsType[*circuit.OpenError](err); !ok || e.State != circuit.Open || time.Until(e.RetryAt) < time.Hour-patience {
		t.Errorf("a process with a shorter recovery timeout: %v, want that the breaker is open for an hour", err)
	}
}

func testProbersLease(t *testing.T, s Subject) {
	t.Helper()
	long := quick()
	long.ProbeLease = time.Hour
	b := s.breakersOf(t, long, quick())
	opens(t, b)
	p := probe(t, b[:1])
	for range 100 {
		if _, err := b[1].Acquire(); err == nil && !s.Noisy {
			t.Fatal("a process with a shorter lease lets a call pass while a probe is in flight")
		}
	}
	p.Success()
	s.closes(t, b)
}

func testOverride(t *testing.T, s Subject) {
	t.Helper()
	b := s.breakers(t, 3, quick())
	for i := range b {
		b[i].Isolate()
		eventually(t, func() bool { return all(b, are(circuit.Isolated)) }, "all are isolated by %d", i)
		other := b[(i+1)%len(b)]
		if other.Allow() {
			t.Error("an isolated breaker lets a call pass")
		}
		other.Trip() // changes nothing
		other.Reset()
		eventually(t, func() bool { return all(b, are(circuit.Closed)) }, "all are closed by another breaker than %d", i)
	}
}

func testLatecomer(t *testing.T, s Subject) {
	t.Helper()
	b := s.breakers(t, 2, quick())
	b[0].Isolate()
	eventually(t, func() bool { return all(b, are(circuit.Isolated)) }, "all are isolated")
	p := s.process(t)
	c := quick()
	c.Store = p.Store
	late := circuit.New("backend", c)
	p.ready(t)
	if late.State() != circuit.Isolated {
		t.Errorf("the breaker is %v in a process that came later", late.State())
	}
}
