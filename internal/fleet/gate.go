package fleet

import (
	"hash/fnv"
	"strconv"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/gate"
)

// A breaker with a gate shares less than one without: credits and the pace change
// faster than a server could be told. The fleet is open while enough nodes have
// found that nothing gets through, and until the first success of any of them. That
// shuts nobody off. One node holds the lease and sends the probes, the others send few;
// who is in health is warned.

// voteLifetime is how long it counts that nothing gets through a gate.
const voteLifetime = 30 * time.Second

// GateShut has the server told that nothing gets through the gate of that name, or of
// the first success after that. Who sends probes that fail asks for the lease with each
// look; whose calls get through leaves it to others.
func (s cells) GateShut(name string, nothing bool, reason uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[name]
	if k == nil {
		return
	}
	m, now := &k.remote, time.Now()
	if m.openByGate() && nothing && !m.wantsLease && m.needsLease(now) {
		k.leaseFor = s.sync
		s.wake()
	}
	m.wantsLease, k.releaseDue = nothing, !nothing && m.token != 0
	if j, tell := m.gateResult(nothing, now); tell {
		j.reason = reason
		k.transition = &j
		s.wake()
	}
}

// ProbedElsewhere reports whether another node has the fleet's lease.
func (s cells) ProbedElsewhere(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[name]
	if k == nil || s.alone(k) {
		return false
	}
	m := &k.remote
	return m.known && m.openByGate() && m.view.lease.After(time.Now()) && m.view.node != m.node
}

// openByGate reports whether the fleet has found, by what its openByGate have seen, that nothing
// gets through.
func (m *remote) openByGate() bool {
	return m.hasGate && m.view.state == circuit.Open && !m.view.manual
}

// gateResult notes whether nothing gets through the local gate, and returns what the server
// must be told of it.
func (m *remote) gateResult(nothing bool, now time.Time) (j report, tell bool) {
	if m.local == circuit.Isolated {
		return report{}, false
	}
	before := m.local
	if !nothing {
		m.local, m.votedAt = circuit.Closed, time.Time{}
		return report{kind: settle, state: circuit.Closed, gate: true, own: true}, before == circuit.Open || m.openByGate()
	}
	m.local = circuit.Open
	if m.known && m.view.state == circuit.Open || before == circuit.Open && now.Sub(m.votedAt) < voteLifetime/3 {
		return report{}, false
	}
	m.votedAt = now
	return report{kind: trip, state: circuit.Open, until: now.Add(voteLifetime), gate: true, own: true}, true
}

// reportGateSuccess has the server told of a success that another process of this host has had
// since this one has voted. s.mu is held.
func (s *Store) reportGateSuccess(k *key, now time.Time) {
	g := gate.Gate{Words: (*gate.Words)(k.ref.Load().Gate[:3])}
	if k.remote.votedAt.IsZero() || k.transition != nil || g.Shut() {
		return
	}
	if j, tell := k.remote.gateResult(false, now); tell {
		k.transition = &j
		s.wake()
	}
}

// spread is a number in [0, 1) that is another one on each node, and at each change.
func (m *remote) spread() float64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(m.node + " " + strconv.FormatInt(m.view.gen, 10))) // never fails
	return float64(h.Sum64()>>11) / (1 << 53)
}
