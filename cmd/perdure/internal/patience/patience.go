// Package patience waits where the library does not: for a circuit breaker that
// is open, and for the instant that a server has named, longer than a policy
// would. It is for people who would rather have their command wait than come
// back themselves.
package patience

import (
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

// A Patience is how long to wait for leave. A nil *Patience has none. It is
// safe for concurrent use.
type Patience struct {
	Longest time.Duration // from the first refusal or wait of one operation on; 0 means do not wait
	AtGate  time.Duration // how long an operation waits at the gate of its breaker if Longest is 0; 0 means as the library does
	Tell    func(Refusal) // told before a wait, at most each ten seconds, on the goroutine that waits; nil: nobody

	// Learn asks a store what the breakers have not been told yet, and reports
	// whether there may have been something: then it is asked again at once.
	// Nil: there is nothing to learn.
	Learn func(context.Context) bool
}

// A Refusal is that an operation may not go on for now.
type Refusal struct {
	Open    *circuit.OpenError  // of the breaker
	Limit   *circuit.LimitError // of its Config; nil, as is Open: the server has asked
	RetryAt time.Time           // zero: not known
}

// refusal returns the refusal that err is, if it is one: if all that the
// operation lacks is leave.
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

// isBusy reports whether calls of this very process have places of those that the
// operation lacks: it asks again, since they end.
func (r Refusal) isBusy(breakers []*circuit.Breaker) bool {
	return r.Limit != nil && r.Limit.Limit == circuit.ConcurrencyLimit && slices.ContainsFunc(breakers, func(b *circuit.Breaker) bool {
		return b.Name() == r.Limit.Name && b.Metrics().InFlight > 0
	})
}

// Do calls f, and again each time that it is refused and the breakers may let
// it pass. It returns what f last did once that is no refusal, or the time is
// over; or the cause of ctx, if that ends while it waits.
//
// Of all who wait for a half-open breaker one gets leave; the others look at
// its state until the probe is back, and ask no one. Who waits for a rate asks when
// its turn would come.
func (p *Patience) Do(ctx context.Context, breakers func() []*circuit.Breaker, f func(context.Context) error) error {
	if p == nil {
		return f(ctx)
	}
	var told time.Time
	ctx, end := p.bounded(ctx)
	for {
		err := f(ctx)
		r, refused := refusal(err)
		switch {
		case !refused:
			return err
		case p.Learn != nil && p.Learn(ctx):
			continue
		case r.isBusy(breakers()):
			continue
		}
		now := time.Now()
		if p.Longest <= 0 || !now.Before(end()) || r.Limit != nil && r.RetryAt.After(end()) {
			return err
		}
		if now.Sub(told) >= tellEvery && p.tell(r) {
			told = now
		}
		w := wait{refusal: r, breakers: breakers(), since: now, end: end()}
		if !w.over(ctx) {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
	}
}

// bounded returns the context by which an operation waits no longer at a gate than p
// says, and when all its waits are over, which is known at the first one.
func (p *Patience) bounded(ctx context.Context) (bounded context.Context, end func() time.Time) {
	most := p.Longest
	if most <= 0 {
		most = p.AtGate
	}
	end = sync.OnceValue(func() time.Time { return time.Now().Add(most) })
	if most <= 0 {
		return ctx, end
	}
	return seam.WithPatience(ctx, end), end
}

// tell tells of a wait, unless that is for another's probe.
func (p *Patience) tell(r Refusal) bool {
	tells := p.Tell != nil && (r.Open == nil || r.Open.State != circuit.HalfOpen)
	if tells {
		p.Tell(r)
	}
	return tells
}

// A wait is for one refusal to be over.
type wait struct {
	refusal  Refusal
	breakers []*circuit.Breaker
	since    time.Time
	end      time.Time
}

// How often a wait looks, at random between the two: the state is a word in
// memory, and a process that waits shall not notice too late that all is well.
const (
	soonest = 50 * time.Millisecond
	latest  = 100 * time.Millisecond
)

// tellEvery is the least time between two refusals of an operation that are told: a
// gate lets a probe go twice a second.
const tellEvery = 10 * time.Second

// again is after how long one who waits for another's probe asks all the same:
// that may have been given up.
const again = time.Second

// over blocks until it makes sense to ask again, and reports whether it does.
func (w *wait) over(ctx context.Context) bool {
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for {
		now := time.Now()
		next := now.Add(soonest + rand.N(latest-soonest))
		if at := w.refusal.RetryAt; at.After(now) && at.Before(next) {
			next = at.Add(time.Millisecond + rand.N(10*time.Millisecond))
		}
		if next.After(w.end) {
			next = w.end
		}
		timer.Reset(next.Sub(now))
		select {
		case <-timer.C:
		case <-ctx.Done():
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

// passable reports whether a breaker might let the operation pass now.
func (w *wait) passable(now time.Time) bool {
	if w.refusal.Limit != nil && now.Before(w.refusal.RetryAt) {
		return false
	}
	open := w.refusal.Open
	early := open != nil && now.Before(w.refusal.RetryAt) && now.Sub(w.since) < again
	for _, b := range w.breakers {
		if breakers.Peek(b) != nil || early && b.Name() == open.Name && b.State() == open.State {
			return false
		}
	}
	return true
}

// spread waits a little longer for what a server has asked of many at once, up
// to a quarter of the time that it took; it reports false if ctx ends.
func (w *wait) spread(ctx context.Context, now time.Time) bool {
	if w.refusal.Open != nil || w.refusal.Limit != nil {
		return true
	}
	extra := min(now.Sub(w.since)/4, 15*time.Second, w.end.Sub(now))
	if extra <= 0 {
		return true
	}
	timer := time.NewTimer(rand.N(extra))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
