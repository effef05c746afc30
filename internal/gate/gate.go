// Package gate admits calls to a service that is in trouble at the rate that the
// service has been seen to digest, instead of shutting for a fixed time.
//
// A gate is in health or limited. In health it admits everything. Overloads or
// failures in a row limit it; then an attempt needs a credit, which a success
// gives back and a fast success doubles, at a pace of what the demand is; and
// every so often one attempt goes without a credit, as a probe. The first
// success while nobody is in line lifts the limit.
//
// The whole state is three atomic words, which may lie in memory that several
// processes share. The package has no clock, no timer and no goroutine: the
// instant is an argument, Unix nanoseconds by a clock that all who share the
// words agree on. A caller that is not admitted waits in a [Line], which is as
// pure. Package circuit drives both by timers, package sim by its own heap.
package gate

import (
	"sync/atomic"
	"time"
)

// Row is how many overloads in a row limit a gate, and half as many as failures of
// any kind do.
const Row = inARow

// Patience is that of a caller which has no deadline.
const Patience = 30 * time.Second

// The constants of a gate, each with its reason. Two answers' time is fast: it
// still found no queue worth the name.
const (
	inARow    = 5                      // overloads, or failures of any kind, that count as a row
	fewest    = 16                     // timed successes whose mean is a base; also the demand's share of a probe
	known     = fewest - 1             // of them, from which on the base is: Sample takes one away
	enough    = 256                    // operations that give the demand within 6 %
	longest   = fewest * time.Second   // for which they are counted
	tick      = 10 * time.Millisecond  // by which timers are late: the burst of the pace, the least reserve
	long      = 10 * tick              // base of which a ramp takes seconds
	quiet     = fewest * tick          // without a refusal: nobody is in line
	probeMax  = 500 * time.Millisecond // nobody waits longer to learn that the service is back
	rarely    = 4                      // times as long, where another host sends the probes
	costlyMax = 4 * probeMax           // the same while a probe takes the service long
	drain     = 1.5                    // demands at which attempts go while answers are fast: the backlog drains at half of one
	raise     = 1.8                    // by which the pace grows while answers stay fast and callers wait for it
	raising   = 250 * time.Millisecond // about as often as that
	spared    = 9                      // raises that change nothing: answers have been fast for two seconds by then
	lowered   = 3                      // raises that a slow answer takes back: where the service is slow there are many
)

// Words are the state of a gate. The zero Words are those of a service about
// which nothing is known: in health, and timed until 16 attempts have succeeded.
type Words [3]atomic.Uint64

// Healthy reports whether first, the first of a gate's Words, is that of a gate
// in health which needs no attempt timed: admit the attempt with the Permit
// that [Untimed] returns, and do not record its success.
func Healthy(first uint64) bool { return first&HealthMask == InHealth }

// InHealth is what a first word is under the HealthMask if it is [Healthy].
const (
	HealthMask uint64 = healthMask
	InHealth   uint64 = fewest << warmShift
)

// Untimed returns the Permit of an attempt that a healthy gate admits.
func Untimed(first uint64) Permit { return Permit{Generation: uint8(first >> generationShift)} }

// A Gate is the view that one process has of the Words of a key. Its methods
// are safe for concurrent use, allocate nothing, and never block. An instant
// is in Unix nanoseconds.
type Gate struct {
	*Words
	// Rare says that another host sends the probes: while nothing gets through, those
	// of this one are due a quarter as often.
	Rare bool
	// NotBefore is the latest instant before which the service asked not to be
	// called; 0 means that it did not. While nothing gets through, nobody is
	// admitted before that, and then one call, as a probe.
	NotBefore int64
}

// A How is the way by which an attempt was admitted.
type How uint8

// How an attempt was admitted.
const (
	Freely   How = iota // in health
	ByCredit            // limited, for a credit
	AsProbe             // limited, without a credit
)

// A Permit is the permission to make one attempt. Pass it to [Gate.Done] once.
type Permit struct {
	// Start is when the attempt was admitted; 0 means that it is not timed. Who
	// knows it all the same, as of an attempt that is TimedOut, sets it.
	Start      int64
	Generation uint8 // of the words that admitted it
	How        How
}

// An Outcome is how an attempt ended.
type Outcome uint8

// The outcomes of an attempt.
const (
	Cancelled Outcome = iota // no result: the caller gave up, panicked, or made no call
	Success                  // the service answered, be it that it said no
	Failure                  // any failure that is not one of the following
	Throttled                // the service asked for fewer calls
	TimedOut                 // the attempt's own timeout ended it
	Cut                      // its caller's deadline ended it
	Late                     // it is still running after the time of [Gate.LateAfter]; its end must not be recorded
)

// A Change is what an outcome did to a gate.
type Change uint8

// The changes of a gate.
const (
	Unchanged Change = iota
	Limited
	Lifted
)

// Arrive counts an operation, not an attempt or a caller that asks again: call it
// once for each operation that finds the gate limited. It tells the gate
// what the demand is.
func (g Gate) Arrive(now int64) {
	if g.Limited() {
		g.run(task{kind: arrive, now: now})
	}
}

// Admit asks to make one attempt. It reports false if the gate is limited and
// no credit and no probe is due.
func (g Gate) Admit(now int64) (Permit, bool) { return g.admit(now, false) }

