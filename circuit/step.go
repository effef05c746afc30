package circuit

import (
	"fmt"
	"slices"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/setting"
)

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

// A State is what a breaker does with a call.
type State uint8

// The states.
const (
	Closed   State = iota // calls pass
	Open                  // calls are refused until an instant
	HalfOpen              // a few calls pass as probes, the rest are refused
	Isolated              // calls are refused until Reset
)

// String returns closed, open, half-open or isolated.
func (s State) String() string {
	if names := stateNames(); int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// MarshalText returns the state's name.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a state's name. It refuses any other text.
func (s *State) UnmarshalText(text []byte) error {
	i := slices.Index(stateNames(), string(text))
	if i < 0 {
		return setting.Unknown("state", string(text), stateNames())
	}
	*s = State(i)
	return nil
}

func stateNames() []string { return []string{"closed", "open", "half-open", "isolated"} }

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
