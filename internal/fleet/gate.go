package fleet

import (
	"hash/fnv"
	"strconv"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/gate"
)

// A breaker with a gate shares less than one without: its credits and its pace change
// faster than a server can be notified. The fleet is open once enough nodes have voted
// that no call succeeds, until the first success on any of them. An open fleet refuses
// no calls: one node holds the lease and sends the probes, the others send few, and
// nodes on which calls succeed are warned.

// voteLifetime is how long the vote of a gate counts.
const voteLifetime = 30 * time.Second

// GateShut reports that no call succeeds at the named gate, or, if shut is false, the
// first success after that. A process whose probes fail requests the lease with each
// read; one whose calls succeed returns it.
func (s cells) GateShut(name string, shut bool, reason uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[name]
	if k == nil {
		return
	}
	r, now := &k.remote, time.Now()
	if r.openByGate() && shut && !r.wantsLease && r.needsLease(now) {
		k.leaseFor = s.sync
		s.wake()
	}
	r.wantsLease, k.releaseDue = shut, !shut && r.token != 0
	if j, ok := r.gateResult(shut, now); ok {
		j.reason = reason
		k.transition = &j
		s.wake()
	}
}

// ProbedElsewhere reports whether another node holds the fleet's lease.
func (s cells) ProbedElsewhere(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[name]
	if k == nil || s.alone(k) {
		return false
	}
	r := &k.remote
	return r.known && r.openByGate() && r.view.lease.After(time.Now()) && r.view.node != r.node
}

// openByGate reports whether the votes of gates have opened the fleet.
func (r *remote) openByGate() bool {
	return r.hasGate && r.view.state == circuit.Open && !r.view.manual
}

// gateResult records whether the local gate is shut. It returns the report of that, and
// false if there is nothing to report.
func (r *remote) gateResult(shut bool, now time.Time) (j report, ok bool) {
	if r.local == circuit.Isolated {
		return report{}, false
	}
	before := r.local
	if !shut {
		r.local, r.votedAt = circuit.Closed, time.Time{}
		return report{kind: settle, state: circuit.Closed, gate: true, own: true}, before == circuit.Open || r.openByGate()
	}
	r.local = circuit.Open
	if r.known && r.view.state == circuit.Open || before == circuit.Open && now.Sub(r.votedAt) < voteLifetime/3 {
		return report{}, false
	}
	r.votedAt = now
	return report{kind: trip, state: circuit.Open, until: now.Add(voteLifetime), gate: true, own: true}, true
}

// reportGateSuccess reports a success of another process on this host after the vote of
// this process. s.mu is held.
func (s *Store) reportGateSuccess(k *key, now time.Time) {
	g := gate.Gate{Words: (*gate.Words)(k.ref.Load().Gate[:3])}
	if k.remote.votedAt.IsZero() || k.transition != nil || g.Shut() {
		return
	}
	if j, ok := k.remote.gateResult(false, now); ok {
		k.transition = &j
		s.wake()
	}
}

// spread returns a number in [0, 1) that differs between nodes, and between
// generations.
func (r *remote) spread() float64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(r.node + " " + strconv.FormatInt(r.view.gen, 10))) // never fails
	return float64(h.Sum64()>>11) / (1 << 53)
}