// admit is Admit; alone says that nobody else waits in this process.
func (g Gate) admit(now int64, alone bool) (Permit, bool) {
	if first := g.Words[0].Load(); Healthy(first) {
		return Untimed(first), true
	}
	t := g.run(task{kind: admit, now: now, alone: alone})
	return Permit{Start: now, Generation: t.next.generation, How: t.how}, t.admitted
}

// Done records how an attempt ended, at now.
func (g Gate) Done(p Permit, o Outcome, now int64) Change {
	if o == Success && p.Start == 0 && Healthy(g.Words[0].Load()) {
		return Unchanged
	}
	return g.run(task{kind: done, now: now, permit: p, outcome: o}).change
}

// Limit limits a gate that is in health, by a verdict that is not its own.
func (g Gate) Limit(now int64) Change { return g.run(task{kind: limit, now: now}).change }

// Warn tells the gate that nothing gets through elsewhere. In health, the next two
// failures in a row limit it; one of which nothing is known is limited at once.
func (g Gate) Warn(now int64) Change { return g.run(task{kind: warn, now: now}).change }

// Hasten tells the gate that the service has answered elsewhere. If nothing gets
// through here, the next probe is due within the time between two; u, in [0, 1),
// says where in it.
func (g Gate) Hasten(now int64, u float64) { g.run(task{kind: hasten, now: now, u: u}) }

// Reset lifts the limit, whatever the results were, and forgets them. What is
// known of the time that an attempt takes stays.
func (g Gate) Reset(now int64) Change { return g.run(task{kind: reset, now: now}).change }

// Doubt has the next attempts of a gate in health timed, because the one of p takes
// long. It does nothing if the gate has been limited since.
func (g Gate) Doubt(p Permit) {
	g.run(task{kind: doubt, permit: p})
}

// Sample has the next attempt of a healthy gate timed.
func (g Gate) Sample() { g.run(task{kind: sample}) }

// Unmarked returns the Permit of an attempt that is made although it was not
// admitted.
func (g Gate) Unmarked() Permit { return Untimed(g.Words[0].Load()) }

// Next returns the earliest instant, not before now, at which a limited gate will
// admit an attempt if no result comes before that; now if it is in health.
func (g Gate) Next(now int64) int64 {
	s := g.load(now)
	switch {
	case !s.limited:
		return now
	case s.credits > 0:
		return max(min(s.tat, s.probeAt(now)), now)
	default:
		return max(s.probeAt(now), now)
	}
}

// NextProbe returns the instant, not before now, at which the next probe is due
// if nothing else is admitted before that; now if the gate is in health.
func (g Gate) NextProbe(now int64) int64 {
	if s := g.load(now); s.limited {
		return max(s.probeAt(now), now)
	}
	return now
}

// A State is what people see of a gate.
type State uint8

// The states of a gate.
const (
	Closed   State = iota // in health: no limit
	HalfOpen              // limited, and answers are coming back
	Open                  // limited, and the last five results were failures: only probes go
)

// A Status is a snapshot of a gate for people.
type Status struct {
	State   State
	Slow    bool          // while limited: the last answer took more than twice the usual time
	Credits int           // attempts that may go, as far as the pace lets them
	Demand  float64       // operations a second while limited, a lower bound; 0 means not known
	Base    time.Duration // the time that an attempt usually takes; 0 means not known
}

// Status returns what the gate is like at now.
func (g Gate) Status(now int64) Status {
	s := g.load(now)
	r := Status{State: s.state(), Base: s.base}
	if s.limited {
		r.Slow, r.Credits, r.Demand = s.slow, s.credits, s.demand(now)
	}
	return r
}

// Reserve returns how long before the end of its patience, which is left away, a
// caller must stop waiting, so that an attempt still has the time it needs:
// four times the usual time, six times while answers are slow, at least 10 ms;
// half of left if that is less. If the usual time is not known it is a quarter of
// left, after which an attempt is late, or of [Patience] if that is less.
func (g Gate) Reserve(left time.Duration) time.Duration {
	first := g.Words[0].Load()
	reserve := 4 * baseOf(first)
	switch {
	case reserve == 0:
		return min(left, Patience) / 4
	case first&slowBit != 0:
		reserve += reserve / 2
	}
	return min(max(reserve, tick), left/2)
}

// LateAfter returns the time after which an attempt that has no timeout of its
// own is [Late]: a quarter of its caller's patience, which counts for no more than
// [Patience], and at least eight times the usual time.
func (g Gate) LateAfter(patience time.Duration) time.Duration {
	return max(min(patience, Patience)/4, 8*g.Base())
}

// Limited reports whether the gate is limited.
func (g Gate) Limited() bool { return g.Words[0].Load()&limitedBit != 0 }

// Shut reports whether the gate is limited and nothing gets through: it is Open.
func (g Gate) Shut() bool {
	first := g.Words[0].Load()
	return first&limitedBit != 0 && first>>runShift&maxRow >= inARow
}

// Base returns the time that an attempt usually takes; 0 means not known.
func (g Gate) Base() time.Duration { return baseOf(g.Words[0].Load()) }

// load returns the state of g at now.
func (g Gate) load(now int64) state {
	s := unpack(g.Words[0].Load(), g.Words[1].Load(), g.Words[2].Load(), now)
	s.rare, s.notBefore = g.Rare, g.NotBefore
	return s
}
