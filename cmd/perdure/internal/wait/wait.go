// Package wait waits where the library does not: for an open circuit breaker, and for
// the instant that a server has named, longer than a policy would.
package wait

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/seam"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A Waiter repeats operations that are refused. A nil *Waiter calls each operation
// once. It is safe for concurrent use.
type Waiter struct {
	// Max is how long one operation waits, counted from its first refusal or wait;
	// 0 means do not wait.
	Max time.Duration
	// AtGate is how long one operation waits at the gate of its breaker if Max is 0;
	// 0 means as long as the library waits.
	AtGate time.Duration
	// OnWait is called before a wait, on the goroutine that waits, at most once in 10
	// seconds for one operation. If nil, it is not called.
	OnWait func(Refusal)
	// Refresh reads from a store what the breakers do not know yet, and reports whether
	// they may have changed: then the operation is repeated at once. If nil, it is not
	// called.
	Refresh func(context.Context) bool
}

// A Refusal says why an operation may not be made now. If Open and Limit are nil, a
// server has asked to come back later.
type Refusal struct {
	Open    *circuit.OpenError
	Limit   *circuit.LimitError
	RetryAt time.Time // zero if it is not known
}

// refusal returns err as a Refusal, if err is one.
func refusal(err error) (r Refusal, refused bool) {
	stop := err
	if e, ok := errors.AsType[*retry.Error](err); ok {
		stop, r.RetryAt = e.Stop, e.RetryAt
	}
	if open, ok := errors.AsType[*circuit.OpenError](stop); ok {
		return Refusal{Open: open, RetryAt: open.RetryAt}, true
	}
	if limit, ok := errors.AsType[*circuit.LimitError](stop); ok {
		return Refusal{Limit: limit, RetryAt: limit.RetryAt}, true
	}
	return r, errors.Is(stop, retry.ErrRetryLater)
}

// isBusy reports whether calls of this process hold the places that the operation
// lacks: such a call ends, so the operation is repeated.
func (r Refusal) isBusy(breakers []*circuit.Breaker) bool {
	return r.Limit != nil && r.Limit.Limit == circuit.ConcurrencyLimit && slices.ContainsFunc(breakers, func(b *circuit.Breaker) bool {
		return b.Name() == r.Limit.Name && b.Metrics().InFlight > 0
	})
}

// Do calls f, and calls it again each time that f is refused and the breakers may let
// it pass. It returns what f last returned once that is no refusal or Max is over; or
// the cause of ctx, if ctx ends during a wait.
//
// Of several operations that wait for a half-open breaker, one gets permission; the
// others read its state until the probe has ended. An operation that waits for a rate, or
// after Retry-After, is repeated when its turn comes, and not at all if that is after Max.
func (w *Waiter) Do(ctx context.Context, breakers func() []*circuit.Breaker, f func(context.Context) error) error {
	if w == nil {
		return f(ctx)
	}
	var reported time.Time
	ctx, end := w.bounded(ctx)
	for {
		err := f(ctx)
		r, refused := refusal(err)
		switch {
		case !refused:
			return err
		case ctx.Err() != nil: // there is no wait to report
			return context.Cause(ctx)
		case w.Refresh != nil && w.Refresh(ctx):
			continue
		case r.isBusy(breakers()):
			continue
		}
		now := time.Now()
		if w.Max <= 0 || !now.Before(end()) || r.Open == nil && r.RetryAt.After(end()) {
			return err
		}
		if now.Sub(reported) >= reportEvery && w.report(r) {
			reported = now
		}
		one := wait{refusal: r, breakers: breakers(), since: now, end: end()}
		if !one.over(ctx) {
			return cmp.Or(context.Cause(ctx), err)
		}
	}
}

// bounded returns a context that limits how long an operation waits at a gate, and the
// end of all its waits, which is fixed when it is first called.
func (w *Waiter) bounded(ctx context.Context) (bounded context.Context, end func() time.Time) {
	most := w.Max
	if most <= 0 {
		most = w.AtGate
	}
	end = sync.OnceValue(func() time.Time { return time.Now().Add(most) })
	if most <= 0 {
		return ctx, end
	}
	return seam.WithPatience(ctx, end), end
}

// report calls OnWait, unless the wait is for the probe of another operation.
func (w *Waiter) report(r Refusal) bool {
	reports := w.OnWait != nil && (r.Open == nil || r.Open.State != circuit.HalfOpen)
	if reports {
		w.OnWait(r)
	}
	return reports
}

// A wait is the wait after one refusal.
type wait struct {
	refusal  Refusal
	breakers []*circuit.Breaker
	since    time.Time
	end      time.Time
}

// A wait reads the state at random intervals from minPoll to maxPoll: the state is in
// memory, and recovery must not be noticed late.
const (
	minPoll = 50 * time.Millisecond
	maxPoll = 100 * time.Millisecond
)

// reportEvery is the least time between two reports of one operation: a gate admits a
// probe twice a second.
const reportEvery = 10 * time.Second

// probeWait is how long an operation waits for the probe of another operation before
// it is repeated all the same: that probe may have been cancelled.
const probeWait = time.Second

// over blocks until the operation is worth repeating, and reports whether it is.
func (w *wait) over(ctx context.Context) bool {
	for {
		now := time.Now()
		next := now.Add(minPoll + rand.N(maxPoll-minPoll))
		if at := w.refusal.RetryAt; at.After(now) && at.Before(next) {
			next = at.Add(time.Millisecond + rand.N(10*time.Millisecond))
		}
		if next.After(w.end) {
			next = w.end
		}
		if !pause(ctx, next.Sub(now)) {
			return false
		}
		now = time.Now()
		switch {
		case w.passable(now):
			return w.spread(ctx, now)
		case !now.Before(w.end):
			return false
		}
	}
}

// pause waits for d and reports whether ctx has not ended before.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// passable reports whether the breakers might let the operation pass now.
func (w *wait) passable(now time.Time) bool {
	open := w.refusal.Open
	if open == nil && now.Before(w.refusal.RetryAt) {
		return false
	}
	early := open != nil && now.Before(w.refusal.RetryAt) && now.Sub(w.since) < probeWait
	for _, b := range w.breakers {
		if breakers.Peek(b) != nil || early && b.Name() == open.Name && b.State() == open.State {
			return false
		}
	}
	return true
}

// spread waits a little longer if a server has asked for the wait, since it has asked
// many at once: up to a quarter of the wait, at most 15 seconds. It reports whether
// ctx has not ended before.
func (w *wait) spread(ctx context.Context, now time.Time) bool {
	if w.refusal.Open != nil || w.refusal.Limit != nil {
		return true
	}
	extra := min(now.Sub(w.since)/4, 15*time.Second, w.end.Sub(now))
	return extra <= 0 || pause(ctx, rand.N(extra))
}
