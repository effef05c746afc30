package circuit

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/class"
	"github.com/seed-0f2c7998/perdure/internal/gate"
	"github.com/seed-0f2c7998/perdure/internal/places"
	"github.com/seed-0f2c7998/perdure/internal/seam"
)

// A localGate is the part of a gate that is in this process, beside the words in its cell.
type localGate struct {
	wait            bool // Config.Gate is Wait
	waiting         atomic.Int32
	reportedOpening atomic.Uint64 // the opening in which a wait was reported

	mu    sync.Mutex
	line  gate.Line   // guarded by mu
	timer *time.Timer // runs serveLine; guarded by mu

	watches watches
}

func newLocalGate(mode GateMode, shared bool) *localGate {
	return &localGate{wait: mode == Wait, line: gate.Line{Shared: shared}}
}

// An ask is what a call asks for.
type ask struct {
	seam.Attempt

	waits bool // the call may wait
	turn  bool // the turn of the call by the rate limit has come
}

// waitEnd returns until when the caller waits, in the breaker's time: the earliest end
// that the caller has set, or 30 s from now if none.
func (b *Breaker) waitEnd(ctx context.Context, a ask, now int64) int64 {
	end, set := ctx.Deadline()
	if !a.Until.IsZero() && (!set || a.Until.Before(end)) {
		end, set = a.Until, true
	}
	if own, ok := seam.PatienceEnds(ctx); ok && (!set || own.Before(end)) {
		end, set = own, true
	}
	if !set {
		return now + int64(gate.Patience)
	}
	return now + int64(min(end.Sub(b.clock()), forever))
}

// forever is longer than any call waits. Deadlines that are centuries away would overflow
// an instant.
const forever = 100 * 365 * 24 * time.Hour

// enterLine asks g, whose words are in c, to admit an attempt, and waits for it until end.
func (b *Breaker) enterLine(ctx context.Context, c *cell.Cell, g gate.Gate, now, end int64, a ask) (gate.Permit, bool) {
	w := gate.Waiter{Timeout: a.Timeout}
	if end <= now {
		var empty gate.Line // a call that does not wait
		return w.Permit, empty.Enter(g, &w, now, end, !a.Retries, 0) == gate.Admitted
	}
	done := make(chan struct{})
	w.Tag = done
	t := b.gate
	t.mu.Lock()
	entry := t.line.Enter(g, &w, now, end, !a.Retries, b.chance())
	if entry == gate.Waiting {
		b.serveLineLocked(g)
	}
	t.mu.Unlock()
	if entry == gate.Waiting {
		b.awaitAdmission(ctx, c, g, &w, done, a)
	}
	return w.Permit, w.Admitted
}

// awaitAdmission waits until done is closed, when w has left the line, or ctx ends.
func (b *Breaker) awaitAdmission(ctx context.Context, c *cell.Cell, g gate.Gate, w *gate.Waiter, done chan struct{}, a ask) {
	select {
	case <-done: // admitted at once
		return
	default:
	}
	ended := b.countWait(c)
	defer func() { a.WasWaiting(seam.AtGate, ended(w.Admitted)) }()
	b.reportWaitAtGate(ctx, a)
	select {
	case <-done:
		return
	case <-ctx.Done():
	}
	t := b.gate
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-done: // w has left the line meanwhile
		if w.Admitted {
			g.Done(w.Permit, gate.Cancelled, b.now())
		}
	default:
		t.line.Leave(w)
	}
	w.Admitted = false
	b.serveLineLocked(g)
}

// countWait counts a wait at the gate that begins, and returns the function that counts
// its end and returns its duration.
func (b *Breaker) countWait(c *cell.Cell) (ended func(admitted bool) time.Duration) {
	begun, episode := b.elapsed(), c.Gate[0].Load()>>generationAt
	c.Waits.Add(1)
	addTo(&c.Gate[waitingWord], episode, 1)
	return func(admitted bool) time.Duration {
		if !admitted {
			c.Abandoned.Add(1)
		}
		addTo(&c.Gate[waitingWord], episode, -1)
		waited := b.elapsed() - begun
		c.Waited.Add(uint64(waited)) //nolint:gosec // monotonic
		return time.Duration(waited)
	}
}

// The words that count the calls waiting at the gate, and the calls admitted since it was
// limited: generation of the gate 8 | number 56. When the limit is lifted, they restart
// from 0, without the calls of processes that were killed.
const (
	waitingWord  = 3
	admittedWord = 4
	generationAt = 56
	numberMask   = 1<<generationAt - 1
)

// addTo adds d to the number of that generation in word.
func addTo(word *atomic.Uint64, generation uint64, d int64) {
	for {
		old := word.Load()
		n := int64(number(old, generation)) + d
		if n < 0 {
			return // of another generation
		}
		if word.CompareAndSwap(old, generation<<generationAt|uint64(n)) { //nolint:gosec // not negative
			return
		}
	}
}

// number returns the number of that generation in word.
func number(word, generation uint64) int {
	if word>>generationAt != generation {
		return 0
	}
	return int(word & numberMask) //nolint:gosec // 56 bits
}

// reportWaitAtGate reports that a call begins to wait: to the caller's retry if there is
// one, and else the first wait of an opening to Config.Observe.
func (b *Breaker) reportWaitAtGate(ctx context.Context, a ask) {
	opening := b.opening(Open)
	first := b.gate.reportedOpening.Swap(opening) != opening
	b.reportQueued(ctx, a, seam.AtGate, first, time.Time{})
}

