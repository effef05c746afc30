package gate

import "time"

// state returns the State of s.
func (s *state) state() State {
	switch {
	case !s.limited:
		return Closed
	case s.run >= s.row():
		return Open
	default:
		return HalfOpen
	}
}

// row returns how many overloads in a row limit a gate in health. Few calls take seconds to fail
// five times in a row, and many processes with few calls send as many retries meanwhile.
func (s *state) row() int {
	switch {
	case s.warm == 0:
		return 1
	case s.cold():
		return 2
	default:
		return inARow
	}
}

// failures returns how many failures of any kind in a row limit a gate in health.
func (s *state) failures() int {
	if s.cold() {
		return s.row() + 1
	}
	return 2 * s.row()
}

// admit asks for one attempt. The pace does not delay it if follows is true, nor if alone is
// and the gate is not sparse: if no other caller waits, the one that makes one call after the
// other makes the demand, and the pace would keep it at a fraction of what the service can serve.
func (s *state) admit(now int64, follows, alone bool) (how How, ok bool) {
	switch {
	case !s.limited:
		return Freely, true
	case s.credits > 0 && (follows || alone && !s.sparse(now) || s.paced(now) <= now) && (now >= s.notBefore || s.state() != Open):
		s.credits--
		s.last = min(max(s.paced(now), now-int64(tick)), now)
		if follows {
			return Following, true
		}
		return ByCredit, true
	case now >= s.probeAt(now):
		s.last = now
		return AsProbe, true
	default:
		s.refused = now
		return Freely, false
	}
}

// arrive counts an operation, and halves the count when it is large enough or old, so that
// the demand follows. The count starts from scratch if no operation has arrived for long,
// or the clock was put forward.
func (s *state) arrive(now int64) {
	if !s.limited {
		return
	}
	age := now - s.since
	if age >= int64(2*longest) {
		s.operations, s.since, age = 0, now, 0
	}
	s.operations = min(s.operations+1, maxOperations)
	if s.operations >= enough && age >= int64(time.Second) || age >= int64(longest) {
		s.operations /= 2
		s.since += age / 2
	}
}

// done records the outcome of an attempt.
func (s *state) done(p Permit, o Outcome, now int64) Change {
	r := s.judge(p, o, now)
	current := p.Generation == s.generation
	switch {
	case s.limited:
		return s.whileLimited(p, r, current, now)
	case current:
		return s.whileHealthy(p, r, now)
	case r.outcome == Success:
		s.run = 0 // it was admitted before the limit was lifted; failures often end before successes do
	}
	return Unchanged
}

// A verdict is what an outcome means for the gate.
type verdict struct {
	outcome Outcome       // Success, Failure, Throttled for any overload, or Cancelled
	timed   bool          // took is known
	took    time.Duration // at least 1
	fast    bool          // took at most twice the base, or above it by no more than a timer may be late
	slow    bool          // an overload that took longer
	remote  bool          // an overload that the service reported
	late    bool          // an overload of many times the base: it counts twice
	unsure  bool          // a deadline ended an attempt that was not timed
}

// judge returns what an outcome means. An attempt that its caller's deadline ended is an
// overload if it took more than twice the usual time, or if that time is not known.
func (s *state) judge(p Permit, o Outcome, now int64) verdict {
	r := verdict{outcome: o, timed: p.Start != 0}
	if r.timed {
		r.took = max(time.Duration(now-p.Start), 1)
		r.fast = s.base == 0 || r.took <= s.base+max(s.base, tick)
	}
	switch o {
	case Throttled:
		r.remote, r.slow = true, r.timed && !r.fast
	case TimedOut, Late:
		r.late = o == Late
		r.outcome, r.slow = Throttled, !r.timed || !r.fast || s.base == 0
	case Cut:
		if r.timed && (!r.fast || s.base == 0) {
			r.outcome, r.slow = Throttled, true
		} else {
			r.outcome, r.unsure = Cancelled, !r.timed
		}
	case Cancelled, Success, Failure:
	}
	return r
}

