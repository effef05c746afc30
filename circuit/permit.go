package circuit

import (
	"context"
	"math"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/class"
	"github.com/seed-0f2c7998/perdure/internal/gate"
	"github.com/seed-0f2c7998/perdure/internal/seam"
)

// Acquire asks to make one call. If it may be made, the caller must make it
// and then call one method of the Permit, once; otherwise the error is an
// [*OpenError], a [*LimitError], or a [*ConfigError] if the breaker's Config is not
// valid. A permit for a probe that is never used ends with its lease; with
// Config.Concurrency, one that is never used keeps its place. For a call that may
// come by the same breaker again, further in, use [Do].
func (b *Breaker) Acquire() (Permit, error) {
	if b == nil {
		return Permit{}, nil
	}
	c := b.cell.Load()
	w := packedState(c.Breaker.Load())
	if b.calm(c, w) {
		return b.permit(c, w), nil
	}
	if r := b.refused.Load(); r.matches(w) {
		return Permit{}, b.refuseAgain(c, r)
	}
	if b.places == nil {
		return b.acquire(noCaller(), c, w, ask{})
	}
	return b.acquirePlace(c, w)
}

// acquirePlace is Acquire for a breaker whose calls take places.
func (b *Breaker) acquirePlace(c *cell.Cell, w packedState) (Permit, error) {
	has, err := b.takePlace(noCaller(), c, ask{}, false)
	if err != nil {
		return Permit{}, err
	}
	p, err := b.acquire(noCaller(), c, w, ask{})
	switch {
	case has && p.breaker == nil:
		b.places.Free()
	case has: // the frame frees it once, however often the permit is used
		p.kind |= placed
		p.frame = &frame{Context: noCaller(), cell: c, breaker: b, held: held{permit: p}, placed: true}
	}
	return p, err
}

// permit returns the permit of a call that begins in full health.
func (b *Breaker) permit(c *cell.Cell, w packedState) Permit {
	p := Permit{breaker: b, kind: early | kind(w.generation()) | gateKind(c.Gate[0].Load())}
	if b.window.slow > 0 {
		p.start = b.elapsed()
	}
	return p
}

// permitOf returns the permit of a call that seam.Hot's Quick has admitted, when
// w was the word.
func permitOf(b *Breaker, w uint64) Permit {
	if b == nil {
		return Permit{}
	}
	return Permit{breaker: b, kind: early | kind(packedState(w).generation()) | b.gateKindInHealth()}
}

// acquire is Acquire for a breaker whose word was w, and which is not calm.
// Config.Observe is given ctx.
func (b *Breaker) acquire(ctx context.Context, c *cell.Cell, w packedState, a ask) (Permit, error) {
	p, err := b.admit(ctx, c, w, a)
	if err == nil && b.pacing != nil {
		return b.awaitTurn(ctx, c, p, a)
	}
	return p, err
}

// admit is acquire without the rate.
func (b *Breaker) admit(ctx context.Context, c *cell.Cell, w packedState, a ask) (p Permit, err error) {
	if w.healthy() {
		p = b.permit(c, w)
	} else if p, err = b.acquireWord(ctx, w); err != nil {
		return p, err
	}
	if b.gate != nil && p.breaker != nil {
		if err := b.passGate(ctx, c, &p, a); err != nil {
			return Permit{}, err
		}
	}
	return p, nil
}

// acquireWord is acquire for a word that is not healthy.
func (b *Breaker) acquireWord(ctx context.Context, w packedState) (Permit, error) {
	if r := b.refused.Load(); r.matches(w) {
		return Permit{}, b.refuseAgain(b.cell.Load(), r)
	}
	if b.err != nil {
		return Permit{}, b.err
	}
	now := floor(b.now())
	if b.shut(w, now) {
		return Permit{}, b.rejected(w, now) // as the step would say; an outage should cost little
	}
	w, admitted := b.apply(ctx, event{signal: acquire})
	switch {
	case admitted:
		return Permit{breaker: b, kind: kindOf(w), start: b.elapsed()}, nil
	case b.config.ObserveOnly && w.state() != Isolated:
		b.cell.Load().Rejected.Add(1)
		return Permit{}, nil // passes unseen: in earnest it would not have been made
	}
	return Permit{}, b.rejected(w, now)
}

