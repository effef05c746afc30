package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/fleet"
	"github.com/seed-0f2c7998/perdure/internal/fleet/memory"
	"github.com/seed-0f2c7998/perdure/retry"
)

// interval is the time between two reads of the server.
const interval = 50 * time.Millisecond

// A saver is a process that has a share of the fleet's budget.
type saver struct {
	*fleet.Store
	*circuit.Breaker
}

// newSaver returns a process in a fleet with a budget of ten tokens, ready.
func newSaver(t *testing.T, node string, server *memory.Server, local cell.Store) saver {
	t.Helper()
	s := fleet.Start(fleet.Config{
		Name: "fleet", Where: "memory", Node: node, Quorum: 1, Local: local, Sync: interval, Stale: 10 * interval, Connect: server.Connect,
	})
	t.Cleanup(s.Close)
	hidden := cell.Hide(s.Cells())
	b := circuit.New("backend", circuit.Config{Store: &hidden, Budget: 10, FailureThreshold: 1000})
	ready(t, s)
	return saver{s, b}
}

// savers returns n processes, each on a node of its own.
func savers(t *testing.T, n int, server *memory.Server) (all []saver) {
	t.Helper()
	for i := range n {
		all = append(all, newSaver(t, fmt.Sprint("node-", i), server, nil))
	}
	return all
}

// retries makes an operation of each process fail a hundred times, in turns, and returns
// the number of retries.
func retries(t *testing.T, of ...saver) (n int) {
	t.Helper()
	for range 100 {
		for _, m := range of {
			p := retry.Policy{
				MaxAttempts: 3, BaseDelay: time.Millisecond, Jitter: retry.NoJitter, Breaker: m.Breaker,
				Classify: retry.Always, Observe: func(context.Context, retry.Event) {},
			}
			err := retry.Do(t.Context(), &p, func(context.Context) error { n++; return errors.New("down") })
			if err == nil {
				t.Fatal("an operation that fails has succeeded")
			}
			n--
		}
		<-time.After(time.Millisecond)
	}
	return n
}

// prosper makes calls of all processes succeed until the budget is full.
func prosper(of ...saver) {
	for range 20 {
		for _, m := range of {
			for range 100 {
				m.RecordSuccess()
			}
		}
		<-time.After(interval)
	}
}

// Against a dead service, a fleet makes as many retries as a single host.
func TestOneBudget(t *testing.T) {
	for _, hosts := range []int{1, 2, 8, 20} {
		for _, warm := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				f, least, most := savers(t, hosts, new(memory.Server)), 1, 1
				if warm {
					prosper(f...)
					least, most = 8, 10 // shares of less than a token are of no use
				}
				if n := retries(t, f...); n < least || n > most {
					t.Errorf("%d hosts, warm: %v: %d retries, want %d to %d", hosts, warm, n, least, most)
				}
			})
		}
	}
}

// The tokens of a host that closes its Store are available at once.
func TestBudgetAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := savers(t, 2, new(memory.Server))
		prosper(f...)
		f[0].Close()
		if n := retries(t, f[1]); n != 10 {
			t.Errorf("after the other has ended: %d retries, want 10", n)
		}
	})
}

// The tokens of a host that dies are earned again by successes, after its share has
// expired.
func TestBudgetOfTheDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := new(memory.Server)
		// With a Local store, Close leaves the tokens in the cell.
		gone := newSaver(t, "gone", server, cell.Unseal(new(circuit.Memory)))
		f := newSaver(t, "left", server, nil)
		prosper(gone, f)
		gone.Close()
		if n := retries(t, f); n < 6 || n > 7 {
			t.Errorf("after the other has died: %d retries, want 6, two thirds of what there was", n)
		}
		<-time.After(6 * interval)
		prosper(f)
		if n := retries(t, f); n != 10 {
			t.Errorf("after the share of the dead host has expired: %d retries, want 10", n)
		}
	})
}

// A host that cannot reach the server has its share, and earns no more than that; the
// fleet's budget does not grow.
func TestBudgetAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := new(memory.Server)
		f := savers(t, 2, server)
		prosper(f...)
		server.Cut("node-1", true)
		for range 3 {
			prosper(f[1])
			if n := retries(t, f[1]); n != 3 {
				t.Errorf("cut off, with a third of ten tokens: %d retries, want 3", n)
			}
		}
		server.Cut("node-1", false)
		for _, c := range []struct {
			what    string
			happens func()
		}{{"together again", func() {}}, {"with a server that has lost its data", server.Forget}} {
			c.happens()
			<-time.After(time.Minute) // they are connected
			prosper(f...)
			if n := retries(t, f...); n > 10 || n < 9 {
				t.Errorf("%s: %d retries, want 10", c.what, n)
			}
		}
	})
}

// A manual reset starts the budget from scratch, wherever it is made.
func TestBudgetReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := savers(t, 2, new(memory.Server))
		retries(t, f...)
		f[0].Breaker.Reset()
		f[0].Store.Reset("backend")
		<-time.After(4 * interval)
		if n := retries(t, f...); n != 1 {
			t.Errorf("after a reset: %d retries, want 1", n)
		}
	})
}
