package redisstore

import (
	"hash/fnv"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
)

// hands compares what was last set by hand in the fleet with what was set on
// this host, when one of them could not hear of the other: the host had no
// process, or no server. The later one holds. s.mu is held.
func (s *Store) hands(k *key, now time.Time) {
	v, c := &k.mirror.view, k.ref.Load()
	state, here := c.ByHand()
	name := v.nameHand()
	switch {
	case !k.mirror.known || k.hand != nil || k.telling:
		return // the answer will say
	case name != 0 && name != c.Heard.Load() && !v.hand.Add(rounding).Before(here):
		k.hear(name, now)
	case here.IsZero() || circuit.State(state) == circuit.Open:
	case here.After(now): // by a clock that has been put back since
		c.Overruled()
	case here.Sub(v.hand) > rounding:
		k.hand = &job{kind: byHand, state: circuit.State(state), reason: c.Reason.Load(), at: here}
		s.wake()
	}
}

// rounding is by how much an instant may seem to be earlier than it is, between
// clocks that count milliseconds.
const rounding = 2 * time.Millisecond

// hear has the breaker of k follow what was set by hand, which has that name.
// The cell notes it when that is done, so that it is not missed by a process
// that is killed, and done once.
func (k *key) hear(name uint64, now time.Time) {
	m, c := &k.mirror, k.ref.Load()
	c.Overruled()
	k.heard = name
	if m.view.state == circuit.Closed {
		if m.view.byHand {
			c.Release()
		}
		if m.view.hand.UnixNano() > c.Since.Load() {
			m.told = -1 // to close what was not closed by then
		}
	}
	if _, due := k.due(now); !due {
		c.Heard.Store(name)
	}
}

// nameHand returns a name of what was last set by hand, 0 if nothing was.
func (v *view) nameHand() uint64 {
	if v.handed == "" {
		return 0
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(v.epoch + " " + v.handed)) // never fails
	return h.Sum64()
}