// A Permit is the permission to make one call. Exactly one of its methods but
// Probe must be called, once, when the call has ended. The zero Permit belongs
// to no breaker and its methods do nothing. What each class of errors is for a
// breaker is in the documentation of package retry.
type Permit struct { // of four words, or it does not go in registers
	breaker *Breaker
	start   int64  // as elapsed returns it; 0: the call is not measured
	frame   *frame // of a call that tells those further in that it has this permit
	kind    kind
}

// A kind is what a permit says of its call: the generation of the word that
// admitted it, in 16 bits, and these.
type kind uint64

const (
	probe kind = 1 << (iota + 16)
	early      // the call began in full health

	outOfTime kind = 1 << 20 // its own timeout has ended it
	paced     kind = 1 << 21 // it has waited for the rate
	placed    kind = 1 << 22 // it has a place of those that Config.Concurrency limits
)

// kindOf returns the kind of a call that a word which is now w has admitted.
func kindOf(w packedState) kind {
	k := kind(w.generation())
	if w.state() == HalfOpen {
		k |= probe
	}
	return k
}

func (p Permit) generation() uint16 { return uint16(p.kind) }
func (p Permit) early() bool        { return p.kind&early != 0 }

// Probe reports whether the call decides if a half-open breaker closes. Who
// makes it must see to it that the permit is used even when the call panics.
func (p Permit) Probe() bool { return p.kind&probe != 0 || p.how() != gate.Freely }

// guarded reports whether the permit must be used even when the call panics.
func (p Permit) guarded() bool { return p.Probe() || p.kind&placed != 0 }

// A result is how a call ended.
type result struct {
	signal signal        // success, failure, throttled, cut or cancel
	free   bool          // of success: it brings the budget nothing
	hint   time.Duration // of throttled and failure: how long the service asked not to be called, 0: it did not
	class  class.Class   // of the error, if that is known

	timedOut bool // of failure
}

// Success records that the service answered, be it that it said no.
func (p Permit) Success() { p.successOf(noCaller()) }

// successOf is Success with the context of the call, which Config.Observe is
// given.
func (p Permit) successOf(ctx context.Context) {
	if p.breaker != nil {
		p.succeed(ctx)
	}
}

// Conflict records that the service answered well, and that the call is to be
// made again: a success that brings the budget nothing.
func (p Permit) Conflict() { p.done(noCaller(), result{signal: success, free: true}) }

// Failure records that the service failed.
func (p Permit) Failure() { p.done(noCaller(), result{signal: failure}) }

// Throttled records that the service asked for fewer calls, and not to be
// called for wait; 0 means that it did not say how long. As many such responses
// in a row as Config.FailureThreshold says (5 if that is Off or below 3), with
// no success of a call begun after the first of them, open the breaker until
// the longest wait of them is over. One response alone holds nobody. A wait of
// more than a day is ignored; pass only what the caller would wait.
func (p Permit) Throttled(wait time.Duration) {
	p.done(noCaller(), result{signal: throttled, hint: wait})
}

// Cancel records that the call has no result: it was not made, or its caller
// gave up. It counts for nothing.
func (p Permit) Cancel() { p.done(noCaller(), result{signal: cancel}) }

// succeed is Success for a permit that belongs to a breaker. A gate learns from one that is timed.
func (p Permit) succeed(ctx context.Context) {
	if p.frame != nil || p.start != 0 || !seam.Of(p.breaker).Unmoved() {
		p.done(ctx, result{signal: success})
	}
}

// patience is how long a call must have taken for its end by the caller's
// deadline to be the service's fault. A gate, which knows how long calls take,
// will say twice the time that is expected, if that is less.
const patience = time.Second

// done records r, by way of the layers further out if there are any.
func (p Permit) done(ctx context.Context, r result) {
	if r.signal == cut && p.start != 0 && p.breaker.gate == nil && p.breaker.elapsed()-p.start >= int64(patience) {
		r.signal = failure
	}
	switch {
	case p.breaker == nil:
	case p.frame != nil:
		p.frame.end(ctx, r)
	default:
		p.record(ctx, r)
	}
}

