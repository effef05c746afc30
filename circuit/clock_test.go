package circuit

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// A breaker of this process alone uses a monotonic clock: a wall clock that was put back
// by ten seconds used to keep it open ten seconds longer. A shared store contains wall
// time, which other processes can read.
func TestTheWallClockIsSet(t *testing.T) {
	for name, c := range map[string]struct {
		store Store
		left  time.Duration // after ten seconds of 30, when the wall clock is put back by ten
	}{
		"memory":        {nil, 20 * time.Second},
		"shared memory": {new(Memory), 20 * time.Second},
		"a shared cell": {sealing(mapped{ref: cell.NewRef(new(cell.Cell))}), 30 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := New("x", quiet(Config{Store: c.store}))
			b.Trip()
			after(10 * time.Second)
			b.clock = func() time.Time { return time.Now().Add(-10 * time.Second).Round(0) }
			waited := time.Duration(0)
			for ; !b.Allow(); waited += time.Second {
				after(time.Second)
			}
			if waited != c.left {
				t.Errorf("%s: open for %v more, want %v", name, waited, c.left)
			}
		})
	}
}

// A clock that was put back keeps a breaker open for its own opening at most, though a
// process with a longer recovery timeout has opened it before.
func TestTheWallClockIsSetAfterALongerOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := sealing(mapped{ref: cell.NewRef(new(cell.Cell))})
		long, b := New("x", quiet(Config{Store: store, RecoveryTimeout: time.Hour})), New("x", quiet(Config{Store: store}))
		long.Trip()
		long.Reset()
		b.Trip()
		long.clock = func() time.Time { return time.Now().Add(-10 * time.Minute).Round(0) }
		if b.clock = long.clock; !b.Allow() {
			t.Errorf("an opening of 30 s, set ten minutes from now: %v", b.peek())
		}
		if long.Allow() {
			t.Error("the process with the longer recovery timeout sends a second probe")
		}
	})
}

// mapped is a Store of one cell, which others could map.
type mapped struct {
	cell.Unshared

	ref *cell.Ref
}

func (m mapped) Cell(string, cell.Client) *cell.Ref { return m.ref }
