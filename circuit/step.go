package circuit

import (
	"fmt"
	"slices"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// A word is the whole state of a breaker: its state, counts, instant and
// generation in 64 bits, so that every change is one compare-and-swap, no
// reader sees half of one, and no call waits for another. From the top:
//
//	generation 12 | state 2 | reopened 4 | high 5 | low 5 | instant 36
//
// What the counts and the instant mean depends on the state:
//
//	           high, low                          instant
//	Closed     consecutive failures (10 bits)     end of parole, if reopened > 0
//	Open       0                                  when the first probe may go
//	HalfOpen   successes, probes in flight        end of the last probe's lease
//	Isolated   0                                  0
//
// The generation grows with each change of state and each lease that is taken
// over, so a result from before it is known and ignored. It wraps after 4,096:
// a result that is exactly that much too late would count.
//
// A breaker is healthy when all but the generation is 0. That is all that a
// call through a healthy breaker has to look at.
type word uint64

const (
	instantBits = 36
	countBits   = 5
	reopenBits  = 4
	stateBits   = 2

	lowShift        = instantBits
	highShift       = lowShift + countBits
	reopenShift     = highShift + countBits
	stateShift      = reopenShift + reopenBits
	generationShift = stateShift + stateBits

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

func (w word) healthy() bool        { return w<<(64-generationShift) == 0 }
func (w word) generation() uint16   { return uint16(w >> generationShift) }
func (w word) state() State         { return State(w >> stateShift & stateMask) }
func (w word) reopened() int        { return int(w >> reopenShift & reopenMask) }
func (w word) failures() int        { return int(w >> lowShift & runMask) }
func (w word) successes() int       { return int(w >> highShift & countMask) }
func (w word) inFlight() int        { return int(w >> lowShift & countMask) }
func (w word) low(n int) word       { return w&^(countMask<<lowShift) | word(n)<<lowShift }
func (w word) high(n int) word      { return w&^(countMask<<highShift) | word(n)<<highShift }
func (w word) run(n int) word       { return w&^(runMask<<lowShift) | word(n)<<lowShift }
func (w word) until(t instant) word { return w&^instantMask | word(t)&instantMask }

// next is the word of the following generation in state s, with all else 0.
func (w word) next(s State) word {
	return (w>>generationShift+1)<<generationShift | word(s)<<stateShift
}

// reopen sets how often in a row a probe has failed, which sets how long the
// breaker stays open.
func (w word) reopen(n int) word {
	return w | word(min(n, reopenMask))<<reopenShift
}

// An instant is Unix time in milliseconds; a word keeps its low 36 bits, which
// go round in two years.
type instant int64

// floor returns the instant of t rounded down, to ask what has passed. With
// ceil, from which times are counted, it makes nothing end early.
func floor(t time.Time) instant { return instant(t.UnixMilli()) }

// ceil returns the instant of t rounded up.
func ceil(t time.Time) instant { return floor(t.Add(time.Millisecond - 1)) }

// skew is by how much the clocks of those who share a word may differ, or be
// put back while it counts, before its instant seems to lie too far ahead.
const skew = instant(time.Minute / time.Millisecond)

// ahead returns how far in the future the word's instant is, in milliseconds;
// not positive when it has passed. An instant that is further ahead than limit,
// the longest time that is ever set, was set by a clock that has since been put
// back: it has passed.
func (w word) ahead(now, limit instant) instant {
	d := instant(w-word(now)) << (64 - instantBits) >> (64 - instantBits)
	if d > limit+skew {
		return 0
	}
	return d
}

// rules is a Config as the step uses it: checked, filled in, in milliseconds.
type rules struct {
	failures  int // consecutive failures that trip; 0: never
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
	cancel  // it has no result
	verdict // the window says trip
	trip    // by hand
	isolate // by hand
	reset   // by hand
	told    // by those who share the breaker elsewhere
)

// An event is a signal with all that the step needs to know of the world.
type event struct {
	signal     signal
	generation uint16  // of the call's permit; for results and verdicts
	now        instant // rounded down
	begin      instant // now rounded up
	u          float64 // in [0, 1), places the open time in its jitter
	state      State   // of told
	until      instant // of told, to open: when the first probe may go
	mild       bool    // of told, to closed: only if it is isolated
}

// step is every transition that a breaker can make, as a pure function: the
// word after e, and whether an acquire may pass. Breaker applies it by
// compare-and-swap; tests walk through all of it; a simulation drives it with
// a clock of its own.
func (r *rules) step(w word, e event) (next word, admitted bool) {
	switch e.signal {
	case acquire:
		return r.admit(w, e)
	case trip, isolate, reset:
		return r.byHand(w, e), false
	case told:
		return r.told(w, e), false
	case success, failure, cancel, verdict: // the results of calls that passed
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
func (r *rules) admit(w word, e event) (word, bool) {
	switch w.state() {
	case Closed:
		return r.pardon(w, e.now), true
	case Open:
		if w.ahead(e.now, r.openLimit) > 0 {
			return w, false
		}
		return w.next(HalfOpen).reopen(w.reopened()).low(1).until(e.begin + r.lease), true
	case HalfOpen:
		if n := w.inFlight(); n < r.probes {
			return w.low(n + 1).until(e.begin + r.lease), true
		}
		if w.ahead(e.now, r.lease) > 0 {
			return w, false
		}
		// The lease is over: its holder hangs or is gone, and will not be heard.
		taken := w.next(HalfOpen).reopen(w.reopened()).high(w.successes())
		return taken.low(1).until(e.begin + r.lease), true
	default:
		return w, false
	}
}

// byHand sets a state that a person wants.
func (r *rules) byHand(w word, e event) word {
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

// told sets a state that has been agreed on elsewhere. Half-open is none: who
// sends a probe is agreed on before it is sent. Isolation is for a person to end.
func (r *rules) told(w word, e event) word {
	until := max(e.begin, min(e.until, e.begin+r.openLimit))
	switch {
	case e.state == Open && w.state() == Isolated:
		return w
	case e.state == Open && w.state() == Open:
		return w.until(until)
	case e.state == Open:
		return w.next(Open).reopen(w.reopened()).until(until)
	case e.state == w.state(), e.state == HalfOpen, e.mild && w.state() != Isolated:
		return w
	default:
		return w.next(e.state)
	}
}

// whileClosed takes the result of a call that passed a closed breaker.
func (r *rules) whileClosed(w word, e event) word {
	switch e.signal {
	case success:
		return r.pardon(w.run(0), e.now)
	case failure:
		w = r.pardon(w, e.now)
		if n := w.failures() + 1; r.failures == 0 {
			return w
		} else if n < r.failures {
			return w.run(n)
		}
		return r.opened(w, w.reopened(), e)
	case verdict:
		w = r.pardon(w, e.now)
		return r.opened(w, w.reopened(), e)
	default:
		return w
	}
}

// whileHalfOpen takes the result of a probe.
func (r *rules) whileHalfOpen(w word, e event) word {
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
	case failure:
		return r.opened(w, w.reopened()+1, e)
	case cancel:
		return w.low(n - 1)
	default:
		return w
	}
}

// opened is the word of a breaker that opens now.
func (r *rules) opened(w word, reopened int, e event) word {
	if r.growth <= 1 {
		reopened = 0
	}
	return w.next(Open).reopen(reopened).until(e.begin + r.openTime(reopened, e.u))
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
// is on parole for ten times the longest: if it trips again before that, the
// time goes on growing, so that a backend that answers a probe and nothing
// more is not tried ever and ever again at the shortest interval.
func (r *rules) closed(w word, now instant) word {
	if r.growth <= 1 || w.reopened() == 0 {
		return w.next(Closed)
	}
	return w.next(Closed).reopen(w.reopened()).until(now + r.parole())
}

// parole is how long a closed breaker remembers that its probes failed.
func (r *rules) parole() instant { return min(10*r.openMax, instant(maxOpen/time.Millisecond)) }

// pardon ends a parole that is over.
func (r *rules) pardon(w word, now instant) word {
	if w.reopened() > 0 && w.ahead(now, r.parole()) <= 0 {
		return w &^ (reopenMask << reopenShift) &^ instantMask
	}
	return w
}