// record records r.
func (p Permit) record(ctx context.Context, r result) {
	b := p.breaker
	c := b.cell.Load()
	w := packedState(c.Breaker.Load())
	if r.hint > 0 {
		c.SetHint(int64(ceil(b.now())), r.hint)
	}
	if b.gate != nil {
		b.gateDone(ctx, c, p, r)
		r = r.behindGate()
	}
	if b.window.length > 0 && (r.signal == success || r.signal == failure) {
		b.observe(ctx, p, w, r.signal == failure)
	}
	e := event{signal: r.signal, generation: p.generation(), early: p.early()}
	switch r.signal {
	case success:
		if !r.free {
			b.refund(reward)
		}
		if !w.healthy() {
			if next, _ := b.apply(ctx, e); next.noRun() {
				c.ForgetHint() // the next run has its own
			}
		}
	case throttled:
		b.recordFailure(class.Throttled)
		b.apply(ctx, e)
		b.notifyLow()
	case failure:
		b.recordFailure(r.class)
		b.apply(ctx, e)
		b.notifyLow()
	case cancel:
		if p.kind&probe != 0 {
			b.apply(ctx, e)
		}
	default:
		b.apply(ctx, e)
	}
}

// observe enters a result in the window, and trips if that fills a rule.
func (b *Breaker) observe(ctx context.Context, p Permit, w packedState, failed bool) {
	if p.generation() != w.generation() || w.state() != Closed {
		return
	}
	end := b.elapsed()
	if why := b.window.record(b.cell.Load(), b.tick(end), p.start, end, failed); why.code != Unknown {
		if b.gate != nil {
			b.limit(ctx, why)
			return
		}
		b.applyFor(ctx, event{signal: verdict, generation: p.generation()}, why)
	}
}

// Allow reports whether a call may be made. With RecordSuccess and
// RecordFailure it is the weaker form of Acquire: there is no permit, so a
// result counts for the state that the breaker is in by then, and
// Config.Concurrency does not limit the call.
func (b *Breaker) Allow() bool {
	if b == nil || b.places == nil {
		_, err := b.Acquire()
		return err == nil
	}
	c := b.cell.Load()
	_, err := b.acquire(noCaller(), c, packedState(c.Breaker.Load()), ask{})
	return err == nil
}

// RecordSuccess records that the service answered.
func (b *Breaker) RecordSuccess() { b.current().Success() }

// RecordFailure records that the service failed.
func (b *Breaker) RecordFailure() { b.current().Failure() }

func (b *Breaker) current() Permit {
	if b == nil {
		return Permit{}
	}
	c := b.cell.Load()
	return Permit{breaker: b, kind: kindOf(packedState(c.Breaker.Load())) | gateKind(c.Gate[0].Load())}
}

// Bits of a kind that are about a gate: number of the watch 32 | gate generation 8,
// and how 2.
const (
	howShift            = 18
	gateGenerationShift = 24
	watchShift          = 32
)

// gateKind returns what a kind says of the gate whose first word admits a call
// freely. That word has the generation 32 bits further up.
func gateKind(first uint64) kind { return kind(first>>32) & (math.MaxUint8 << gateGenerationShift) }

// withGate returns p as the permit of a call that a gate has admitted, too.
func (p Permit) withGate(g gate.Permit, now int64) Permit {
	p.kind &^= math.MaxUint8 << gateGenerationShift
	p.kind |= kind(g.How)<<howShift | kind(g.Generation)<<gateGenerationShift
	if g.Start != 0 && p.start == 0 {
		p.start = now
	}
	return p
}

func (p Permit) how() gate.How { return gate.How(p.kind >> howShift & 3) }

// gateKindInHealth returns what a kind says of the gate for a call that began in health, now
// that it has ended. If the gate has been limited since, that is of another
// generation.
func (b *Breaker) gateKindInHealth() kind {
	if b.gate == nil {
		return 0
	}
	g, first := b.gateOf(b.cell.Load()), b.cell.Load().Gate[0].Load()
	if g.Limited() {
		first -= 1 << (gateGenerationShift + 32)
	}
	return gateKind(first)
}

// atGate reports whether the call may have waited: a gate that is limited has
// admitted it, or it has had to wait for the rate. A gate's probe costs no token of
// the retry budget.
func (p Permit) atGate() (waited, asProbe bool) {
	return p.how() != gate.Freely || p.kind&paced != 0, p.how() == gate.AsProbe
}

// withTiming returns p with what the caller knows of the attempt: how long it took, 0
// if that is not known, and whether the attempt's own timeout has withTiming it.
func (p Permit) withTiming(took time.Duration, timedOut bool) Permit {
	if p.start == 0 && took > 0 {
		p.start = p.breaker.elapsed() - int64(took)
	}
	if timedOut {
		p.kind |= outOfTime
	}
	return p
}

// gatePermit returns the gate's own permit, without its start.
func (p Permit) gatePermit() gate.Permit {
	return gate.Permit{Generation: uint8(p.kind >> gateGenerationShift & math.MaxUint8), How: p.how()}
}
