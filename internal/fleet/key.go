package fleet

import (
	"strconv"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// A key is one breaker of this process, and what the server has still to be
// told of it. Each kind of news has one place, in which newer news takes the
// place of older, so what waits is bounded however long the server is away.
// All but name and ref is guarded by the Store's mutex.
type key struct {
	name string
	ref  *cell.Ref

	remote      remote
	respondedAt time.Time              // of the server's last answer; at first, of when it was made
	onRemote    func(cell.FetchRemote) // tells the local breaker
	applying    bool                   // and is doing so
	pendingAck  uint64                 // names what was last set elsewhere by hand; for the cell, once its breaker obeys
	override    *report                // set by hand; what came before it no longer matters
	transition  *report                // the latest transition of its own since
	restore     *lostState             // what the server has forgotten
	leaseFor    time.Duration          // length of the probe for which a lease is wanted, 0 for none
	readDue     bool                   // it is to be read
	budget      budgetShare            // its budget
	rate        reservations           // its rate
	unshared    error                  // set if its hash has another format: it is read, and nothing else
	releaseDue  bool                   // its lease is to be given back, if it is not used
	reporting   bool                   // transitions of its own are on their way to the server
}

// A report is a transition to tell.
type report struct {
	kind         kind
	state        circuit.State
	until        time.Time // of open
	reason       uint64
	token        int64     // of the lease under which it came about, 0 for none
	overriddenAt time.Time // of byHand: when it was set
	own          bool      // the local breaker has made it
	gate         bool      // the local gate has
}

type kind uint8

const (
	trip   kind = iota // a vote to open
	settle             // the result of a probe
	manual
)

// Cell returns the way to the local cell of key at once, and has the server
// asked what the fleet knows of it; see [Store.Ready].
func (s cells) Cell(name string, u cell.Client) *cell.Ref {
	ref := s.local.Cell(name, u)
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[name]
	if k == nil {
		k = &key{name: name, ref: ref, readDue: true, respondedAt: time.Now()}
		k.remote = remote{process: s.process, node: s.node, margin: s.sync, appliedGen: -1}
		s.keys[name] = k
		s.wake()
	}
	k.ref, k.onRemote, k.remote.hasGate = ref, u.OnRemote, u.Gate
	k.budget.ceiling = max(k.budget.ceiling, u.Ceiling)
	return ref
}

// AllowProbe reports whether a probe may be sent: yes if this process has the
// fleet's lease, if the fleet has not agreed to open, or if the server is out
// of reach, so that the host decides alone. Otherwise the lease is asked for,
// and a later call may pass.
func (s cells) AllowProbe(name string, lease time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[name]
	switch {
	case k == nil, s.alone(k):
		return true
	case k.applying:
		return false // the state in which it asks is about to change
	}
	ok, ask := k.remote.allowProbe(lease, time.Now())
	if ask {
		k.leaseFor = lease
		s.wake()
	}
	return ok
}

// alone reports whether the calls of k go without the server. s.mu is held.
func (s *Store) alone(k *key) bool {
	select {
	case <-s.done:
		return true
	default:
		return k.unshared != nil || time.Since(k.respondedAt) > s.stale
	}
}

// ProbeCancelled keeps the lease for the next call, or for another process.
func (s cells) ProbeCancelled(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.keys[name]; k != nil {
		k.remote.leaseUsed = false
	}
}

// Transitioned has the server told of a transition.
func (s cells) Transitioned(name string, c cell.Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[name]
	if k == nil {
		return
	}
	j, tell := k.remote.transition(c)
	switch {
	case !tell:
		return
	case j.kind == manual:
		k.setOverride(j)
	default:
		k.transition = j.after(k.transition)
	}
	s.wake()
}

// setOverride has the server told of j, which is set now, and of nothing from before.
func (k *key) setOverride(j report) {
	j.kind, j.overriddenAt = manual, time.Now()
	k.override, k.transition, k.restore = &j, nil, nil
}

// after returns j as it is to be told if before has not been told yet: what a
// lease has led to is then told by its holder, with what came of it at last.
func (j report) after(before *report) *report {
	if before != nil && before.token != 0 && j.kind == trip {
		j.kind, j.token = settle, before.token
	}
	return &j
}

// hasPending reports whether the server has to be told or asked something.
func (k *key) hasPending() bool {
	n, _ := k.rate.wanted(time.Now())
	return k.readDue || k.unshared == nil && (k.releaseDue || k.override != nil || k.transition != nil || k.restore != nil || k.leaseFor > 0 ||
		k.budget.due(false) || n > 0)
}

// A call is one [Call], and what it tells, to put that back if it fails.
type call struct {
	Call

	key    *key
	report any
}

// A rateReport is the job of a call that asks for instants of the rate.
type rateReport struct{}

// drain takes what waits out of k, in the order in which it must be told. Any of
// the drain brings the present view.
func (s *Store) drain(k *key, now time.Time) []call {
	if k.unshared != nil {
		k.readDue = false
		return []call{{Call: Call{Op: Read, Key: k.name}, key: k}}
	}
	list := s.pendingCalls(k, now)
	m := &k.remote
	add := func(c Call, job any) {
		c.Key = k.name
		list = append(list, call{c, k, job})
	}
	if k.budget.due(k.readDue) {
		add(Call{Op: ShareBudget, Budget: k.budgetRequest()}, nil)
	}
	if c, ok := k.rateCall(now); ok {
		add(c, rateReport{})
	}
	switch ask := k.leaseFor; {
	case k.releaseDue && m.token != 0 && !m.leaseUsed:
		add(Call{Op: Release, Token: m.token}, nil)
		m.token, m.settledToken, m.wantsLease = 0, m.token, false
	case ask > 0 && m.leaseUsed:
		add(s.leaseCall(ask+m.margin, true), ask)
	case ask > 0 || k.readDue && m.renewsLease(now):
		add(s.leaseCall(3*m.margin, false), ask)
	case k.readDue && len(list) == 0:
		add(Call{Op: Read}, nil)
	}
	k.reporting = k.override != nil || k.transition != nil
	k.restore, k.override, k.transition, k.leaseFor, k.readDue, k.releaseDue = nil, nil, nil, 0, false, false
	return list
}

// pendingCalls returns the calls that tell what k has to tell.
func (s *Store) pendingCalls(k *key, now time.Time) (list []call) {
	if l := k.restore; l != nil {
		v := l.view
		c := Call{
			Op: Restore, Key: k.name, Epoch: v.epoch, Gen: v.gen, State: v.state, Open: v.until.Sub(now), Reason: v.reason, Manual: v.manual,
		}
		if v.manual {
			c.Ago = now.Sub(v.overriddenAt)
		}
		list = append(list, call{c, k, l})
	}
	for _, j := range []*report{k.override, k.transition} {
		if j != nil && (j.kind != trip || j.until.After(now)) { // a vote that is over is none
			c := s.encode(j, now)
			c.Key = k.name
			list = append(list, call{c, k, j})
		}
	}
	return list
}

// encode returns the call that encode of j.
func (s *Store) encode(j *report, now time.Time) Call {
	c := Call{State: j.state, Gate: j.gate, Reason: strconv.FormatUint(j.reason, 10)}
	if j.state == circuit.Open {
		c.Open = j.until.Sub(now)
	}
	switch j.kind {
	case manual:
		if c.Ago = now.Sub(j.overriddenAt); c.Ago < s.stale { // it is on its way: the last to arrive is the last
			c.Ago = 0
		}
		c.Op = Override
	case settle:
		c.Op, c.Token = Settle, j.token
	default:
		c.Op, c.Quorum = Trip, s.quorum
	}
	return c
}

// leaseCall returns the call that asks for a lease.
func (s *Store) leaseCall(d time.Duration, used bool) Call {
	return Call{Op: Lease, Lease: LeaseRequest{Length: d, Used: used, Idle: 3 * s.sync, Yield: s.sync / 2}}
}

// requeue puts back what a call was to tell, since it has failed, unless there
// is newer news.
func (k *key) requeue(c call) {
	switch j := c.report.(type) {
	case *lostState:
		if k.restore == nil && k.override == nil {
			k.restore = j
		}
	case *report:
		switch {
		case j.kind == manual && k.override == nil:
			k.override = j
		case j.kind != manual && k.transition == nil && k.override == nil:
			k.transition = j
		}
	case rateReport:
		k.rate.requested = 0
	case time.Duration:
		k.readDue = true // the mirror still knows that a lease is wanted
	default:
		k.readDue = true
	}
}
