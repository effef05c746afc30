package circuit

import (
	"context"
	"fmt"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/class"
	"github.com/seed-0f2c7998/perdure/internal/places"
	"github.com/seed-0f2c7998/perdure/internal/seam"
)

// maxConcurrency is the highest Config.Concurrency.
const maxConcurrency = 10_000

// placeReserve is how long before the end of its patience a call stops waiting for a
// place, so that its error says what it has waited for. A call that a
// deadline ends stops twice the time before it that a call is known to take, but not before
// half of its patience is over: with a place that it gets later it could not end. With
// more callers than places that would be most, since who must stop first goes first.
const placeReserve = 10 * time.Millisecond

// limitConcurrency has each call of b take one of n places; 0 means no limit.
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

// takePlace takes a place for a call through c, if they are limited, and waits for
// one if the call waits. A call that its breaker refuses is refused before that,
// unless it is lent the permit of a layer further out.
func (b *Breaker) takePlace(ctx context.Context, c *cell.Cell, a ask, lent bool) (taken bool, err error) {
	if b.places == nil {
		return false, nil
	}
	if !lent {
		if err := b.shutOut(c); err != nil {
			return false, err
		}
	}
	taken = b.places.Take()
	if !taken && a.waits && !b.config.ObserveOnly {
		if taken, err = b.awaitPlace(ctx, c, a, lent); err != nil {
			return false, err
		}
	}
	switch {
	case taken:
		return true, nil
	case ctx.Err() != nil:
		return false, class.Ended(ctx)
	}
	c.Rejected.Add(1)
	if b.config.ObserveOnly {
		return false, nil
	}
	return false, &LimitError{Name: b.name, Limit: ConcurrencyLimit}
}

// awaitPlace waits for a place for as long as the breaker might admit the call with it,
// and reports whether it has taken one.
func (b *Breaker) awaitPlace(ctx context.Context, c *cell.Cell, a ask, lent bool) (taken bool, err error) {
	left := time.Duration(b.turnEnd(ctx, a, 0))
	reserve := placeReserve
	if _, ends := ctx.Deadline(); ends {
		reserve = max(reserve, 2*b.places.Held())
	}
	until := time.Now().Add(left - min(reserve, left/2))
	if lent {
		b.reportQueued(ctx, a, b.firstInMinute(&b.reportPlaceAfter), Reason{code: ConcurrencyReached}, time.Time{})
		return b.places.Wait(ctx, until, nil), nil
	}
	for told := false; ; told = true {
		shuts := b.cell.Interrupted()
		if err := b.refusesWaiting(c); err != nil {
			return false, err
		}
		if !told {
			b.reportQueued(ctx, a, b.firstInMinute(&b.reportPlaceAfter), Reason{code: ConcurrencyReached}, time.Time{})
		}
		if b.places.Wait(ctx, until, shuts) {
			return true, nil
		}
		select {
		case <-shuts: // it is open, or was
		default:
			return false, nil
		}
	}
}

// refusesWaiting returns the refusal of a call that does not get through at once: by a
// breaker that is not closed and has no probe to send, or a gate that is limited and
// does not let calls wait. It returns nil if the call may wait.
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
