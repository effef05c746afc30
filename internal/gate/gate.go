// Package gate admits calls to a service in trouble at the rate that the service has been
// seen to serve, instead of refusing all calls for a fixed time.
//
// A gate is in health or limited. In health it admits every attempt. Overloads or
// failures in a row limit the gate. While the gate is limited, an attempt needs a credit:
// a success returns its credit, and a fast success returns two. Credits are spent at a
// pace that follows the demand. At intervals one attempt is admitted without a credit, as
// a probe. The first success while no caller waits lifts the limit.
//
// The whole state is three atomic words, which processes may share. The package has no
// clock, no timer and no goroutine: each function takes the instant, in Unix nanoseconds
// by a clock that all processes agree on. A caller that is not admitted waits in a
// [Line], which has no timer either. Package circuit drives both by timers, package sim
// by the event queue of its simulation.
package gate

import (
	"sync/atomic"
	"time"
)

// Row is the number of overloads in a row that limits a gate which has seen attempts succeed;
// twice as many failures of any kind do too. A gate that has seen few is limited sooner: see
// [Words].
const Row = inARow

// Patience is how long a caller without a deadline waits.
const Patience = 30 * time.Second

// The constants of a gate. A success is fast if it took at most twice the usual time: then
// it found no queue to speak of.
const (
	inARow    = 5                      // overloads, or failures of any kind, that count as a row
	fewest    = 16                     // timed successes whose mean is a base; also the demand's share of a probe
	known     = fewest - 1             // timed successes from which on the base is known: Sample takes one away
	enough    = 256                    // operations that give the demand within 6 %
	longest   = fewest * time.Second   // longest time for which operations are counted
	tick      = 10 * time.Millisecond  // how late timers are: the burst of the pace, the least reserve
	long      = 10 * tick              // a base for which a ramp takes seconds
	quiet     = fewest * tick          // without a refusal for so long, no caller is in line
	probeMax  = 500 * time.Millisecond // the longest time between probes
	rarely    = 4                      // factor of that time while another host sends the probes
	costlyMax = 7 * probeMax / 2       // the longest time between probes while attempts are slow
	sparseMax = 4 * probeMax           // the longest time between probes of a gate that is cold
	apart     = 0.9                    // the least such time, as a multiple of the mean time between operations
	few       = 2                      // operations a second below which a cold gate is sparse
	drain     = 1.5                    // pace as a multiple of the demand while successes are fast: a backlog drains at half the demand
	raise     = 1.8                    // factor by which the pace grows while successes stay fast and callers wait for the pace
	raising   = 250 * time.Millisecond // about the time between two raises
	spared    = 9                      // raises without effect: by then successes have been fast for two seconds
	lowered   = 3                      // raises that a slow result takes back
	heeded    = 2                      // failures in a row from which on the Retry-After of one delays all callers
	never     = 1 << 62                // a time that is not over
)

// Words are the state of a gate. The zero Words are in health, and attempts are timed until
// 16 of them have succeeded. Before 15 have, the gate is cold: two overloads limit it, also
// if calls succeed between them, or three failures in a row; if no attempt has succeeded, the
// first throttled response or two failures.
type Words [3]atomic.Uint64

// Healthy reports whether a gate with the first word first is in health and needs no
// attempt timed. Then admit the attempt with the Permit that [Untimed] returns; its
// success need not be recorded.
func Healthy(first uint64) bool { return first&HealthMask == InHealth }

// A gate is [Healthy] if its first word under HealthMask is InHealth.
const (
	HealthMask uint64 = healthMask
	InHealth   uint64 = fewest << warmShift
)

// Untimed returns the Permit of an attempt that a healthy gate admits.
func Untimed(first uint64) Permit { return Permit{Generation: uint8(first >> generationShift)} }

// A Gate is one process's view of the Words of a key. Its methods are safe for concurrent
// use, allocate nothing and never block. Instants are Unix nanoseconds.
type Gate struct {
	*Words
	// Rare is true if another host sends the probes: while the gate is shut, the probes of
	// this host are due a quarter as often.
	Rare bool
	// NotBefore is the latest instant before which the service asked not to be called; 0 means
	// none. Set it if [Gate.Heeds]: then no attempt is admitted before NotBefore, and then one
	// probe.
	NotBefore int64
	// FailFast is true if callers do not wait. So there is no backlog that a pace would have
	// to drain: credits are spent without it, and a probe is due after an eighth of a second.
	FailFast bool
}

