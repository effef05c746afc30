package fleet

import (
	"cmp"
	"hash/fnv"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
)

// A localOverride is what the cell of this host records about manual overrides.
type localOverride struct {
	state  circuit.State // state that was last set on this host
	at     time.Time     // when it was set; zero if no override was set, or it was cleared
	seenID uint64        // overrideID of the last remote override that was applied
	since  time.Time     // when the state last changed
}

// A verdict is the result of comparing the local override with the remote one.
type verdict uint8

const (
	inSync      verdict = iota
	localStale          // the local override must be cleared
	remoteNewer         // the remote override must be applied
	localNewer          // the local override must be reported
)

// compareOverride compares the fleet's latest override with that of this host. They
// differ if the host had no process, or could not reach the server, when one of them
// was set. The later override wins.
func (r *remote) compareOverride(here localOverride, now time.Time) verdict {
	v := &r.view
	id := v.overrideID()
	switch {
	case !r.known:
		return inSync
	case id != 0 && id != here.seenID && !v.overriddenAt.Add(rounding).Before(here.at):
		return remoteNewer
	case here.at.IsZero() || here.state == circuit.Open:
		return inSync
	case here.at.After(now): // the clock was set back since
		return localStale
	case here.at.Sub(v.overriddenAt) > rounding:
		return localNewer
	}
	return inSync
}

// rounding is how much too early an instant may seem between clocks that count
// milliseconds.
const rounding = 2 * time.Millisecond

// isSameOverride reports whether the remote override sets the state that the local one
// does: a process may have reported it, and died before the response. The host then
// keeps its override, to restore it if the server loses its data.
func (r *remote) isSameOverride(here localOverride) bool {
	return r.view.manual && r.view.state == here.state
}

// reapplyClosed marks a remote override to closed as not applied yet. A breaker that
// has opened since the override stays open; one that is isolated closes.
func (r *remote) reapplyClosed(here localOverride) {
	if r.view.state == circuit.Closed && r.appliedGen == r.view.gen {
		r.appliedGen, r.onlyIfIsolated = -1, !r.view.overriddenAt.After(here.since)
	}
}

// reconcileOverride applies the later one of the local and the remote override.
// s.mu is held.
func (s *Store) reconcileOverride(k *key, now time.Time) {
	if k.override != nil || k.reporting {
		return // the response will decide
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

// applyRemoteOverride has the breaker of k apply the remote override. The cell records
// the override after the breaker has applied it: a killed process does not lose the
// override, and it is applied once.
func (k *key) applyRemoteOverride(here localOverride, now time.Time) {
	r, c := &k.remote, k.ref.Load()
	if !r.isSameOverride(here) {
		c.ClearOverride()
	}
	r.reapplyClosed(here)
	k.ackOverride(now)
}

// ackOverride records the remote override in the cell, at once if the breaker of k is in
// that state, otherwise when the breaker has applied it.
func (k *key) ackOverride(now time.Time) {
	k.pendingAck = k.remote.view.overrideID()
	if _, due := k.pendingState(now); !due {
		k.storeAck()
	}
}

// storeAck records pendingAck in the cell.
func (k *key) storeAck() {
	if k.pendingAck != 0 {
		k.ref.Load().SeenOverride.Store(k.pendingAck)
		k.pendingAck = 0
	}
}

// overrideID returns a hash that identifies the latest override, 0 if there was none.
func (v *view) overrideID() uint64 {
	if v.override == "" {
		return 0
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(v.epoch + " " + v.override)) // never fails
	return h.Sum64()
}
