package fleet_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/fleet"
	"github.com/seed-0f2c7998/perdure/internal/fleet/memory"
)

// process returns a process of a node, and its breaker.
func process(node string, local cell.Store, connect func(context.Context, fleet.Member) (fleet.Server, error)) (*fleet.Store, *circuit.Breaker) {
	s := fleet.Start(fleet.Config{
		Name: "fleet", Where: "memory", Node: node, Quorum: 1, Local: local, Sync: 50 * time.Millisecond, Stale: 3 * time.Second, Connect: connect,
	})
	hidden := cell.Hide(s.Cells())
	return s, circuit.New("backend", circuit.Config{Store: &hidden, Observe: func(context.Context, circuit.Transition) {}})
}

func ready(t *testing.T, s *fleet.Store) {
	t.Helper()
	if err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// An isolation used to seem later by the time that the server's last response took. When
// the server had lost its data, the isolation was restored with that instant, and undid a
// later reset.
func TestSlowResponsesMakeAnOverrideNoLater(t *testing.T) {
	for seed := range uint64(10) {
		synctest.Test(t, func(t *testing.T) {
			server, host := new(memory.Server), cell.Unseal(new(circuit.Memory))
			a, isolated := process("a", nil, server.Connect)
			defer a.Close()
			ready(t, a)
			isolated.Isolate()
			synctest.Wait() // the isolation is reported
			server.Disturb(memory.Faults{Delay: time.Second}, seed)

			<-time.After(20 * time.Millisecond)
			off, reset := process("b", host, func(context.Context, fleet.Member) (fleet.Server, error) {
				return nil, errors.New("cut off")
			})
			reset.Reset()
			off.Close()

			<-time.After(10 * time.Second) // the server is read, slowly
			server.Disturb(memory.Faults{}, seed)
			server.Forget()
			<-time.After(10 * time.Second) // the isolation is restored
			if st, _ := a.Status("backend"); st.State != circuit.Isolated {
				t.Fatalf("seed %d: the server has forgotten, and the fleet is %v", seed, st.State)
			}
			b, back := process("b", host, server.Connect)
			defer b.Close()
			ready(t, b)
			<-time.After(time.Second)
			if isolated.State() != circuit.Closed || back.State() != circuit.Closed {
				t.Errorf("seed %d: isolated on a, and reset on b later: a is %v, b %v", seed, isolated.State(), back.State())
			}
		})
	}
}
