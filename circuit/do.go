package circuit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/class"
	"github.com/seed-0f2c7998/perdure/internal/seam"
	"github.com/seed-0f2c7998/perdure/internal/unwrap"
)

// Do calls f if b admits the call, records the result, and returns what f returned.
//
// The class of f's error, as package retry sees it with the zero Policy, decides what is
// recorded: a transient or unknown error is a failure, a permanent one is a success, and
// an error that says that no call was made is not counted. See [Permit.Throttled]
// for throttled responses. A call that the deadline of ctx ended is not counted,
// unless it took a second or more: then it is a failure.
//
// f may use b again with the context that it is called with: layers that share a breaker
// are admitted once and count once.
//
// The error is f's own; an [*OpenError] or a [*LimitError] if b did not admit the call;
// or the cause of ctx, which matches ctx.Err() too, if ctx ended before. f is called on
// the caller's goroutine. If f panics, the panic passes through and nothing is recorded.
func Do[T any](ctx context.Context, b *Breaker, f func(context.Context) (T, error)) (v T, err error) {
	if ctx.Err() != nil {
		return v, class.Ended(ctx)
	}
	inner, permit, err := b.begin(ctx)
	if err != nil {
		b.reportRefusals(ctx)
		return v, err
	}
	ended := false
	defer func() {
		if !ended {
			permit.Cancel()
		}
	}()
	v, err = f(inner)
	permit.end(ctx, err) // calls methods of err, which may panic
	ended = true
	return v, err
}

// Do is the function [Do] for a call without a value.
func (b *Breaker) Do(ctx context.Context, f func(context.Context) error) error {
	_, err := Do(ctx, b, func(ctx context.Context) (struct{}, error) { return struct{}{}, f(ctx) })
	return err
}

// maxWait is the longest hint of a server that delays other calls: that of the zero
// retry.Policy.
const maxWait = time.Minute

// end records the result of a call of Do.
func (p Permit) end(ctx context.Context, err error) {
	switch {
	case err == nil:
		p.successOf(ctx)
	case errors.Is(ctx.Err(), context.Canceled):
		p.Cancel()
	case p.breaker != nil:
		p.recordEnd(ctx, seam.Result{
			Err: err, Class: uint8(class.Of(err, false)), Hint: class.Hint(err), Limit: maxWait, Late: ctx.Err() != nil,
		})
	}
}

// recordEnd records r, the result of a call with ctx. If the deadline had passed, the
// class of an error that is no response of the service is ignored.
func (p Permit) recordEnd(ctx context.Context, r seam.Result) {
	if p.breaker != nil {
		if p.breaker.gate != nil {
			p = p.withTiming(r.Took, r.TimedOut)
		}
		result := p.resultOf(r.Err, class.Class(r.Class), r.Hint, r.Limit, r.Late)
		result.class = class.Class(r.Class)
		p.done(ctx, result)
	}
}

// resultOf returns the result that recordEnd records.
func (p Permit) resultOf(err error, c class.Class, hint, limit time.Duration, late bool) result {
	switch {
	case p.early() && p.frame == nil && p.breaker.recorded(err):
		return result{signal: cancel} // an inner layer has recorded it, which could not find this permit
	case c == class.Permanent:
		return result{signal: success}
	case c == class.Conflict:
		return result{signal: success, free: true}
	case c == class.Throttled && hint <= limit:
		return result{signal: throttled, hint: hint}
	case c == class.Throttled, c == class.Ignored: // so long a hint delays no other call
		return result{signal: cancel}
	case late:
		return result{signal: cut}
	case hint > limit:
		hint = 0
	}
	return result{signal: failure, hint: hint, timedOut: p.kind&outOfTime != 0 || p.breaker.gate != nil && timedOut(err)}
}

// timedOut reports whether err says that a timeout ended the attempt.
func timedOut(err error) bool {
	return unwrap.Any(err, func(err error) bool {
		t, ok := err.(interface{ Timeout() bool })
		return ok && t.Timeout()
	})
}

// recorded reports whether err is the end of a retry whose attempts were counted by this
// breaker or by one that shares its state.
func (b *Breaker) recorded(err error) bool {
	if b == nil {
		return false
	}
	c := b.cell.Load()
	return unwrap.Any(err, func(err error) bool {
		by, _ := class.CountedBy(err).(*Breaker)
		return by != nil && (by.cell.Load() == c || by.cell.Load().ID() == c.ID())
	})
}

