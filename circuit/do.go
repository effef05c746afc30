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

// Do makes one call of f if b admits it, and returns its value. What f's error
// means for b is what it means in package retry with the zero Policy: a
// transient or unknown one is a failure, a permanent one is not, and one that
// says that no call was made counts for nothing. So does one that the deadline of
// ctx has cut short; but the breaker measures its next calls, and one that is cut
// short after a second or more is a failure. See [Permit.Throttled] for the others.
//
// f may come by b again, by the context that it is given: layers that share a
// breaker are admitted once, and count once.
//
// The error is f's own, an [*OpenError] if b did not admit the call, or the
// end of ctx, which is its cause and its Err, if that was done before. f is called on the caller's goroutine
// with ctx or a child of it. If it panics, that passes through and counts for
// nothing.
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
	permit.end(ctx, err) // which asks err, and may panic
	ended = true
	return v, err
}

// Do is the function [Do] for a call that has no value.
func (b *Breaker) Do(ctx context.Context, f func(context.Context) error) error {
	_, err := Do(ctx, b, func(ctx context.Context) (struct{}, error) { return struct{}{}, f(ctx) })
	return err
}

// maxWait is the longest wait that a server may ask the calls of Do for: that of
// a zero retry.Policy.
const maxWait = time.Minute

// end records the end of a call of Do.
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

// recordEnd records that the call, whose context is ctx, ended as r says. If it is
// late, the class of an error that is no response of the service is not looked at.
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

// resultOf returns what recordEnd records.
func (p Permit) resultOf(err error, c class.Class, hint, limit time.Duration, late bool) result {
	switch {
	case p.early() && p.frame == nil && p.breaker.recorded(err):
		return result{signal: cancel} // the layers further in could not find this one
	case c == class.Permanent:
		return result{signal: success}
	case c == class.Conflict:
		return result{signal: success, free: true}
	case c == class.Throttled && hint <= limit:
		return result{signal: throttled, hint: hint}
	case c == class.Throttled, c == class.Ignored: // who is told to come back so late holds nobody else
		return result{signal: cancel}
	case late:
		return result{signal: cut}
	case hint > limit:
		hint = 0
	}
	return result{signal: failure, hint: hint, timedOut: p.kind&outOfTime != 0 || p.breaker.gate != nil && timedOut(err)}
}

// timedOut reports whether an attempt ended because it took too long.
func timedOut(err error) bool {
	return unwrap.Any(err, func(err error) bool {
		t, ok := err.(interface{ Timeout() bool })
		return ok && t.Timeout()
	})
}

// recorded reports whether err is the end of a retry whose attempts this breaker,
// or one that shares its state, has counted.
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

// begin is Acquire for a call that may come by the same breaker again, further in;
// package breakers says what it returns.
func (b *Breaker) begin(ctx context.Context) (context.Context, Permit, error) {
	return b.beginAttempt(ctx, seam.Ask{})
}

// beginAttempt is begin for an attempt of a retry.
func (b *Breaker) beginAttempt(ctx context.Context, a seam.Ask) (context.Context, Permit, error) {
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
	p, lent := outer.sharePermit(ctx, b)
	all := ask{Ask: a, waits: true}
	has, err := outer.yieldPlace(b), error(nil)
	if !has {
		if has, err = b.takePlace(ctx, c, all, lent); err != nil {
			return ctx, Permit{}, err
		}
		w = packedState(c.Breaker.Load()) // it may have waited
	}
	switch {
	case lent:
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
	f := &frame{Context: ctx, next: inner, cell: c, breaker: b, held: held{permit: p, shared: lent, outer: outer}, placed: has}
	p.frame = f
	if has {
		p.kind |= placed
	}
	return f, p, nil
}

// How many times a call comes by a breaker, as far as that is known.
const (
	unseen  = 0           // no call has ended
	single  = seam.Single // once, as most do
	several = 2           // twice or more: it carries a frame even in full health
)

// nest returns ctx with the calls that are out by the context from, and whether
// that is another context.
func nest(ctx, from context.Context) (nested context.Context, another bool) {
	f := from.Value(frameKey{})
	if f == nil || f == ctx.Value(frameKey{}) {
		return ctx, false
	}
	return context.WithValue(ctx, frameKey{}, f), true
}

type frameKey struct{}

// A frame is one call that is out, and its context, by which the layers further
// in find it.
type frame struct {
	context.Context //nolint:containedctx // one allocation, not two

	next    *frame // further out, of any cell
	cell    *cell.Cell
	breaker *Breaker

	mu       sync.Mutex
	held     held   // guarded by mu, as what follows
	recorded bool   // what a layer further in said has been recorded
	pending  bool   // the last one said last, a success, which is not recorded yet
	last     result // what it said
	over     bool   // the frame's own call has ended
	placed   bool   // it has a place of those that Config.Concurrency limits
}

// String returns what prints of a context, and nothing that mu guards.
func (f *frame) String() string {
	return fmt.Sprintf("%v.WithBreaker(%s)", f.Context, f.breaker.name)
}

// Value returns f for the key of frames.
func (f *frame) Value(key any) any {
	if key == (frameKey{}) {
		return f
	}
	return f.Context.Value(key)
}

// A held is a permit, and where what becomes of it has to be told.
type held struct {
	permit Permit // has no frame
	shared bool   // it is the one of outer
	outer  *frame // of the same cell; nil: there is none
}

// find returns the first frame from f outwards of a call through that cell that
// is still out, or nil: a context may outlive the call that it was made for.
func (f *frame) find(c *cell.Cell) *frame {
	for ; f != nil; f = f.next {
		if (f.cell == c || f.cell.ID() == c.ID()) && f.out() { // a file can be mapped twice
			return f
		}
	}
	return nil
}

// out reports whether the frame's own call has not ended.
func (f *frame) out() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.over
}

