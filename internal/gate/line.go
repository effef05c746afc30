package gate

import (
	"cmp"
	"math"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/queue"
)

// The instants at which the head of a line asks again.
const (
	shortestLook = 2 * time.Millisecond
	soonest      = time.Millisecond // timers are hardly more exact, and the pace makes up for it
	lookShare    = 64               // part of its time after which a caller asks again that has just entered
	longestLook  = quiet / 2        // so that a line never looks empty to the gate
	outrun       = 13               // callers that are so far ahead follow
	mostAhead    = 15               // the most that callers are ahead
	follower     = 5                // what a caller adds that calls again after a success
	anyone       = 2                // what an admission takes, and a retry adds
	coincides    = 1. / 20          // part of the mean time between callers in which one arrives by chance
	maxLine      = 10_000
	releasing    = 2300 * time.Millisecond // time in which the line of a gate in health empties
)

// A Line holds the callers of one process that a gate has not admitted. At its head is the
// caller that must stop waiting first. The zero Line is empty and ready for use. It is not
// safe for concurrent use and has no timer: call [Line.Step] until it returns nil after
// each result, after each [Line.Enter] that returns Waiting, and at the instant that
// [Line.Next] returns.
type Line struct {
	// Shared is true if other processes share the gate's words. Then the head does not ask after
	// each result, but when a caller enters and at intervals: so the lines of all processes
	// approximate one line.
	Shared bool

	waiters queue.Queue[*Waiter] // ordered by the instant at which each stops waiting
	release release

	pause     time.Duration // of a Shared line: the most between two looks; 0 means longestLook
	succeeded int64         // when an attempt of this process last succeeded
	fresh     int           // successes at about that instant after which no caller has called again
	ahead     int           // how far callers that call again are ahead of admissions, at most mostAhead
}

// A Waiter is a caller in a [Line].
type Waiter struct {
	queue.Entry

	Tag      any           // for the driver of the line
	Timeout  time.Duration // of the attempt, set before Enter; 0 means none
	Permit   Permit        // if Admitted
	Admitted bool

	since  int64 // when the caller entered
	end    int64 // until when the caller waits
	look   int64 // of a Shared line: when the caller asks again if it is the head
	chance float64
	asked  bool
}

// An Entry is the result of [Line.Enter].
type Entry uint8

// The results of Enter.
const (
	Refused  Entry = iota // the caller is not admitted and cannot wait
	Admitted              // the caller is admitted, with the Permit of its Waiter
	Waiting               // the caller is in the line
)

// Enter asks for an attempt of a caller that waits until end; if end is not after now, the
// caller does not wait. first is true for the first attempt of an operation. u is random,
// in [0, 1). w must not be in a line.
func (l *Line) Enter(g Gate, w *Waiter, now, end int64, first bool, u float64) Entry {
	if first {
		g.Arrive(now)
	}
	if g.Limited() {
		l.count(g, now, first)
	} else {
		l.ahead, l.fresh, l.pause = 0, 0, 0
	}
	left := time.Duration(end - now)
	leave := end - int64(g.Reserve(left, w.Timeout))
	waits := left > 0 && l.waiters.Len() < maxLine && (!g.Shut() || g.NotBefore < leave)
	if !waits || !g.Limited() {
		if w.Permit, w.Admitted = g.Admit(now); w.Admitted {
			return Admitted
		}
	}
	if !waits {
		return Refused
	}
	*w = Waiter{Tag: w.Tag, Timeout: w.Timeout, since: now, end: end, chance: u, look: now + int64(u*float64(lookInterval(left, left)))}
	l.waiters.Join(w, leave)
	if l.ahead >= outrun {
		l.waiters.Head().look = now
	}
	return Waiting
}

// Succeeded records that an attempt of this process has succeeded while the gate is limited.
func (l *Line) Succeeded(now int64) {
	if now-l.succeeded > int64(soonest) || now < l.succeeded {
		l.fresh = 0
	}
	l.succeeded = now
	l.fresh++
}

// count counts a caller that enters the line. A caller that arrives so soon after a success
// that it is hardly there by chance is the one that succeeded: it calls one after the other.
// Such callers determine the demand. The pace would keep them at a fraction of what the
// service can serve, since what they cannot call for does not count.
func (l *Line) count(g Gate, now int64, first bool) {
	by := anyone
	switch {
	case first:
		after, s := time.Duration(now-l.succeeded).Seconds(), g.load(now)
		if l.fresh == 0 || after < 0 || after*s.demand(now) > coincides {
			return
		}
		l.fresh--
		by = follower
	case l.ahead < follower:
		return
	}
	l.ahead = min(l.ahead+by, mostAhead)
}

