package fleet

import (
	"strconv"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// A key is one breaker of this process, with what is pending for the server. Each kind
// of report has one field, in which a later report replaces an earlier one, so what is
// pending is bounded however long the server is unreachable. The Store's mutex guards
// all fields but name.
type key struct {
	name string
	ref  *cell.Ref

	remote      remote
	respondedAt time.Time              // when the server last responded; at first, when the key was made
	onRemote    func(cell.FetchRemote) // has the local breaker apply the remote state
	applying    bool                   // onRemote is applying a state
	pendingAck  uint64                 // overrideID to record in the cell once the breaker has applied it; 0 if none
	override    *report                // manual override; replaces all reports from before it
	transition  *report                // latest transition of the local breaker after override
	restore     *lostState             // state that the server has lost
	leaseFor    time.Duration          // length of the probe for which to request a lease; 0 to request none
	readDue     bool                   // the view is to be read
	budget      budgetShare
	rate        reservations
	unshared    error // set if the record has another format: it is read, and nothing else
	releaseDue  bool  // the lease is to be returned, unless it is in use
	reporting   bool  // override or transition is in flight
}

// A report is a transition to report to the server.
type report struct {
	kind         kind
	state        circuit.State
	until        time.Time // of open
	reason       uint64
	token        int64     // lease of the probe that led to the transition, 0 if there was no lease
	overriddenAt time.Time // of manual: when it was set
	own          bool      // the local breaker has made the transition
	gate         bool      // the local gate has
}

type kind uint8

const (
	trip   kind = iota // a vote to open
	settle             // the result of a probe
	manual             // an override
)

// Cell returns the local cell of a key at once, and has the fleet's view of the key
// read; see [Store.Ready].
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

// AllowProbe reports whether a probe may be sent: if this process holds the fleet's
// lease, if the fleet is not open, or if the server is unreachable. Otherwise it
// requests the lease, and a later call may be the probe.
func (s cells) AllowProbe(name string, lease time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[name]
	switch {
	case k == nil, s.alone(k):
		return true
	case k.applying:
		return false // the state of the breaker is about to change
	}
	ok, request := k.remote.allowProbe(lease, time.Now())
	if request {
		k.leaseFor = lease
		s.wake()
	}
	return ok
}

// alone reports whether k is decided without the server. s.mu is held.
func (s *Store) alone(k *key) bool {
	select {
	case <-s.done:
		return true
	default:
		return k.unshared != nil || time.Since(k.respondedAt) > s.stale
	}
}

// ProbeCancelled keeps the lease, for the next call or for another process.
func (s cells) ProbeCancelled(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.keys[name]; k != nil {
		k.remote.leaseUsed = false
	}
}

// Transitioned reports a transition to the server.
func (s cells) Transitioned(name string, c cell.Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[name]
	if k == nil {
		return
	}
	j, ok := k.remote.transition(c)
	switch {
	case !ok:
		return
	case j.kind == manual:
		k.setOverride(j)
	default:
		k.transition = j.after(k.transition)
	}
	s.wake()
}

// setOverride makes the override j, which is set now, the pending report, and drops
// all reports from before it.
func (k *key) setOverride(j report) {
	j.kind, j.overriddenAt = manual, time.Now()
	k.override, k.transition, k.restore = &j, nil, nil
}

// after returns j as the report that replaces before, which is still pending. If
// before is the result of a probe under a lease, a trip becomes the result of that probe.
func (j report) after(before *report) *report {
	if before != nil && before.token != 0 && j.kind == trip {
		j.kind, j.token = settle, before.token
	}
	return &j
}

// hasPending reports whether there is a call to send.
func (k *key) hasPending() bool {
	n, _ := k.rate.wanted(time.Now())
	return k.readDue || k.unshared == nil && (k.releaseDue || k.override != nil || k.transition != nil || k.restore != nil || k.leaseFor > 0 ||
		k.budget.due(false) || n > 0)
}

// A call is one [Call], with the report to requeue if it fails.
type call struct {
	Call

	key    *key
	report any
}

// A rateReport marks a call that requests instants of the rate.
type rateReport struct{}

// drain takes the pending calls out of k, in the order in which the server must
// execute them. Each of them returns the current view.
func (s *Store) drain(k *key, now time.Time) []call {
	if k.unshared != nil {
		k.readDue = false
		return []call{{Call: Call{Op: Read, Key: k.name}, key: k}}
	}
	list := s.pendingCalls(k, now)
	r := &k.remote
	add := func(c Call, report any) {
		c.Key = k.name
		list = append(list, call{c, k, report})
	}
	if k.budget.due(k.readDue) {
		add(Call{Op: ShareBudget, Budget: k.budgetRequest()}, nil)
	}
	if c, ok := k.rateCall(now); ok {
		add(c, rateReport{})
	}
	switch length := k.leaseFor; {
	case k.releaseDue && r.token != 0 && !r.leaseUsed:
		add(Call{Op: Release, Token: r.token}, nil)
		r.token, r.settledToken, r.wantsLease = 0, r.token, false
	case length > 0 && r.leaseUsed:
		add(s.leaseCall(length+r.margin, true), length)
	case length > 0 || k.readDue && r.renewsLease(now):
		add(s.leaseCall(3*r.margin, false), length)
	case k.readDue && len(list) == 0:
		add(Call{Op: Read}, nil)
	}
	k.reporting = k.override != nil || k.transition != nil
	k.restore, k.override, k.transition, k.leaseFor, k.readDue, k.releaseDue = nil, nil, nil, 0, false, false
	return list
}

// pendingCalls returns the calls for the pending reports of k.
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
		if j != nil && (j.kind != trip || j.until.After(now)) { // a vote that has expired is dropped
			c := s.encode(j, now)
			c.Key = k.name
			list = append(list, call{c, k, j})
		}
	}
	return list
}

// encode returns the call that reports j, without its key.
func (s *Store) encode(j *report, now time.Time) Call {
	c := Call{State: j.state, Gate: j.gate, Reason: strconv.FormatUint(j.reason, 10)}
	if j.state == circuit.Open {
		c.Open = j.until.Sub(now)
	}
	switch j.kind {
	case manual:
		if c.Ago = now.Sub(j.overriddenAt); c.Ago < s.stale { // among overrides of that age, the last to arrive wins
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

// leaseCall returns the call that requests a lease.
func (s *Store) leaseCall(d time.Duration, used bool) Call {
	return Call{Op: Lease, Lease: LeaseRequest{Length: d, Used: used, Idle: 3 * s.sync, Yield: s.sync / 2}}
}

// requeue puts back the report of a call that has failed, unless a later report is
// pending.
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
		k.readDue = true // remote still wants the lease
	default:
		k.readDue = true
	}
}
