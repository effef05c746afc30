package redisstore

import (
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
)

// A twin is the hash of one key and what the scripts do with it, with the
// instants as whether they are over. Votes are left out: each opens.
type twin struct {
	epoch string
	gen   int64
	state circuit.State
	due   bool // until is over
	far   bool // it is not, and as far ahead as only servers ask for
	hand  bool
	owner string // of the lease, "" for nobody or when it is over
	holds bool   // the lease is not over

	now, since, handed int64 // instants: this one, of the last change, of what was last set by hand (0: nothing)
}

func (s *twin) enter(state circuit.State, due, hand bool) {
	s.gen++
	s.state, s.due, s.far, s.hand, s.owner, s.holds, s.since = state, due, false, hand, "", false, s.now
}

// byHand sets what was wanted at that instant, which is now unless it could not
// be said then.
func (s *twin) byHand(state circuit.State, due bool, then int64) bool {
	if then < s.now && then < s.handed {
		return false
	}
	s.handed = max(then, s.handed+1)
	if then < s.now && state != circuit.Isolated && then < s.since && !s.hand {
		return false
	}
	s.enter(state, due, true)
	return true
}

func (s *twin) trip(due bool) bool {
	if s.state != circuit.Closed {
		return false
	}
	s.enter(circuit.Open, due, false)
	return true
}

func (s *twin) lease(process string) {
	if s.state == circuit.Open && s.due && !s.holds {
		s.gen++
		s.owner, s.holds = process, true
	}
}

func (s *twin) settle(process string, token int64, state circuit.State, due bool) bool {
	if s.state != circuit.Open || s.owner != process || s.gen != token {
		return false
	}
	s.enter(state, due, false)
	return true
}

func (s *twin) release(process string, token int64) bool {
	if s.owner != process || s.gen != token {
		return false
	}
	s.owner, s.holds = "", false
	return true
}

func (s *twin) restore(v view) bool {
	if s.epoch != v.epoch && s.gen != 0 || s.epoch == v.epoch && s.gen >= v.gen {
		return false
	}
	s.gen = max(s.gen, v.gen)
	if v.byHand {
		s.handed = max(s.handed, v.hand.Sub(past).Milliseconds())
	}
	s.enter(v.state, !v.until.After(present), v.byHand)
	s.far = v.until.Equal(far)
	return true
}

func (s *twin) view() view {
	v := view{epoch: s.epoch, gen: s.gen, state: s.state, byHand: s.hand, until: when(s.due || s.state != circuit.Open), lease: past}
	if s.far {
		v.until = far
	}
	if s.handed != 0 {
		v.hand, v.handed = at(s.handed), number(s.handed)
	}
	if s.holds {
		v.process, v.node, v.lease = s.owner, s.owner, future
	}
	return v
}

// at is an instant of the twin's.
func at(n int64) time.Time { return past.Add(time.Duration(n) * time.Millisecond) }