// begin is Acquire for a call whose inner layers may use the same breaker. Package
// breakers documents the results.
func (b *Breaker) begin(ctx context.Context) (context.Context, Permit, error) {
	return b.beginAttempt(ctx, seam.Attempt{})
}

// beginAttempt is begin for an attempt of a retry.
func (b *Breaker) beginAttempt(ctx context.Context, a seam.Attempt) (context.Context, Permit, error) {
	if b == nil {
		return ctx, Permit{}, nil
	}
	c := b.cell.Load()
	w := packedState(c.Breaker.Load())
	if seam.Of(b).Layers.Load() == single && (b.calm(c, w) || b.turnNow(c, w)) {
		return ctx, b.permit(c, w), nil
	}
	inner, _ := ctx.Value(frameKey{}).(*frame)
	outer := inner.find(c)
	if outer != nil {
		seam.Of(b).Layers.Store(several)
		seam.Of(outer.breaker).Layers.Store(several)
	}
	p, shared := outer.sharePermit(ctx, b)
	all := ask{Attempt: a, waits: true}
	has, err := outer.yieldPlace(b), error(nil)
	if !has {
		if has, err = b.takePlace(ctx, c, all, shared); err != nil {
			return ctx, Permit{}, err
		}
		w = packedState(c.Breaker.Load()) // it may have waited
	}
	switch {
	case shared:
	case b.calm(c, w):
		p = b.permit(c, w)
	default:
		if p, err = b.acquire(ctx, c, w, all); err != nil || p.breaker == nil {
			if has {
				b.places.Free()
			}
			return ctx, p, err
		}
	}
	f := &frame{Context: ctx, next: inner, cell: c, breaker: b, held: held{permit: p, shared: shared, outer: outer}, placed: has}
	p.frame = f
	if has {
		p.kind |= placed
	}
	return f, p, nil
}

// How many layers of a call use the breaker, as far as known.
const (
	unseen  = 0           // no call has ended
	single  = seam.Single // one layer
	several = 2           // two or more: calls carry a frame even in full health
)

// nest returns ctx with the frames of from, and reports whether that is a new context.
func nest(ctx, from context.Context) (nested context.Context, another bool) {
	f := from.Value(frameKey{})
	if f == nil || f == ctx.Value(frameKey{}) {
		return ctx, false
	}
	return context.WithValue(ctx, frameKey{}, f), true
}

type frameKey struct{}

// A frame is the context of one call in progress, by which its inner layers find the
// call's permit. All layers that share a breaker record one result.
type frame struct {
	context.Context //nolint:containedctx // one allocation instead of two

	next    *frame // the next outer call, of any cell
	cell    *cell.Cell
	breaker *Breaker

	mu       sync.Mutex
	held     held   // guarded by mu, as are the following
	recorded bool   // the result of an inner layer has been recorded
	pending  bool   // last is a success of an inner layer that is not recorded yet
	last     result // last result of an inner layer
	over     bool   // the frame's own call has ended
	placed   bool   // the call holds a place of Config.Concurrency
}

// String implements what fmt prints of a context, without the fields that mu guards.
func (f *frame) String() string {
	return fmt.Sprintf("%v.WithBreaker(%s)", f.Context, f.breaker.name)
}

// Value returns f for frameKey, else the value of the context.
func (f *frame) Value(key any) any {
	if key == (frameKey{}) {
		return f
	}
	return f.Context.Value(key)
}

// A held is a permit, and the frame to which its result is reported.
type held struct {
	permit Permit // without a frame
	shared bool   // permit is that of outer
	outer  *frame // of the same cell; nil if this is the outermost layer
}

// find returns the first frame, from f outwards, of a call through c that has not ended;
// nil if none. A context may outlive its call.
func (f *frame) find(c *cell.Cell) *frame {
	for ; f != nil; f = f.next {
		if (f.cell == c || f.cell.ID() == c.ID()) && f.inProgress() { // a file can be mapped twice
			return f
		}
	}
	return nil
}

// inProgress reports whether the frame's own call has not ended.
func (f *frame) inProgress() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.over
}

