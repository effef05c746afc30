package fleet

import (
	"cmp"
	"hash/fnv"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
)

// A localOverride is what the cell of a host says of what was set by hand.
type localOverride struct {
	state  circuit.State // that was last set on this host
	at     time.Time     // when; zero: nothing was, or it has been overruled
	seenID uint64        // names what was last set elsewhere
	since  time.Time     // when the state last changed
}

// A verdict is what follows from what was last set by hand here and in the fleet.
type verdict uint8

const (
	inSync      verdict = iota
	localStale          // what was set here counts for nothing
	remoteNewer         // the fleet's is later, and has not been heard of here
	localNewer          // what was set here is later
)

// compareOverride compares what was last set by hand in the fleet with what was set on
// this host, when one of them could not hear of the other: the host had no
// process, or no server. The later one holds.
func (m *remote) compareOverride(here localOverride, now time.Time) verdict {
	v := &m.view
	name := v.overrideID()
	switch {
	case !m.known:
		return inSync
	case name != 0 && name != here.seenID && !v.overriddenAt.Add(rounding).Before(here.at):
		return remoteNewer
	case here.at.IsZero() || here.state == circuit.Open:
		return inSync
	case here.at.After(now): // by a clock that has been put back since
		return localStale
	case here.at.Sub(v.overriddenAt) > rounding:
		return localNewer
	}
	return inSync
}

// rounding is by how much an instant may seem to be earlier than it is, between
// clocks that count milliseconds.
const rounding = 2 * time.Millisecond

// isSameOverride reports whether what was last set by hand in the fleet is what was set
// here, as far as that matters: by a process that was killed before it had its
// answer, say. Then the host goes on remembering it, for a server that forgets.
func (m *remote) isSameOverride(here localOverride) bool {
	return m.view.manual && m.view.state == here.state
}

// reapplyClosed has the local breaker close, as somebody else wants it. What has opened
// since stays open; what is isolated has only been told of that late.
func (m *remote) reapplyClosed(here localOverride) {
	if m.view.state == circuit.Closed && m.appliedGen == m.view.gen {
		m.appliedGen, m.onlyIfIsolated = -1, !m.view.overriddenAt.After(here.since)
	}
}

// reconcileOverride does what follows from what was last set by hand. s.mu is held.
func (s *Store) reconcileOverride(k *key, now time.Time) {
	if k.override != nil || k.reporting {
		return // the answer will say
	}
	c := k.ref.Load()
	state, at := c.Override()
	here := localOverride{circuit.State(state), at, cmp.Or(k.pendingAck, c.SeenOverride.Load()), time.Unix(0, c.Since.Load())}
	switch k.remote.compareOverride(here, now) {
	case remoteNewer:
		k.applyRemoteOverride(here, now)
	case localStale:
		c.ClearOverride()
	case localNewer:
		k.override = &report{kind: manual, state: here.state, reason: c.Reason.Load(), overriddenAt: at}
		s.wake()
	case inSync:
	}
}

// applyRemoteOverride has the breaker of k follow what was set by hand elsewhere. The cell
// notes it when that is done, so that it is not missed by a process that is
// killed, and done once.
func (k *key) applyRemoteOverride(here localOverride, now time.Time) {
	m, c := &k.remote, k.ref.Load()
	if !m.isSameOverride(here) {
		c.ClearOverride()
	}
	m.reapplyClosed(here)
	k.ackOverride(now)
}

// ackOverride has the cell note what was last set by hand, when its breaker is in it.
func (k *key) ackOverride(now time.Time) {
	k.pendingAck = k.remote.view.overrideID()
	if _, due := k.pendingState(now); !due {
		k.storeAck()
	}
}

// storeAck has the cell note it.
func (k *key) storeAck() {
	if k.pendingAck != 0 {
		k.ref.Load().SeenOverride.Store(k.pendingAck)
		k.pendingAck = 0
	}
}

// overrideID returns a name of what was last set by hand, 0 if nothing was.
func (v *view) overrideID() uint64 {
	if v.override == "" {
		return 0
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(v.epoch + " " + v.override)) // never fails
	return h.Sum64()
}
