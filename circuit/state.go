package circuit

import (
	"time"

	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// A packedState is the whole state of a breaker in 64 bits, so that every change is
// one compare-and-swap and no call waits for another. From the top:
//
//	generation 12 | state 2 | reopened 4 | high 5 | low 5 | instant 36
//
// The meaning of high, low and instant depends on the state:
//
//	           high, low                          instant
//	Closed     consecutive failures (10 bits)     probation 24 | throttled 10 | spared 1 | timed 1
//	Open       length of the opening (10 bits)    when the first probe may be sent
//	HalfOpen   successes, probes in flight        end of the leases of all probes
//	Isolated   0                                  0
//
// Of these:
//   - reopened is the number of failed probes in a row, which OpenGrowth uses.
//   - probation is the end of the probation, in units of 4,096 ms, if reopened > 0.
//   - throttled is the number of consecutive throttled responses.
//   - spared is set if a success of a call that began in full health did not end a
//     run of failures.
//   - timed is set if a caller's deadline ended a call: then calls are measured.
//   - length of the opening is in units of 85 s, rounded up; 0 means that it is not
//     known, or more than a day.
//
// The process that sets an instant decides how far ahead it is. A process with other
// rules must neither shorten that, nor believe an instant of a clock that was put back
// since. So the longest lease, and the longest opening of more than a day, are in the
// cell beside the state: see cell.Longest.
//
// The generation grows with each change of state and each lease that is taken over.
// A result of an earlier generation is ignored. The generation wraps after 4,096.
//
// A breaker is healthy if all bits except the generation are 0. A call through a
// healthy breaker checks nothing else.
type packedState uint64

const (
	instantBits = 36
	countBits   = 5
	reopenBits  = 4
	stateBits   = 2

	lowShift        = instantBits
	highShift       = lowShift + countBits
	reopenShift     = highShift + countBits
	stateShift      = reopenShift + reopenBits
	generationShift = stateShift + stateBits // as seam.GenerationShift

	timedBit       = 1
	sparedBit      = 2
	throttledShift = 2
	throttledMask  = 1<<10 - 1
	probationShift = throttledShift + 10 // also of its units: 4,096 ms
	probationBits  = instantBits - probationShift
	lengthUnit     = 85_000 // milliseconds; 10 bits hold more than 24 hours

	instantMask = 1<<instantBits - 1
	countMask   = 1<<countBits - 1
	runMask     = 1<<(2*countBits) - 1
	reopenMask  = 1<<reopenBits - 1
	stateMask   = 1<<stateBits - 1

	// The highest values of a Config that fit.
	maxFailures = 1000
	maxProbes   = countMask
	maxOpen     = 30 * 24 * time.Hour
)

func (w packedState) healthy() bool      { return w<<(64-generationShift) == 0 }
func (w packedState) generation() uint16 { return uint16(w >> generationShift) }
func (w packedState) state() State       { return State(w >> stateShift & stateMask) }
func (w packedState) reopened() int      { return int(w >> reopenShift & reopenMask) }
func (w packedState) failures() int      { return int(w >> lowShift & runMask) }
func (w packedState) successes() int     { return int(w >> highShift & countMask) }
func (w packedState) inFlight() int      { return int(w >> lowShift & countMask) }

// low, high, run and until return w with that part replaced, as throttle, probation and
// reopen do.
func (w packedState) low(n int) packedState {
	return w&^(countMask<<lowShift) | packedState(n)<<lowShift
}

func (w packedState) high(n int) packedState {
	return w&^(countMask<<highShift) | packedState(n)<<highShift
}

func (w packedState) run(n int) packedState { return w&^(runMask<<lowShift) | packedState(n)<<lowShift }
func (w packedState) throttled() int        { return int(w >> throttledShift & throttledMask) }
func (w packedState) noRun() bool {
	return w.state() == Closed && w.failures() == 0 && w.throttled() == 0
}
func (w packedState) spared() bool                { return w&sparedBit != 0 }
func (w packedState) timed() bool                 { return w&timedBit != 0 }
func (w packedState) until(t instant) packedState { return w&^instantMask | packedState(t)&instantMask }

// throttle sets the count of throttled responses of a closed breaker.
func (w packedState) throttle(n int) packedState {
	return w&^(throttledMask<<throttledShift) | packedState(min(n, throttledMask))<<throttledShift
}

// probation sets the end of the probation of a closed breaker, rounded up.
func (w packedState) probation(t instant) packedState {
	units := packedState(t)>>probationShift + 1
	return w&^(instantMask>>probationShift<<probationShift) | units<<probationShift&instantMask
}

// next returns the state s of the next generation, with all other bits 0.
func (w packedState) next(s State) packedState {
	return (w>>generationShift+1)<<generationShift | packedState(s)<<stateShift
}

// reopen sets the number of failed probes in a row.
func (w packedState) reopen(n int) packedState {
	return w | packedState(min(n, reopenMask))<<reopenShift
}

// An instant is Unix time in milliseconds. A packedState contains its low 36 bits,
// which wrap around every two years.
type instant int64

// floor converts ns, Unix nanoseconds, to an instant, rounded down. What has passed is
// checked with floor and what is to come is set with ceil, so that nothing ends early.
func floor(ns int64) instant { return instant(ns / int64(time.Millisecond)) }

// ceil converts ns, Unix nanoseconds, to an instant, rounded up.
func ceil(ns int64) instant { return floor(ns + int64(time.Millisecond) - 1) }

// skew is how far the clocks of processes that share a state may differ before an
// instant counts as too far ahead.
const skew = instant(time.Minute / time.Millisecond)

// ahead returns how long after now the instant of w is, in milliseconds; 0 or less if
// it has passed. An instant more than limit, the longest time for which it can have been
// set, after now was set before the clock was put back: it counts as passed.
func (w packedState) ahead(now, limit instant) instant {
	d := instant(w-packedState(now)) << (64 - instantBits) >> (64 - instantBits)
	if d > limit+skew {
		return 0
	}
	return d
}

// left returns how long after now the instant of w is, by its meaning in the state.
// longest is that of the cell.
func (r *rules) left(w packedState, now, longest instant) instant {
	switch w.state() {
	case Closed:
		if w.reopened() == 0 {
			return 0
		}
		const low = 64 - probationBits
		units := instant(w>>probationShift-packedState(now)>>probationShift) << low >> low
		if d := units << probationShift; d <= maxProbation+skew {
			return d
		}
		return 0
	case Open:
		if n := instant(w.failures()); n > 0 {
			return w.ahead(now, n*lengthUnit)
		}
		return w.ahead(now, max(r.openLimit, longest))
	case HalfOpen:
		return w.ahead(now, max(r.lease, longest))
	default:
		return 0
	}
}

// rules is a validated Config with its defaults, as step uses it, in milliseconds.
type rules struct {
	failures  int // consecutive failures that trip; 0: never
	throttled int // consecutive throttled responses that trip
	successes int
	probes    int
	open      instant
	growth    float64
	jitter    float64
	openMax   instant // before jitter
	openLimit instant // the longest open time, with jitter
	lease     instant
}

// A signal is what happens to a breaker.
type signal uint8

const (
	acquire signal = iota // a call asks for a permit
	success               // result of an admitted call
	failure
	throttled // the service asked for fewer calls
	cut       // the caller's deadline ended the call; not known whether the service is to blame
	cancel    // no result
	verdict   // the window tripped
	trip      // Trip was called
	isolate   // Isolate was called
	reset     // Reset was called
	remote    // the state of those who share the breaker on other hosts
)

// An event is a signal with its facts.
type event struct {
	signal         signal
	generation     uint16  // of the call's permit; of results and verdicts
	now            instant // rounded down
	begin          instant // now rounded up
	longest        instant // of the cell
	early          bool    // of success: the call began in full health
	hint           instant // of failures: how long servers asked not to be called; 0 means not
	u              float64 // random, in [0, 1): for the jitter of the open time
	state          State   // of remote
	until          instant // of remote, to open: when the first probe may be sent
	onlyIfIsolated bool    // of remote, to closed: has an effect only on an isolated breaker
}

// step is every transition of a breaker, as a pure function: it returns the state
// after e, and whether an acquire is admitted. Breaker applies it by
// compare-and-swap; a simulation calls the same code with its own clock.
func (r *rules) step(w packedState, e event) (next packedState, admitted bool) {
	switch e.signal {
	case acquire:
		return r.admit(w, e)
	case trip, isolate, reset:
		return r.manual(w, e), false
	case remote:
		return r.applyRemote(w, e), false
	case success, failure, throttled, cut, cancel, verdict: // results of admitted calls
	}
	if e.generation != w.generation() {
		return w, false // a result from before the last change of state
	}
	switch w.state() {
	case Closed:
		return r.whileClosed(w, e), false
	case HalfOpen:
		return r.whileHalfOpen(w, e), false
	default:
		return w, false
	}
}

// admit returns the state after a call that asks for a permit.
func (r *rules) admit(w packedState, e event) (packedState, bool) {
	left := r.left(w, e.now, e.longest)
	switch w.state() {
	case Closed:
		return r.endProbation(w, e.now), true
	case Open:
		if left > 0 {
			return w, false
		}
		return w.next(HalfOpen).reopen(w.reopened()).low(1).until(e.begin + r.lease), true
	case HalfOpen:
		switch n := w.inFlight(); {
		case n < r.probes && n > 0 && left > e.begin-e.now+r.lease:
			return w.low(n + 1), true // another process has sent a probe with a longer lease
		case n < r.probes:
			return w.low(n + 1).until(e.begin + r.lease), true
		case left > 0:
			return w, false
		}
		// The lease is over: the probe hangs or its process is gone.
		expired := w.next(HalfOpen).reopen(w.reopened()).high(w.successes())
		return expired.low(1).until(e.begin + r.lease), true
	default:
		return w, false
	}
}

// manual returns the state after Trip, Isolate or Reset.
func (r *rules) manual(w packedState, e event) packedState {
	switch {
	case e.signal == isolate && w.state() != Isolated:
		return w.next(Isolated)
	case e.signal == reset && !w.healthy():
		return w.next(Closed)
	case e.signal == trip && (w.state() == Closed || w.state() == HalfOpen):
		return r.opened(w, w.reopened(), e)
	default:
		return w
	}
}

// applyRemote returns the state after other hosts have set theirs. They never set
// half-open: probes are leased before they are sent. Only a person ends an isolation.
func (r *rules) applyRemote(w packedState, e event) packedState {
	d := max(0, min(e.until-e.begin, maxOpening))
	switch {
	case e.state == Open && w.state() == Isolated:
		return w
	case e.state == Open && w.state() == Open:
		return w.openFor(d, e.begin)
	case e.state == Open:
		return w.next(Open).reopen(w.reopened()).openFor(d, e.begin)
	case e.state == w.state(), e.state == HalfOpen, e.onlyIfIsolated && w.state() != Isolated:
		return w
	default:
		return w.next(e.state)
	}
}

const (
	maxHint      = instant(cell.MaxHint / time.Millisecond) // longest opening that servers can ask for
	maxOpening   = 2 * maxProbation                         // longest opening of any Config: OpenMax, and OpenJitter
	maxProbation = instant(maxOpen / time.Millisecond)
)

// openFor sets the length of the opening of w, which begins at begin.
func (w packedState) openFor(d, begin instant) packedState {
	n := d/lengthUnit + 1
	if n > runMask {
		n = 0
	}
	return w.run(int(n)).until(begin + d)
}

// unsaid returns how far ahead e has set the instant of next, if next does not contain
// that; else 0.
func (r *rules) unsaid(next packedState, e event) instant {
	switch {
	case next.state() == HalfOpen && e.signal == acquire:
		return r.lease
	case next.state() == Open && next.failures() == 0:
		return next.ahead(e.now, maxOpening)
	default:
		return 0
	}
}

// whileClosed returns the state after the result of a call through a closed breaker.
func (r *rules) whileClosed(w packedState, e event) packedState {
	w = r.endProbation(w, e.now)
	switch e.signal {
	case success:
		return succeeded(w, e.early)
	case failure:
		if n := w.failures() + 1; r.failures == 0 {
			return w
		} else if n < r.failures {
			return w.run(n)
		}
		return r.opened(w, w.reopened(), e)
	case throttled:
		if n := w.throttled() + 1; n < r.throttled {
			return w.throttle(n)
		}
		return r.opened(w, w.reopened(), e)
	case verdict:
		return r.opened(w, w.reopened(), e)
	case cut:
		return w | timedBit
	default:
		return w
	}
}

// succeeded returns the state of a closed breaker after a success. early is true if the
// call began in full health: then it does not end a run of throttled responses, which
// are all later; and the first such success does not end a run of failures, because it
// may come from an outer layer around a call whose failure is already counted.
func succeeded(w packedState, early bool) packedState {
	w &^= timedBit
	if !early {
		return w.run(0).throttle(0) &^ sparedBit
	}
	if w.failures() > 0 && !w.spared() {
		return w | sparedBit
	}
	return w.run(0) &^ sparedBit
}

// whileHalfOpen returns the state after the result of a probe.
func (r *rules) whileHalfOpen(w packedState, e event) packedState {
	n := w.inFlight()
	if n == 0 {
		return w // the permit was used twice
	}
	switch e.signal {
	case success:
		if s := w.successes() + 1; s < r.successes {
			return w.low(n - 1).high(s)
		}
		return r.closed(w, e.begin)
	case failure, throttled:
		return r.opened(w, w.reopened()+1, e)
	case cut, cancel:
		return w.low(n - 1)
	default:
		return w
	}
}

// opened returns the state of a breaker that opens at e: for its own open time, or
// until the instant that servers asked for if that is later. Throttled responses open
// the breaker until that instant even if it is earlier.
func (r *rules) opened(w packedState, reopened int, e event) packedState {
	d := r.openTime(reopened, e.u)
	if asked := min(e.hint, maxHint); asked > d || asked > 0 && e.signal == throttled {
		d = asked
	}
	return w.next(Open).reopen(reopened).openFor(d, e.begin)
}

// openTime returns min(open * growth^reopened, openMax) * (1 + jitter*u): the jitter is
// added after the limit, so the spread is the same at the limit as below it.
func (r *rules) openTime(reopened int, u float64) instant {
	d, limit := float64(r.open), float64(r.openMax)
	for range min(reopened, reopenMask) {
		d = min(d*r.growth, limit)
	}
	return instant(d + d*r.jitter*u)
}

// closed returns the state of a breaker that closes at now. If open times grow, the
// breaker is on probation for ten times the longest open time: if it trips again
// during the probation, the open time continues to grow. So a backend that only ever
// responds to probes is not retried at the shortest interval forever.
func (r *rules) closed(w packedState, now instant) packedState {
	if r.growth <= 1 || w.reopened() == 0 {
		return w.next(Closed)
	}
	return w.next(Closed).reopen(w.reopened()).probation(now + r.probation())
}

// probation returns the length of a probation.
func (r *rules) probation() instant { return min(10*r.openMax, maxProbation) }

// endProbation removes the probation if it is over.
func (r *rules) endProbation(w packedState, now instant) packedState {
	if w.reopened() > 0 && r.left(w, now, 0) <= 0 {
		return w &^ (reopenMask << reopenShift) &^ (instantMask >> probationShift << probationShift)
	}
	return w
}