// sharePermit returns the frame's permit for a call further in, unless what another one
// said has used it.
func (f *frame) sharePermit(ctx context.Context, b *Breaker) (Permit, bool) {
	if f == nil {
		return Permit{}, false
	}
	f.mu.Lock()
	earlier, pending, last := f.held, f.pending, f.last
	f.recorded, f.pending = f.recorded || pending, false
	lent := !f.recorded
	f.mu.Unlock()
	if pending {
		earlier.record(ctx, last) // it is not the last
	}
	return Permit{breaker: b, kind: earlier.permit.kind, start: b.elapsed()}, lent
}

// yieldPlace reports whether the call of f, or one further out, had a place of
// those that b's calls take, which it leaves to the caller: of layers, the
// innermost has the place, so that none waits for another with one in its hands.
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

// keepPlace takes over the place of the call whose context is ctx, and returns the
// function that frees it, as the end of until does; nil if there is none.
func (b *Breaker) keepPlace(ctx, until context.Context) (free func()) {
	if b == nil || b.places == nil {
		return nil
	}
	f, _ := ctx.Value(frameKey{}).(*frame)
	if !f.find(b.cell.Load()).yieldPlace(b) {
		return nil
	}
	once := sync.OnceFunc(func() { b.places.Free() }) // which has the breaker, so that no Registry forgets it meanwhile
	stop := context.AfterFunc(until, once)
	return func() { stop(); once() }
}

// record records r, or leaves it to the frame further out. No lock is held, as
// this may call an observer.
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

// end takes what the frame's own layer says of the call.
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

// recordInner takes what a layer further in says: by its own permit, or by the
// frame's if that is nil. A success is kept until it is clear whether it is the
// last.
func (f *frame) recordInner(ctx context.Context, r result, own *Permit) {
	if r.signal == cancel || r.signal == cut {
		f.undecided(ctx, r, own)
		return
	}
	f.mu.Lock()
	earlier, last := f.held, f.last
	pending := f.pending && own != nil // else both had one permit, side by side: a failure stands for them
	f.recorded, f.pending = f.recorded || pending, false
	by := f.held // of whom r is told now; no permit: of nobody
	if own != nil {
		by.permit, by.shared = *own, false
	}
	switch {
	case r.signal == success && f.mayDecide(own):
		f.pending, f.last, f.held = true, r, by
		by.permit = Permit{}
	case own == nil && f.recorded && by.permit.Probe():
		by.permit = Permit{} // it has counted
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

// mayDecide reports whether what the frame's own layer will say may count, and
// not a success that a layer further in has told by own. f.mu is held.
func (f *frame) mayDecide(own *Permit) bool { return !f.over && (own != nil || !f.recorded) }

// undecided takes what says nothing, of a call further in: its own permit has
// been used, and the frame's has not.
func (f *frame) undecided(ctx context.Context, r result, own *Permit) {
	f.mu.Lock()
	h := f.held
	f.mu.Unlock()
	switch {
	case own != nil:
		own.record(ctx, r)
	case r.signal == cut && !h.permit.Probe():
		h.permit.record(ctx, r) // has the next calls measured
	}
}
