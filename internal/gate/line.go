package gate

import (
	"math"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/queue"
)

// The instants at which the head of a line looks again.
const (
	shortestLook = 2 * time.Millisecond
	soonest      = time.Millisecond // a timer is hardly better, and the pace makes up for it
	lookShare    = 64               // of the patience that is left: who has little time looks more often
	longestLook  = quiet / 2        // so that a line is never taken for nobody
	maxLine      = 10_000
	releasing    = costlyMax // in which a line goes whose gate is in health: it may know nothing of the service
)

// A Line holds the callers of one process that a gate has not admitted, the one
// that must leave first at its head. The zero Line is empty and ready for use.
// It is not safe for concurrent use, and does nothing by itself: call [Line.Step]
// until it returns nil after each result, after each [Line.Enter] that returns
// Waiting, and at the instant that [Line.Next] returns.
type Line struct {
	// Shared says that other processes share the gate's words. Then a
	// result does not let the head ask again, and a newcomer does not
	// ask at once: by that all the lines approximate one.
	Shared bool

	waiters queue.Queue[*Waiter] // by the instant of leaving: a reserve before the end of the patience
	release release
}

// A Waiter is a caller in a [Line].
type Waiter struct {
	queue.Entry

	Tag      any    // for the driver of the line
	Permit   Permit // if Admitted
	Admitted bool

	since  int64 // when it came
	end    int64 // of the caller's patience
	look   int64 // when it asks again, if it is the head; of a line that is Shared
	chance float64
	asked  bool
}

// An Entry is what becomes of a caller that comes to a [Line].
type Entry uint8

// The entries to a line.
const (
	Refused  Entry = iota // it may not go, and can't wait
	Admitted              // it may go, with the Permit of its Waiter
	Waiting               // it is in the line
)

// Enter asks for an attempt of a caller whose patience ends at end; an end that is
// not after now means that it does not wait. first says that it is the
// operation's first attempt, u is random, in [0, 1). w must not be in a line.
func (l *Line) Enter(g Gate, w *Waiter, now, end int64, first bool, u float64) Entry {
	if first {
		g.Arrive(now)
	}
	left := time.Duration(end - now)
	leave := end - int64(g.Reserve(left))
	waits := left > 0 && l.waiters.Len() < maxLine && (!g.Shut() || g.NotBefore < leave)
	if !waits || !g.Limited() {
		if w.Permit, w.Admitted = g.Admit(now); w.Admitted {
			return Admitted
		}
	}
	if !waits {
		return Refused
	}
	*w = Waiter{Tag: w.Tag, since: now, end: end, chance: u, look: now + int64(u*float64(lookInterval(left)))}
	l.waiters.Join(w, leave)
	return Waiting
}

// lookInterval returns how long a head whose patience is left waits before it
// looks again.
func lookInterval(left time.Duration) time.Duration {
	return min(max(left/lookShare, shortestLook), longestLook)
}

// Leave takes w out of the line, because its caller has given up. It has no
// effect if w is not in the line.
func (l *Line) Leave(w *Waiter) { l.waiters.Leave(w) }

// Step takes the next caller whose wait is over at now out of the line and
// returns it: it is Admitted, or must leave. Nil means that nobody's is.
func (l *Line) Step(g Gate, now int64) *Waiter {
	if l.waiters.Len() == 0 {
		return nil
	}
	w := l.waiters.Head()
	over := w.Leaves() <= now
	if g.Limited() {
		l.release = release{}
	} else if l.release.of == 0 || l.release.since > now { // ahead: a clock was set back
		l.release = release{since: now, of: l.waiters.Len(), chance: w.chance}
	}
	if l.asks(g, w, now, over) {
		w.asked = true
		w.Permit, w.Admitted = g.admit(now, !l.Shared && l.waiters.Len() == 1)
		if w.Admitted && w.Permit.How == Freely {
			l.release.gone++
		}
	}
	if over || w.Admitted {
		l.waiters.Leave(w)
		return w
	}
	if l.Shared && w.look <= now {
		w.look = now + int64(lookInterval(time.Duration(w.end-now)))
	}
	return nil
}

// A release is how the line of a gate goes that has come to health: of many waiters in
// two seconds, few at first and then faster and faster, as nobody knows yet what the service
// can stand. Those of many processes do not go together.
type release struct {
	since    int64
	of, gone int // waiters
	chance   float64
}

// next returns when the next waiter goes.
func (r release) next() int64 {
	return r.since + int64(math.Sqrt((float64(r.gone)+r.chance)/float64(max(r.of, 1)))*float64(releasing))
}

// Expel takes the head out of the line and returns it: it must leave. Nil means that the
// line is empty.
func (l *Line) Expel() *Waiter {
	if l.waiters.Len() == 0 {
		return nil
	}
	w := l.waiters.Head()
	l.waiters.Leave(w)
	return w
}

// asks reports whether the head w asks the gate at now. One whose wait is over
// asks if it never has, or if the gate is in health, and it still has patience.
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

// Next returns the instant at which the line needs a Step if no result and no
// caller comes before that. It reports false if the line is empty.
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

// OldestWait returns how long the caller in the line has waited that came first.
func (l *Line) OldestWait(now int64) time.Duration {
	oldest := now
	for _, w := range l.waiters.All() {
		oldest = min(oldest, w.since)
	}
	return time.Duration(now - oldest)
}

// Len returns how many callers are in the line.
func (l *Line) Len() int { return l.waiters.Len() }
