package circuit

import "time"

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
