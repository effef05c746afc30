package storetest

import (
	"context"
	"testing"

	"github.com/seed-0f2c7998/perdure/circuit"
)

// gated returns the settings of a breaker with a gate.
func gated() circuit.Config {
	return circuit.Config{Gate: circuit.Wait, Observe: func(context.Context, circuit.Transition) {}}
}

// shut makes calls of all breakers fail until all are open.
func (s Subject) shut(t *testing.T, of []*circuit.Breaker) {
	t.Helper()
	eventually(t, func() bool {
		for _, b := range of {
			if p, err := b.Acquire(); err == nil {
				p.Failure()
			}
		}
		return all(of, are(circuit.Open))
	}, "all are open")
}

func testGateOverride(t *testing.T, s Subject) {
	t.Helper()
	b := s.breakers(t, 3, gated())
	for i := range b {
		s.shut(t, b)
		b[i].Reset()
		eventually(t, func() bool { return all(b, are(circuit.Closed)) }, "all are closed by %d", i)
		s.shut(t, b)
		b[i].Isolate()
		eventually(t, func() bool { return all(b, are(circuit.Isolated)) }, "all are isolated by %d", i)
		b[i].Reset()
		eventually(t, func() bool { return all(b, are(circuit.Closed)) }, "all are closed by %d after that", i)
	}
}

func testGateLatecomer(t *testing.T, s Subject) {
	t.Helper()
	b := s.breakers(t, 2, gated())
	s.shut(t, b)
	eventually(t, func() bool {
		for i := range b { // a failed probe is reported
			if p, err := b[i].Acquire(); err == nil {
				p.Failure()
			}
		}
		return s.breakers(t, 1, gated())[0].State() == circuit.Open
	}, "the breaker is open in a process that came later")
}

func testGateSuccess(t *testing.T, s Subject) {
	t.Helper()
	b := s.breakers(t, 3, gated())
	for range 3 {
		s.shut(t, b)
		eventually(t, func() bool {
			for i := range b {
				if p, err := b[i].Acquire(); err == nil {
					p.Success()
				}
			}
			return all(b, are(circuit.Closed))
		}, "all are closed after a success")
	}
}