// A How is how an attempt was admitted.
type How uint8

// The ways of admission.
const (
	Freely    How = iota // in health
	ByCredit             // limited, for a credit
	AsProbe              // limited, without a credit
	Following            // limited, for a credit and without the pace
)

// paid reports whether the attempt has cost a credit.
func (h How) paid() bool { return h == ByCredit || h == Following }

// A Permit is the permission to make one attempt. Pass it to [Gate.Done] once.
type Permit struct {
	// Start is when the attempt was admitted; 0 means that the attempt is not timed. A caller
	// that knows the start nevertheless, as of an attempt that is TimedOut, sets it.
	Start      int64
	Generation uint8 // of the gate when the attempt was admitted
	How        How
}

// An Outcome is how an attempt ended.
type Outcome uint8

// The outcomes of an attempt.
const (
	Cancelled Outcome = iota // no result: the caller gave up, panicked, or made no call
	Success                  // the service responded, even if with a permanent error
	Failure                  // any other failure than the following
	Throttled                // the service asked for fewer calls
	TimedOut                 // the timeout of the attempt ended it
	Cut                      // the deadline of the attempt's caller ended it
	Late                     // the attempt is still running after the time of [Gate.LateAfter]; its end must not be recorded, but for that of [Gate.Learns]
)

// A Change is what an outcome did to a gate.
type Change uint8

// The changes of a gate.
const (
	Unchanged Change = iota
	Limited
	Lifted
)

// Arrive counts an operation, for the demand. Call it once for each operation that finds the
// gate limited, not for retries.
func (g Gate) Arrive(now int64) {
	if g.Limited() {
		g.run(task{kind: arrive, now: now})
	}
}

// Admit admits one attempt. It reports false if the gate is limited and neither a credit nor
// a probe is due.
func (g Gate) Admit(now int64) (Permit, bool) { return g.admit(now, g.FailFast, false) }

// admit is Admit; follows is true if the callers of this process call one after the other, and
// alone if no other caller waits in it.
func (g Gate) admit(now int64, follows, alone bool) (Permit, bool) {
	if first := g.Words[0].Load(); Healthy(first) {
		return Untimed(first), true
	}
	t := g.run(task{kind: admit, now: now, follows: follows, alone: alone})
	return Permit{Start: now, Generation: t.next.generation, How: t.how}, t.admitted
}

// Done records the outcome of an attempt at now.
func (g Gate) Done(p Permit, o Outcome, now int64) Change {
	if o == Success && p.Start == 0 && Healthy(g.Words[0].Load()) {
		return Unchanged
	}
	return g.run(task{kind: done, now: now, permit: p, outcome: o}).change
}

// Limit limits a gate in health, because of a rule outside the gate.
func (g Gate) Limit(now int64) Change { return g.run(task{kind: limit, now: now}).change }

// Warn records that the gates of other hosts are shut. In health, the next two failures in a
// row limit the gate; a gate that knows nothing of the service is limited at once.
func (g Gate) Warn(now int64) Change { return g.run(task{kind: warn, now: now}).change }

// Hasten records that the service has responded to another host. If the gate is shut, the
// next probe is due within one time between probes: after u of it, with u in [0, 1).
func (g Gate) Hasten(now int64, u float64) { g.run(task{kind: hasten, now: now, u: u}) }

// Reset lifts the limit and forgets the results, but not the usual time of an attempt.
func (g Gate) Reset(now int64) Change { return g.run(task{kind: reset, now: now}).change }

// Doubt has the next attempts of a gate in health timed, because the attempt of p takes long.
// It has no effect if the gate has been limited since.
func (g Gate) Doubt(p Permit) {
	g.run(task{kind: doubt, permit: p})
}

// Sample has the next attempt of a healthy gate timed.
func (g Gate) Sample() { g.run(task{kind: sample}) }

// Unmarked returns the Permit of an attempt that is made without admission.
func (g Gate) Unmarked() Permit { return Untimed(g.Words[0].Load()) }

// Next returns the earliest instant, at now or later, at which a limited gate admits an
// attempt if no result is recorded before; now if the gate is in health.
func (g Gate) Next(now int64) int64 {
	s := g.load(now)
	switch {
	case !s.limited:
		return now
	case s.credits > 0:
		return max(min(s.paced(now), s.probeAt(now)), now)
	default:
		return max(s.probeAt(now), now)
	}
}