// sharePermit returns the frame's permit for a call of an inner layer, and reports
// whether the permit is still unused.
func (f *frame) sharePermit(ctx context.Context, b *Breaker) (Permit, bool) {
	if f == nil {
		return Permit{}, false
	}
	f.mu.Lock()
	earlier, pending, last := f.held, f.pending, f.last
	f.recorded, f.pending = f.recorded || pending, false
	shared := !f.recorded
	f.mu.Unlock()
	if pending {
		earlier.record(ctx, last) // another call follows, so it was not the last
	}
	return Permit{breaker: b, kind: earlier.permit.kind, start: b.elapsed()}, shared
}

// yieldPlace reports whether the call of f, or an outer one, held a place of b, and passes
// the place to the caller: the innermost layer holds the place, so no layer waits for a
// place while it holds one.
func (f *frame) yieldPlace(b *Breaker) bool {
	for f != nil && b.places != nil {
		f.mu.Lock()
		outer, has := f.held.outer, f.placed && f.breaker.places == b.places
		f.placed = f.placed && !has
		f.mu.Unlock()
		if has {
			return true
		}
		f = outer
	}
	return false
}

// keepPlace takes over the place of the call with ctx, and returns the function that
// frees the place, as the end of until does; nil if the call holds no place.
func (b *Breaker) keepPlace(ctx, until context.Context) (free func()) {
	if b == nil || b.places == nil {
		return nil
	}
	f, _ := ctx.Value(frameKey{}).(*frame)
	if !f.find(b.cell.Load()).yieldPlace(b) {
		return nil
	}
	once := sync.OnceFunc(func() { b.places.Free() }) // refers to b, so that no Registry evicts b
	stop := context.AfterFunc(until, once)
	return func() { stop(); once() }
}

// record records r, or reports r to the outer frame. No lock is held, since an observer
// may be called.
func (h held) record(ctx context.Context, r result) {
	switch {
	case h.outer == nil:
		h.permit.record(ctx, r)
	case h.shared:
		h.outer.recordInner(ctx, r, nil)
	default:
		h.outer.recordInner(ctx, r, &h.permit)
	}
}

// end records r, the result that the frame's own layer reports.
func (f *frame) end(ctx context.Context, r result) {
	if r.signal != cancel && seam.Of(f.breaker).Layers.Load() == unseen {
		seam.Of(f.breaker).Layers.CompareAndSwap(unseen, single)
	}
	f.mu.Lock()
	h, pending, spent, last := f.held, f.pending, f.recorded, f.last
	f.recorded, f.pending, f.over = true, false, true
	has := f.placed
	f.placed = false
	f.mu.Unlock()
	if has {
		defer f.breaker.places.Free()
	}
	switch {
	case pending && (r.signal == cancel || r.signal == cut):
		h.record(ctx, last)
	case pending || !spent:
		h.record(ctx, r)
	}
}

// recordInner records r, the result that an inner layer reports: for its own permit, or
// for the frame's permit if own is nil. A success stays pending until it is known to be
// the last.
func (f *frame) recordInner(ctx context.Context, r result, own *Permit) {
	if r.signal == cancel || r.signal == cut {
		f.undecided(ctx, r, own)
		return
	}
	f.mu.Lock()
	earlier, last := f.held, f.last
	pending := f.pending && own != nil // otherwise both shared one permit, concurrently: a failure counts for both
	f.recorded, f.pending = f.recorded || pending, false
	by := f.held // records r now; without a permit, nothing is recorded
	if own != nil {
		by.permit, by.shared = *own, false
	}
	switch {
	case r.signal == success && f.mayDecide(own):
		f.pending, f.last, f.held = true, r, by
		by.permit = Permit{}
	case own == nil && f.recorded && by.permit.Probe():
		by.permit = Permit{} // already counted
	default:
		f.recorded = true
	}
	f.mu.Unlock()
	if pending {
		earlier.record(ctx, last)
	}
	if by.permit.breaker != nil {
		by.record(ctx, r)
	}
}

// mayDecide reports whether the result of the frame's own layer may count instead of a
// success that an inner layer reports for own. f.mu is held.
func (f *frame) mayDecide(own *Permit) bool { return !f.over && (own != nil || !f.recorded) }

// undecided records r, a cancelled or cut call of an inner layer, for the inner layer's own
// permit. The frame's permit stays unused.
func (f *frame) undecided(ctx context.Context, r result, own *Permit) {
	f.mu.Lock()
	h := f.held
	f.mu.Unlock()
	switch {
	case own != nil:
		own.record(ctx, r)
	case r.signal == cut && !h.permit.Probe():
		h.permit.record(ctx, r) // so that the next calls are measured
	}
}
