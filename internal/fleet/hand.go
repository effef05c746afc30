package fleet

import (
	"cmp"
	"hash/fnv"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
)

// A memo is what the cell of a host says of what was set by hand.
type memo struct {
	state circuit.State // that was last set on this host
	at    time.Time     // when; zero: nothing was, or it has been overruled
	heard uint64        // names what was last set elsewhere
	since time.Time     // when the state last changed
}

// A ruling is what follows from what was last set by hand here and in the fleet.
type ruling uint8

const (
	agreed    ruling = iota
	overruled        // what was set here counts for nothing
	hears            // the fleet's is later, and has not been heard of here
	tells            // what was set here is later
)

// rule compares what was last set by hand in the fleet with what was set on
// this host, when one of them could not hear of the other: the host had no
// process, or no server. The later one holds.
func (m *mirror) rule(here memo, now time.Time) ruling {
	v := &m.view
	name := v.nameHand()
	switch {
	case !m.known:
		return agreed
	case name != 0 && name != here.heard && !v.hand.Add(rounding).Before(here.at):
		return hears
	case here.at.IsZero() || here.state == circuit.Open:
		return agreed
	case here.at.After(now): // by a clock that has been put back since
		return overruled
	case here.at.Sub(v.hand) > rounding:
		return tells
	}
	return agreed
}

// rounding is by how much an instant may seem to be earlier than it is, between
// clocks that count milliseconds.
const rounding = 2 * time.Millisecond

// echoes reports whether what was last set by hand in the fleet is what was set
// here, as far as that matters: by a process that was killed before it had its
// answer, say. Then the host goes on remembering it, for a server that forgets.
func (m *mirror) echoes(here memo) bool {
	return m.view.byHand && m.view.state == here.state
}

// hear has the local breaker close, as somebody else wants it. What has opened
// since stays open; what is isolated has only been told of that late.
func (m *mirror) hear(here memo) {
	if m.view.state == circuit.Closed && m.told == m.view.gen {
		m.told, m.mild = -1, !m.view.hand.After(here.since)
	}
}

// hands does what follows from what was last set by hand. s.mu is held.
func (s *Store) hands(k *key, now time.Time) {
	if k.hand != nil || k.telling {
		return // the answer will say
	}
	c := k.ref.Load()
	state, at := c.Override()
	here := memo{circuit.State(state), at, cmp.Or(k.heard, c.SeenOverride.Load()), time.Unix(0, c.Since.Load())}
	switch k.mirror.rule(here, now) {
	case hears:
		k.hear(here, now)
	case overruled:
		c.ClearOverride()
	case tells:
		k.hand = &job{kind: byHand, state: here.state, reason: c.Reason.Load(), at: at}
		s.wake()
	case agreed:
	}
}

// hear has the breaker of k follow what was set by hand elsewhere. The cell
// notes it when that is done, so that it is not missed by a process that is
// killed, and done once.
func (k *key) hear(here memo, now time.Time) {
	m, c := &k.mirror, k.ref.Load()
	if !m.echoes(here) {
		c.ClearOverride()
	}
	m.hear(here)
	k.heeds(now)
}

// heeds has the cell note what was last set by hand, when its breaker is in it.
func (k *key) heeds(now time.Time) {
	k.heard = k.mirror.view.nameHand()
	if _, due := k.due(now); !due {
		k.heeded()
	}
}

// heeded has the cell note it.
func (k *key) heeded() {
	if k.heard != 0 {
		k.ref.Load().SeenOverride.Store(k.heard)
		k.heard = 0
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