// serveLineLocked ends the waits of calls that are admitted or whose time is over, and
// sets the timer for the next. b.gate.mu is held.
func (b *Breaker) serveLineLocked(g gate.Gate) {
	t := b.gate
	now := b.now()
	for w := b.next(g, now); w != nil; w = b.next(g, now) {
		close(w.Tag.(chan struct{})) //nolint:errcheck,forcetypeassert // enterLine sets no other
	}
	t.waiting.Store(int32(t.line.Len())) //nolint:gosec // the line is bounded
	at, ok := t.line.Next(g, now)
	switch {
	case !ok && t.timer == nil:
	case !ok:
		t.timer.Stop()
	case t.timer == nil:
		t.timer = time.AfterFunc(time.Duration(at-now), b.serveLine)
	default:
		t.timer.Reset(time.Duration(at - now))
	}
}

// next takes the next call whose wait is over out of the line; nil if none. If the breaker
// is open, all waits are over. b.gate.mu is held.
func (b *Breaker) next(g gate.Gate, now int64) *gate.Waiter {
	if b.shut(packedState(b.cell.Load().Breaker.Load()), floor(now)) {
		return b.gate.line.Expel()
	}
	return b.gate.line.Step(g, now)
}

// serveLine is serveLineLocked, after a result or when the timer fires.
func (b *Breaker) serveLine() {
	b.gate.mu.Lock()
	defer b.gate.mu.Unlock()
	b.serveLineLocked(b.gateOf(b.cell.Load()))
}

// succeeded tells the line of a success of this process, if g is limited.
func (t *localGate) succeeded(g gate.Gate, now int64) {
	if !g.Limited() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.line.Succeeded(now)
}

// oldestWait returns how long the call that arrived first has waited.
func (t *localGate) oldestWait(now int64) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.line.OldestWait(now)
}

// maxConcurrency is the highest Config.Concurrency.
const maxConcurrency = 10_000

// placeReserve is how long before its end a wait for a place stops, so that the error can
// say what the call waited for. A call with a deadline stops twice the mean duration of
// a call before it, but waits for at least half of its time: with a later place it could
// not finish, and with more callers than places most calls would get such a place, since
// the call that must stop first is served first.
const placeReserve = 10 * time.Millisecond

// limitConcurrency limits the calls in flight to n; 0 means no limit.
func (b *Breaker) limitConcurrency(n int) {
	if n == 0 {
		return
	}
	b.places = &b.cell.Places
	var locks func(int) places.Locks
	if host, ok := b.store.(cell.Hosted); ok {
		locks = func(n int) places.Locks { return host.Locks(b.name, n) }
	}
	if lowest := b.places.Limit(n, locks); lowest < n {
		b.log().Warn(fmt.Sprintf("circuit breaker %q: concurrency %d has no effect: another breaker of that name has %d",
			b.name, n, lowest), "event", "lower_concurrency", "breaker", b.name)
	}
	seam.Of(b).Paced = true
}

// takePlace takes a place for a call through c, if b has a Concurrency, and waits for a
// place if the call may wait. A call that the breaker refuses is refused first, unless
// it shares the permit of an outer layer.
func (b *Breaker) takePlace(ctx context.Context, c *cell.Cell, a ask, shared bool) (taken bool, err error) {
	if b.places == nil {
		return false, nil
	}
	if !shared {
		if err := b.shutOut(c); err != nil {
			return false, err
		}
	}
	taken = b.places.Take()
	if !taken && a.waits && !b.config.ObserveOnly {
		begun := b.elapsed()
		taken, err = b.awaitPlace(ctx, c, a, shared)
		a.WasWaiting(seam.ForPlace, time.Duration(b.elapsed()-begun))
		if err != nil {
			return false, err
		}
	}
	switch {
	case taken:
		return true, nil
	case ctx.Err() != nil:
		return false, class.Ended(ctx)
	}
	c.Refuse(cell.RefusedLimit)
	if b.config.ObserveOnly {
		return false, nil
	}
	return false, &LimitError{Name: b.name, Limit: ConcurrencyLimit}
}

// awaitPlace waits for a place while the breaker might admit the call, and reports whether
// it has taken one.
func (b *Breaker) awaitPlace(ctx context.Context, c *cell.Cell, a ask, shared bool) (taken bool, err error) {
	left := time.Duration(b.turnEnd(ctx, a, 0))
	reserve := placeReserve
	if _, ends := ctx.Deadline(); ends {
		reserve = max(reserve, 2*b.places.Held())
	}
	until := time.Now().Add(left - min(reserve, left/2))
	if shared {
		b.reportQueued(ctx, a, seam.ForPlace, b.firstInMinute(&b.reportPlaceAfter), time.Time{})
		return b.places.Wait(ctx, until, nil), nil
	}
	for reported := false; ; reported = true {
		shuts := b.cell.Interrupted()
		if err := b.refusesWaiting(c); err != nil {
			return false, err
		}
		if !reported {
			b.reportQueued(ctx, a, seam.ForPlace, b.firstInMinute(&b.reportPlaceAfter), time.Time{})
		}
		if b.places.Wait(ctx, until, shuts) {
			return true, nil
		}
		select {
		case <-shuts: // the breaker is open, or was
		default:
			return false, nil
		}
	}
}

// refusesWaiting counts and returns the refusal of a call that would wait in vain: the
// breaker is not closed and sends no probe, or its gate is limited and does not let
// calls wait. It returns nil if the call may wait.
func (b *Breaker) refusesWaiting(c *cell.Cell) error {
	if w := packedState(c.Breaker.Load()); w.state() != Closed {
		now := b.now()
		if _, admitted := b.rules.step(w, event{signal: acquire, now: floor(now), begin: ceil(now)}); !admitted {
			return b.rejected(w, floor(now))
		}
	}
	if b.gate != nil && !b.gate.wait && b.gateOf(c).Limited() {
		return b.gateRefusal(c, b.gateOf(c))
	}
	return nil
}
