package circuit

import (
	"time"

	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// A packedState is the whole state of a breaker: its state, counts, instant and
// generation in 64 bits, so that every change is one compare-and-swap, no
// reader sees half of one, and no call waits for another. From the top:
//
//	generation 12 | state 2 | reopened 4 | high 5 | low 5 | instant 36
//
// What the counts and the instant mean depends on the state:
//
//	           high, low                          instant
//	Closed     consecutive failures (10 bits)     probation 24 | throttled 10 | spared 1 | timed 1
//	Open       length of a wait (10 bits)         when the first probe may go
//	HalfOpen   successes, probes in flight        end of the last probe's lease
//	Isolated   0                                  0
//
// probation is the end of probation, in units of 4,096 ms, if reopened > 0;
// throttled counts consecutive throttled responses; spared is set when a
// success of a call that began in full health was not taken for the end of a
// run of failures; timed has calls measured, because a caller's deadline has
// cut one short. The length of a wait, in units of 85 s, is that of an opening
// which servers asked for, and which may be longer than the breaker's own; 0
// means that it is the breaker's own.
//
// The generation grows with each change of state and each lease that is taken
// over, so a result from before it is known and ignored. It wraps after 4,096:
// a result that is exactly that much too late would count.
//
// A breaker is healthy when all but the generation is 0. That is all that a
// call through a healthy breaker has to look at.
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
	waitUnit       = 85_000 // milliseconds; 24 hours fit

	instantMask = 1<<instantBits - 1
	countMask   = 1<<countBits - 1
	runMask     = 1<<(2*countBits) - 1
	reopenMask  = 1<<reopenBits - 1
	stateMask   = 1<<stateBits - 1

	// The greatest values that fit, less one for the step that reaches them.
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

// probation sets the end of probation of a closed breaker, rounded up.
func (w packedState) probation(t instant) packedState {
	units := packedState(t)>>probationShift + 1
	return w&^(instantMask>>probationShift<<probationShift) | units<<probationShift&instantMask
}

// next is the word of the following generation in state s, with all else 0.
func (w packedState) next(s State) packedState {
	return (w>>generationShift+1)<<generationShift | packedState(s)<<stateShift
}

// reopen sets how often in a row a probe has failed, which sets how long the
// breaker stays open.
func (w packedState) reopen(n int) packedState {
	return w | packedState(min(n, reopenMask))<<reopenShift
}

// An instant is Unix time in milliseconds; a word keeps its low 36 bits, which
// go round in two years.
type instant int64

// floor returns the instant of ns, Unix nanoseconds, rounded down, to ask what
// has passed. With ceil, from which times are counted, it makes nothing end
// early.
func floor(ns int64) instant { return instant(ns / int64(time.Millisecond)) }

// ceil returns the instant of ns rounded up.
func ceil(ns int64) instant { return floor(ns + int64(time.Millisecond) - 1) }

// skew is by how much the clocks of those who share a word may differ, or be
// put back while it counts, before its instant seems to lie too far ahead.
const skew = instant(time.Minute / time.Millisecond)

// ahead returns how far in the future the word's instant is, in milliseconds;
// not positive when it has passed. An instant that is further ahead than limit,
// the longest time that is ever set, was set by a clock that has since been put
// back: it has passed.
func (w packedState) ahead(now, limit instant) instant {
	d := instant(w-packedState(now)) << (64 - instantBits) >> (64 - instantBits)
	if d > limit+skew {
		return 0
	}
	return d
}

// left returns for how long the word's instant is ahead of now, by what it means
// in its state.
func (r *rules) left(w packedState, now instant) instant {
	switch w.state() {
	case Closed:
		if w.reopened() == 0 {
			return 0
		}
		const low = 64 - probationBits
		units := instant(w>>probationShift-packedState(now)>>probationShift) << low >> low
		if d := units << probationShift; d <= r.probation()+skew {
			return d
		}
		return 0
	case Open:
		if n := instant(w.failures()); n > 0 {
			return w.ahead(now, n*waitUnit)
		}
		return w.ahead(now, r.openLimit)
	case HalfOpen:
		return w.ahead(now, r.lease)
	default:
		return 0
	}
}

// rules is a Config as the step uses it: checked, filled in, in milliseconds.
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
	acquire signal = iota // a call asks to pass
	success               // the result of a call that passed
	failure
	throttled // the service asked for less
	cut       // the caller's deadline ended it, and it is not known whose fault that is
	cancel    // it has no result
	verdict   // the window says trip
	trip      // by hand
	isolate   // by hand
	reset     // by hand
	remote    // by those who share the breaker elsewhere
)

// An event is a signal with all that the step needs to know of the world.
type event struct {
	signal         signal
	generation     uint16  // of the call's permit; for results and verdicts
	now            instant // rounded down
	begin          instant // now rounded up
	early          bool    // of success: the call began in full health
	hint           instant // of what fails: how long servers asked not to be called, 0: they did not
	u              float64 // in [0, 1), places the open time in its jitter
	state          State   // of told
	until          instant // of told, to open: when the first probe may go
	onlyIfIsolated bool    // of told, to closed: only if it is isolated
}