// looked adapts the pause to a look that has admitted a caller, or not. A process that has
// many of the callers is admitted at each look, and looks more often: without that, it
// would be admitted no more often than it looks. Where many processes compete, most looks admit no caller.
func (l *Line) looked(admitted bool) {
	pause := cmp.Or(l.pause, longestLook)
	if l.pause = min(pause+pause/2, longestLook); admitted {
		l.pause = max(pause/2, tick)
	}
}

// lookInterval returns how long a head that has left of its time waits before it asks again. The
// interval falls with the square of left: of many lines that share a gate, those whose head must
// leave soon ask so much more often that they come first, as in one line.
func lookInterval(left, of time.Duration) time.Duration {
	share := float64(left) / float64(of)
	return min(max(time.Duration(share*float64(left)/lookShare), shortestLook), longestLook)
}

// Leave takes w out of the line, because its caller has given up. It has no effect if w is
// not in the line.
func (l *Line) Leave(w *Waiter) { l.waiters.Leave(w) }

// Step takes the next caller whose wait is over at now out of the line and returns it: the
// caller is Admitted or must give up. Nil means that no wait is over.
func (l *Line) Step(g Gate, now int64) *Waiter {
	if l.waiters.Len() == 0 {
		return nil
	}
	w := l.waiters.Head()
	over := w.Leaves() <= now
	if g.Limited() {
		l.release = release{}
	} else if l.release.of == 0 || l.release.since > now { // later than now: the clock was put back
		l.release = release{since: now, of: l.waiters.Len(), chance: w.chance}
	}
	if l.asks(g, w, now, over) {
		w.asked = true
		w.Permit, w.Admitted = g.admit(now, l.ahead >= outrun, !l.Shared && l.waiters.Len() == 1)
		if w.Admitted && w.Permit.How.paid() {
			l.ahead = max(l.ahead-anyone, 0)
			l.looked(true)
		}
		if w.Admitted && w.Permit.How == Freely {
			l.release.gone++
		}
	}
	if over || w.Admitted {
		l.waiters.Leave(w)
		return w
	}
	if l.Shared && w.look <= now {
		l.looked(false)
		w.look = now + int64(min(lookInterval(time.Duration(w.end-now), time.Duration(w.end-w.since)), l.pause))
	}
	return nil
}

// A release is the plan by which the line empties when the limit is lifted: over 2.3 s,
// slowly at first and then faster, since the service may not stand all callers at once.
// The chance is random, so that processes do not release together.
type release struct {
	since    int64
	of, gone int // waiters
	chance   float64
}

// next returns when the next caller is released.
func (r release) next() int64 {
	return r.since + int64(math.Sqrt((float64(r.gone)+r.chance)/float64(max(r.of, 1)))*float64(releasing))
}

// Expel takes the head out of the line and returns it: the caller must give up. Nil means
// that the line is empty.
func (l *Line) Expel() *Waiter {
	if l.waiters.Len() == 0 {
		return nil
	}
	w := l.waiters.Head()
	l.waiters.Leave(w)
	return w
}

// asks reports whether the head w asks the gate at now. A head whose wait is over asks if it
// never has or if the gate is in health, provided that it still has time.
func (l *Line) asks(g Gate, w *Waiter, now int64, over bool) bool {
	limited := g.Limited()
	switch {
	case over:
		return (!w.asked || !limited) && now < w.end
	case !limited:
		return l.release.next() <= now
	default:
		return !l.Shared || w.look <= now
	}
}

// Next returns the instant at which the line needs a Step if there is no result and no new
// caller before. It reports false if the line is empty.
func (l *Line) Next(g Gate, now int64) (at int64, ok bool) {
	if l.waiters.Len() == 0 {
		return 0, false
	}
	w := l.waiters.Head()
	if !g.Limited() {
		return min(w.Leaves(), max(l.release.next(), now), now+int64(longestLook)), true
	}
	if !l.Shared {
		return min(w.Leaves(), max(g.Next(now), now+int64(soonest)), now+int64(longestLook)), true
	}
	probe := g.NextProbe(now)
	if w.asked && probe > now && probe < w.look {
		w.look = probe
	}
	return min(w.Leaves(), w.look), true
}

// OldestWait returns how long the caller that entered first has waited.
func (l *Line) OldestWait(now int64) time.Duration {
	oldest := now
	for _, w := range l.waiters.All() {
		oldest = min(oldest, w.since)
	}
	return time.Duration(now - oldest)
}

// Len returns the number of callers in the line.
func (l *Line) Len() int { return l.waiters.Len() }
