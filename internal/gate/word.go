package gate

import "time"

// The bits of the words, from the top:
//
//	first:  generation 8 | limited 1 | slow 1 | run 4 | over 4, while limited raises | warm 5 | credits 12 | base 29 (1/8 µs)
//	second: last admission 40 (µs) | last refusal 24 (ms)
//	third:  operations 24 | instant 40 (ms): since when they are counted; in health 0 | last fast success, or first of a cold gate
//
// The instants wrap around after 12 days, 4 hours and 34 years. In health the second word
// is not used. A gate is in health if all bits of the first word are 0, except the
// generation, the base, and warm, which is 16.
const (
	baseBits   = 29
	creditBits = 12
	warmBits   = 5
	rowBits    = 4

	creditShift     = baseBits
	warmShift       = creditShift + creditBits
	overShift       = warmShift + warmBits
	runShift        = overShift + rowBits
	slowShift       = runShift + rowBits
	limitedShift    = slowShift + 1
	generationShift = limitedShift + 1

	baseUnit   = time.Microsecond / 8
	baseMask   = 1<<baseBits - 1
	maxBase    = baseMask * baseUnit // 67 s
	maxCredits = 1<<creditBits - 1
	maxRow     = 1<<rowBits - 1
	warmMask   = 1<<warmBits - 1
	slowBit    = 1 << slowShift
	limitedBit = 1 << limitedShift
	healthMask = 1<<generationShift - 1<<creditShift

	refusedBits   = 24
	refusedMask   = 1<<refusedBits - 1
	lastBits      = 40
	sinceBits     = 40
	sinceMask     = 1<<sinceBits - 1
	maxOperations = 1<<24 - 1
)

// A state is the unpacked words at an instant.
type state struct {
	generation uint8
	limited    bool
	slow       bool  // the last result took more than twice the base
	rare       bool  // Gate.Rare; in no word
	failFast   bool  // Gate.FailFast; in no word
	notBefore  int64 // Gate.NotBefore; in no word
	run        int   // failures of any kind in a row
	over       int   // overloads in a row; in health
	raises     int   // raises of the pace, at most maxRow; while limited
	warm       int   // timed successes in the mean base, at most 16
	credits    int
	base       time.Duration // usual time of an attempt; 0: not known

	last    int64 // Unix nanoseconds: when an attempt was last admitted; by the pace up to a tick earlier
	refused int64 // when an attempt was last refused

	operations int   // counted since the instant below
	since      int64 // in health: when the last fast success ended; of a cold gate when its first success began
}

func baseOf(first uint64) time.Duration { return time.Duration(first&baseMask) * baseUnit }

// unpack returns the state of the words a, b and c at now. An instant that is too far ahead
// was set before the clock was put back: then the next probe is due, the demand is taken
// as counted for a second, and the last fast success as long ago.
func unpack(a, b, c uint64, now int64) state {
	s := state{
		generation: uint8(a >> generationShift),
		limited:    a&limitedBit != 0,
		slow:       a&slowBit != 0,
		run:        int(a >> runShift & maxRow),
		over:       int(a >> overShift & maxRow),
		warm:       int(a >> warmShift & warmMask),
		credits:    int(a >> creditShift & maxCredits),
		base:       baseOf(a),

		last:       instant(b>>refusedBits, lastBits, now, time.Microsecond),
		refused:    past(b&refusedMask, now),
		operations: int(c >> sinceBits),
		since:      instant(c&sinceMask, sinceBits, now, time.Millisecond),
	}
	if s.limited {
		s.over, s.raises = 0, s.over
	}
	if s.since > now || c == 0 {
		s.since = 0
		if s.limited {
			s.since = now - int64(time.Second)
		}
	}
	if s.last > now+int64(tick) {
		s.last = now - int64(2*costlyMax)
	}
	return s
}

// pack returns the words of s.
func (s *state) pack() (a, b, c uint64) {
	a = uint64(s.generation)<<generationShift | uint64(s.run)<<runShift | uint64(s.over+s.raises)<<overShift |
		uint64(s.warm)<<warmShift | uint64(s.credits)<<creditShift | uint64(s.base/baseUnit)
	if s.limited {
		a |= limitedBit
	}
	if s.slow {
		a |= slowBit
	}
	b = uint64(s.last/int64(time.Microsecond))<<refusedBits | uint64(s.refused/int64(time.Millisecond))&refusedMask
	c = uint64(s.operations)<<sinceBits | uint64(s.since/int64(time.Millisecond))&sinceMask
	return a, b, c
}

// instant returns the instant nearest to now whose low bits are low, in that unit.
func instant(low uint64, bits int, now int64, unit time.Duration) int64 {
	n := now / int64(unit)
	age := int64(uint64(n)-low) << (64 - bits) >> (64 - bits)
	return (n - age) * int64(unit)
}

// past returns the instant of a refusal whose low bits are low. It may be hours ago, so an
// instant that seems to be more than a minute ahead counts as old.
func past(low uint64, now int64) int64 {
	n := now / int64(time.Millisecond)
	age := (uint64(n) - low) & refusedMask
	if age > refusedMask-60_000 {
		age = 0
	}
	return (n - int64(age)) * int64(time.Millisecond)
}
