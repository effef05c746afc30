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

	mirror  mirror
	contact time.Time              // of the server's last answer; at first, of when it was made
	obey    func(cell.FetchRemote) // tells the local breaker
	obeying bool                   // and is doing so
	heard   uint64                 // names what was last set elsewhere by hand; for the cell, once its breaker obeys
	hand    *job                   // set by hand; what came before it no longer matters
	own     *job                   // the latest transition of its own since
	lost    *lost                  // what the server has forgotten
	ask     time.Duration          // length of the probe for which a lease is wanted, 0 for none
	read    bool                   // it is to be read
	purse   purse                  // its budget
	rate    ledger                 // its rate
	foreign error                  // set if its hash has another format: it is read, and nothing else
	release bool                   // its lease is to be given back, if it is not used
	telling bool                   // transitions of its own are on their way to the server
}

// A job is a transition to tell.
type job struct {
	kind   kind
	state  circuit.State
	until  time.Time // of open
	reason uint64
	token  int64     // of the lease under which it came about, 0 for none
	at     time.Time // of byHand: when it was set
	own    bool      // the local breaker has made it
	gate   bool      // the local gate has
}

type kind uint8

const (
	trip   kind = iota // a vote to open
	settle             // the result of a probe
	byHand
)

// Cell returns the way to the local cell of key at once, and has the server
// asked what the fleet knows of it; see [Store.Ready].
func (s cells) Cell(name string, u cell.Client) *cell.Ref {
	ref := s.local.Cell(name, u)
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[name]
	if k == nil {
		k = &key{name: name, ref: ref, read: true, contact: time.Now()}
		k.mirror = mirror{process: s.process, node: s.node, margin: s.sync, told: -1}
		s.keys[name] = k
		s.wake()
	}
	k.ref, k.obey, k.mirror.gate = ref, u.OnRemote, u.Gate
	k.purse.ceiling = max(k.purse.ceiling, u.Ceiling)
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
	case k.obeying:
		return false // the state in which it asks is about to change
	}
	ok, ask := k.mirror.grant(lease, time.Now())
	if ask {
		k.ask = lease
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
		return k.foreign != nil || time.Since(k.contact) > s.stale
	}
}

// ProbeCancelled keeps the lease for the next call, or for another process.
func (s cells) ProbeCancelled(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.keys[name]; k != nil {
		k.mirror.used = false
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
	j, tell := k.mirror.changed(c)
	switch {
	case !tell:
		return
	case j.kind == byHand:
		k.byHand(j)
	default:
		k.own = j.after(k.own)
	}
	s.wake()
}

// byHand has the server told of j, which is set now, and of nothing from before.
func (k *key) byHand(j job) {
	j.kind, j.at = byHand, time.Now()
	k.hand, k.own, k.lost = &j, nil, nil
}

// after returns j as it is to be told if before has not been told yet: what a
// lease has led to is then told by its holder, with what came of it at last.
func (j job) after(before *job) *job {
	if before != nil && before.token != 0 && j.kind == trip {
		j.kind, j.token = settle, before.token
	}
	return &j
}

// waits reports whether the server has to be told or asked something.
func (k *key) waits() bool {
	n, _ := k.rate.wants(time.Now())
	return k.read || k.foreign == nil && (k.release || k.hand != nil || k.own != nil || k.lost != nil || k.ask > 0 ||
		k.purse.due(false) || n > 0)
}

// A call is one [Call], and what it tells, to put that back if it fails.
type call struct {
	Call

	key *key
	job any
}

// A ration is the job of a call that asks for instants of the rate.
type ration struct{}

// calls takes what waits out of k, in the order in which it must be told. Any of
// the calls brings the present view.
func (s *Store) calls(k *key, now time.Time) []call {
	if k.foreign != nil {
		k.read = false
		return []call{{Call: Call{Op: Read, Key: k.name}, key: k}}
	}
	list := s.untold(k, now)
	m := &k.mirror
	add := func(c Call, job any) {
		c.Key = k.name
		list = append(list, call{c, k, job})
	}
	if k.purse.due(k.read) {
		add(Call{Op: Visit, Budget: k.borrows()}, nil)
	}
	if c, ok := k.rations(now); ok {
		add(c, ration{})
	}
	switch ask := k.ask; {
	case k.release && m.token != 0 && !m.used:
		add(Call{Op: Release, Token: m.token}, nil)
		m.token, m.spent, m.want = 0, m.token, false
	case ask > 0 && m.used:
		add(s.leases(ask+m.margin, true), ask)
	case ask > 0 || k.read && m.renews(now):
		add(s.leases(3*m.margin, false), ask)
	case k.read && len(list) == 0:
		add(Call{Op: Read}, nil)
	}
	k.telling = k.hand != nil || k.own != nil
	k.lost, k.hand, k.own, k.ask, k.read, k.release = nil, nil, nil, 0, false, false
	return list
}

// untold returns the calls that tell what k has to tell.
func (s *Store) untold(k *key, now time.Time) (list []call) {
	if l := k.lost; l != nil {
		v := l.view
		c := Call{
			Op: Restore, Key: k.name, Epoch: v.epoch, Gen: v.gen, State: v.state, Open: v.until.Sub(now), Reason: v.reason, Manual: v.byHand,
		}
		if v.byHand {
			c.Ago = now.Sub(v.hand)
		}
		list = append(list, call{c, k, l})
	}
	for _, j := range []*job{k.hand, k.own} {
		if j != nil && (j.kind != trip || j.until.After(now)) { // a vote that is over is none
			c := s.tells(j, now)
			c.Key = k.name
			list = append(list, call{c, k, j})
		}
	}
	return list
}

// tells returns the call that tells of j.
func (s *Store) tells(j *job, now time.Time) Call {
	c := Call{State: j.state, Gate: j.gate, Reason: strconv.FormatUint(j.reason, 10)}
	if j.state == circuit.Open {
		c.Open = j.until.Sub(now)
	}
	switch j.kind {
	case byHand:
		if c.Ago = now.Sub(j.at); c.Ago < s.stale { // it is on its way: the last to arrive is the last
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

// leases returns the call that asks for a lease.
func (s *Store) leases(d time.Duration, used bool) Call {
	return Call{Op: Lease, Lease: Term{Length: d, Used: used, Idle: 3 * s.sync, Yield: s.sync / 2}}
}

// again puts back what a call was to tell, since it has failed, unless there
// is newer news.
func (k *key) again(c call) {
	switch j := c.job.(type) {
	case *lost:
		if k.lost == nil && k.hand == nil {
			k.lost = j
		}
	case *job:
		switch {
		case j.kind == byHand && k.hand == nil:
			k.hand = j
		case j.kind != byHand && k.own == nil && k.hand == nil:
			k.own = j
		}
	case ration:
		k.rate.asked = 0
	case time.Duration:
		k.read = true // the mirror still knows that a lease is wanted
	default:
		k.read = true
	}
}