// step is every transition that a breaker can make, as a pure function: the
// word after e, and whether an acquire may pass. Breaker applies it by
// compare-and-swap; tests walk through all of it; a simulation drives it with
// a clock of its own.
func (r *rules) step(w packedState, e event) (next packedState, admitted bool) {
	switch e.signal {
	case acquire:
		return r.admit(w, e)
	case trip, isolate, reset:
		return r.manual(w, e), false
	case remote:
		return r.applyRemote(w, e), false
	case success, failure, throttled, cut, cancel, verdict: // the results of calls that passed
	}
	if e.generation != w.generation() {
		return w, false // from before the last change: it says nothing about now
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

// admit answers a call that asks to pass.
func (r *rules) admit(w packedState, e event) (packedState, bool) {
	switch w.state() {
	case Closed:
		return r.endProbation(w, e.now), true
	case Open:
		if r.left(w, e.now) > 0 {
			return w, false
		}
		return w.next(HalfOpen).reopen(w.reopened()).low(1).until(e.begin + r.lease), true
	case HalfOpen:
		if n := w.inFlight(); n < r.probes {
			return w.low(n + 1).until(e.begin + r.lease), true
		}
		if r.left(w, e.now) > 0 {
			return w, false
		}
		// The lease is over: its holder hangs or is gone, and will not be heard.
		taken := w.next(HalfOpen).reopen(w.reopened()).high(w.successes())
		return taken.low(1).until(e.begin + r.lease), true
	default:
		return w, false
	}
}

// manual sets a state that a person wants.
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

// applyRemote sets a state that has been agreed on elsewhere. Half-open is none: who
// sends a probe is agreed on before it is sent. Isolation is for a person to end.
func (r *rules) applyRemote(w packedState, e event) packedState {
	wait := max(0, min(e.until-e.begin, max(r.openLimit, maxHint)))
	switch {
	case e.state == Open && w.state() == Isolated:
		return w
	case e.state == Open && w.state() == Open:
		return w.run(0).wait(wait, e, r)
	case e.state == Open:
		return w.next(Open).reopen(w.reopened()).wait(wait, e, r)
	case e.state == w.state(), e.state == HalfOpen, e.onlyIfIsolated && w.state() != Isolated:
		return w
	default:
		return w.next(e.state)
	}
}

// maxHint is the longest opening that servers can ask for.
const maxHint = instant(cell.MaxHint / time.Millisecond)

// wait sets when an open breaker lets the first probe through. If that is later
// than it would be by its own rules, the word says how long it is.
func (w packedState) wait(d instant, e event, r *rules) packedState {
	if d > r.openLimit {
		w = w.run(int((d + waitUnit - 1) / waitUnit))
	}
	return w.until(e.begin + d)
}

// whileClosed takes the result of a call that passed a closed breaker.
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

// succeeded is the word of a closed breaker after a success. That of a call
// which began early, in full health, does not end a run of throttled responses,
// which are all later; and the first such success does not end a run of
// failures: it may be an outer layer's, which knows nothing of what an inner
// one has recorded.
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

// whileHalfOpen takes the result of a probe.
func (r *rules) whileHalfOpen(w packedState, e event) packedState {
	n := w.inFlight()
	if n == 0 {
		return w // a permit used twice
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

// opened is the word of a breaker that opens now: by its rules, or until the
// instant that servers asked for, if that is later. Throttled responses open it
// until that instant, even if it is earlier.
func (r *rules) opened(w packedState, reopened int, e event) packedState {
	if r.growth <= 1 {
		reopened = 0
	}
	d := r.openTime(reopened, e.u)
	if asked := min(e.hint, maxHint); asked > d || asked > 0 && e.signal == throttled {
		d = asked
	}
	return w.next(Open).reopen(reopened).wait(d, e, r)
}

// openTime is open·growthʳ, at most openMax, plus up to jitter times that, so
// that the spread is the same at the limit as below it.
func (r *rules) openTime(reopened int, u float64) instant {
	d, limit := float64(r.open), float64(r.openMax)
	for range min(reopened, reopenMask) {
		d = min(d*r.growth, limit)
	}
	return instant(d + d*r.jitter*u)
}

// closed is the word of a breaker that closes now. Where open times grow, it
// is on probation for ten times the longest: if it trips again before that, the
// time goes on growing, so that a service that only ever answers probes is not
// retried at the shortest interval forever.
func (r *rules) closed(w packedState, now instant) packedState {
	if r.growth <= 1 || w.reopened() == 0 {
		return w.next(Closed)
	}
	return w.next(Closed).reopen(w.reopened()).probation(now + r.probation())
}

// probation is how long a closed breaker remembers that its probes failed.
func (r *rules) probation() instant { return min(10*r.openMax, instant(maxOpen/time.Millisecond)) }

// endProbation ends a probation that is over.
func (r *rules) endProbation(w packedState, now instant) packedState {
	if w.reopened() > 0 && r.left(w, now) <= 0 {
		return w &^ (reopenMask << reopenShift) &^ (instantMask >> probationShift << probationShift)
	}
	return w
}