// whileHealthy records a result of a gate in health.
func (s *state) whileHealthy(p Permit, r verdict, now int64) Change {
	switch r.outcome {
	case Success:
		s.succeeded(p, r, now)
		return Unchanged
	case Failure:
		s.run = min(s.run+1, maxRow)
	case Throttled:
		if s.doubtful(p, r) {
			s.over = max(s.over, 1)
			return Unchanged
		}
		n := 1
		if r.late {
			n = 2
		}
		s.run, s.over = min(s.run+n, maxRow), min(s.over+n, maxRow)
	default:
		if r.unsure {
			s.over = max(s.over, 1) // from now on attempts are timed
		}
		return Unchanged
	}
	one := s.over == 1 && !r.remote // one timeout means nothing
	if (s.over < s.row() || one) && s.run < s.failures() {
		return Unchanged
	}
	s.limit(r.slow, now)
	return Limited
}

// doubtful reports whether the overload r of a gate in health says only that attempts must be
// timed: so long may be usual, or a fast success ended meanwhile, so that not the whole service
// is overloaded.
func (s *state) doubtful(p Permit, r verdict) bool {
	return r.late && s.base == 0 || r.timed && r.took > tick && p.Start < s.since
}

// succeeded records a success of a gate in health. Of attempts that were timed together the
// short ones end first, so those that end later teach the base too. A success that ends a
// doubt teaches nothing, nor do attempts that were sent in the doubt: a queue may be
// growing.
func (s *state) succeeded(p Permit, r verdict, now int64) {
	calm, doubted := s.run == 0 && s.over == 0 && s.warm == fewest, s.over > 0
	late := s.operations == together && p.Start < s.since
	s.run = 0
	switch {
	case !r.timed:
		s.over = min(s.over, 1) // sent before attempts were timed
	case s.settles(r):
		s.over, s.since, s.operations = 0, now, 0
	}
	if r.timed && (s.cold() || !doubted && (!calm || late)) {
		s.learn(r.took, now)
	}
	if !calm && !doubted && s.warm == fewest {
		s.since, s.operations = now, together
	}
}

// settles reports whether the success r ends a doubt. That of a cold gate remains.
func (s *state) settles(r verdict) bool { return r.fast && s.over > 0 && !s.cold() }

// together, as the operations of a gate in health, means that the attempts that were sent
// before since are timed, and none of them was sent in a doubt.
const together = 1

// learn moves the base of a gate in health: the mean of the first sixteen successes, then one
// sixteenth of the way. A base learned in trouble is replaced. The first success begins the
// count of operations, so that a cold gate knows its demand as soon as it is limited.
func (s *state) learn(took time.Duration, now int64) {
	if s.warm == 0 {
		s.base, s.since = 0, now-int64(took)
	}
	s.warm = min(s.warm+1, fewest)
	s.move(took, s.warm)
}

// move moves the base by one n-th of the way to took. The base is never 0.
func (s *state) move(took time.Duration, n int) {
	took = min(took, maxBase)
	s.base = max(s.base+(took-s.base)/time.Duration(n), baseUnit)
}

// limit limits the gate. A base that is not known yet is dropped, since it was learned in
// trouble, but the successes are operations that have arrived since the first of them.
func (s *state) limit(slow bool, now int64) {
	s.generation++
	s.limited, s.slow, s.credits, s.over = true, slow, 0, 0
	s.last, s.refused = now, now
	s.operations = 0
	if s.cold() {
		s.operations, s.warm, s.base = s.warm, 0, 0
	}
	if s.since = max(s.since, now-int64(longest)); s.operations == 0 {
		s.since = now
	}
}