// NextProbe returns the instant, at now or later, at which the next probe is due if no
// attempt is admitted before; now if the gate is in health.
func (g Gate) NextProbe(now int64) int64 {
	if s := g.load(now); s.limited {
		return max(s.probeAt(now), now)
	}
	return now
}

// A State is the state of a gate.
type State uint8

// The states of a gate.
const (
	Closed   State = iota // in health: no limit
	HalfOpen              // limited, and some attempts succeed
	Open                  // limited, and the last five results were failures, or the last one of a cold gate: only probes are admitted
)

// A Status is a snapshot of a gate.
type Status struct {
	State   State
	Slow    bool          // while limited: the last result took more than twice the usual time
	Credits int           // credits left
	Demand  float64       // operations a second while limited, a lower bound; 0 means not known
	Base    time.Duration // usual time of an attempt; 0 means not known
}

// Status returns a snapshot at now.
func (g Gate) Status(now int64) Status {
	s := g.load(now)
	r := Status{State: s.state(), Base: s.base}
	if s.limited {
		r.Slow, r.Credits, r.Demand = s.slow, s.credits, s.demand(now)
	}
	return r
}

// Reserve returns how long before its end a caller with the time left must stop waiting, so
// that an attempt with that timeout (0 means none) can still finish: four times the usual
// time, six times while results are slow, at least 10 ms, and at most half of left. If the
// usual time is not known, Reserve returns a quarter of left or of [Patience], whichever is
// less. It never returns more than the timeout.
func (g Gate) Reserve(left, timeout time.Duration) time.Duration {
	first := g.Words[0].Load()
	reserve := 4 * baseOf(first)
	if first&slowBit != 0 {
		reserve += reserve / 2
	}
	if reserve == 0 {
		reserve = min(left, Patience) / 4
	}
	reserve = min(max(reserve, tick), left/2)
	if timeout > 0 {
		reserve = min(reserve, timeout)
	}
	return reserve
}

// LateAfter returns the time after which an attempt without a timeout is [Late]: that of the
// function LateAfter, or a sixth of the patience if the usual time is not known.
func (g Gate) LateAfter(patience time.Duration) time.Duration {
	if g.Base() == 0 {
		return min(patience, Patience) / 6
	}
	return LateAfter(patience, g.Base())
}

// LateAfter returns the time after which an attempt without a timeout is [Late]: an eighth of
// its caller's patience, of which at most [Patience] counts, and at least eight times the
// usual time; never, if attempts usually take longer than a gate can know.
func LateAfter(patience, usual time.Duration) time.Duration {
	if usual >= maxBase {
		return never
	}
	return max(min(patience, Patience)/8, 8*usual)
}

// Learns reports whether the success of the attempt of p must be recorded although the attempt was
// [Late]: a cold gate does not know yet how long an attempt takes. If the gate has been limited or
// lifted since, the attempt may have ended a queue.
func (g Gate) Learns(p Permit) bool {
	s := g.load(0)
	return s.cold() && s.generation == p.Generation
}

// Limited reports whether the gate is limited.
func (g Gate) Limited() bool { return g.Words[0].Load()&limitedBit != 0 }

// Shut reports whether the gate is Open: limited, and no attempt succeeds.
func (g Gate) Shut() bool {
	first := g.Words[0].Load()
	s := state{warm: int(first >> warmShift & warmMask)}
	return first&limitedBit != 0 && int(first>>runShift&maxRow) >= s.row()
}

// Heeds reports whether [Gate.NotBefore] delays all callers: one response alone may concern one of
// them only.
func (g Gate) Heeds() bool { return g.Shut() && g.Failures() >= heeded }

// Failures returns how many of the last results in a row were failures of any kind, at most 15.
func (g Gate) Failures() int { return int(g.Words[0].Load() >> runShift & maxRow) }

// Base returns the usual time of an attempt; 0 means not known.
func (g Gate) Base() time.Duration { return baseOf(g.Words[0].Load()) }

// load returns the state of g at now.
func (g Gate) load(now int64) state {
	return g.view(g.Words[0].Load(), g.Words[1].Load(), g.Words[2].Load(), now)
}

// view returns the state that the words a, b and c have at now for this process.
func (g Gate) view(a, b, c uint64, now int64) state {
	s := unpack(a, b, c, now)
	s.rare, s.notBefore, s.failFast = g.Rare, g.NotBefore, g.FailFast
	return s
}