// warn records that the gates of other hosts are shut.
func (s *state) warn(now int64) Change {
	switch {
	case s.limited:
		return Unchanged
	case s.warm == 0:
		s.limit(false, now)
		s.run = inARow
		return Limited
	}
	s.run, s.over = max(s.run, 2*inARow-2), max(s.over, inARow-2)
	return Unchanged
}

// hasten records that the service has responded to another host: from now on this host sends
// its own probes. A probe that is due by that is spread over one time between probes, since
// all hosts get the news at the same instant.
func (s *state) hasten(now int64, u float64) {
	if s.state() != Open {
		return
	}
	s.rare, s.notBefore = false, 0
	last := now - int64((1-u)*float64(s.probeTime(now)))
	if last < s.last || s.probeAt(now) <= now {
		s.last = last
	}
}

// lift lifts the limit.
func (s *state) lift(now int64) {
	s.generation++
	s.limited, s.slow, s.credits, s.run, s.over, s.raises = false, false, 0, 0, 0, 0
	s.operations, s.since = 0, now
}

// whileLimited records a result of a limited gate. The success of an attempt of another
// generation returns a credit too.
func (s *state) whileLimited(p Permit, r verdict, current bool, now int64) Change {
	paid := current && p.How.paid()
	switch r.outcome {
	case Success:
		s.reward(r, p.How == Following || s.failFast, now)
		if current && s.credits >= 1 && now-s.refused >= int64(quiet) {
			s.lift(now)
			return Lifted
		}
	case Failure:
		s.run = min(s.run+1, maxRow)
		s.slow = false
		if s.run < inARow && paid {
			s.giveCredits(1)
		}
	case Throttled:
		s.run = min(s.run+1, maxRow)
		s.slow = r.slow
	default:
		if paid {
			s.giveCredits(1)
		}
	}
	switch {
	case s.run >= inARow:
		s.raises = 0
	case s.slow:
		s.raises = max(s.raises-lowered, 0)
	}
	return Unchanged
}

// reward returns the credits of a success: two if there is room for more, that is, if this
// success and the result before were fast and no attempt waits for the pace. Of slow
// successes one in sixteen returns two, since a service that has become slower for good
// would otherwise get no more than probes. A long base, even one learned in health, moves
// after a success in less than half of it: a new process that started during a queue has
// learned the time of the queue.
func (s *state) reward(r verdict, follows bool, now int64) {
	if r.timed && (s.cold() || s.base >= long && r.took < s.base/2) {
		s.move(r.took, s.divisor(r.took))
	}
	n := 1
	switch {
	case r.fast && !s.slow && (follows || s.paced(now) <= now-int64(s.burst())):
		n = 2
	case r.fast && !s.slow:
		s.raisePace(now)
	case r.timed && !r.fast && hash(uint64(now))%fewest == 0: //nolint:gosec // only bits of it matter
		n = 2
	}
	s.giveCredits(n)
	s.run = 0
	if r.timed {
		s.slow = !r.fast
	}
}

// raisePace raises the pace, about once in the time raising, if callers wait for the pace.
func (s *state) raisePace(now int64) {
	if now-s.refused < int64(quiet) && uniform(now)*float64(raising) < float64(s.interval(now)) {
		s.raises = min(s.raises+1, maxRow)
	}
}

// burst returns for how long after an admission a success returns one credit only. It is 0 if
// calls take long: with a probe every few milliseconds credits would never double, and
// a ramp takes as many times of a call as there are doublings.
func (s *state) burst() time.Duration {
	if s.base >= long {
		return 0
	}
	return tick
}

// divisor returns the part by which a success moves the base while the gate is limited and the
// base is not known from health. The first success sets the base. A slower success moves it
// less, since its time includes the wait in a queue.
func (s *state) divisor(took time.Duration) int {
	switch {
	case s.base == 0:
		return 1
	case took < s.base:
		return 4
	default:
		return enough
	}
}

func (s *state) giveCredits(n int) { s.credits = min(s.credits+n, maxCredits) }
