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

// Acquire returns a [Permit] to make one call, or an error: an [*OpenError], a
// [*LimitError], or a [*ConfigError] if the breaker's Config is not valid. It never
// waits. The caller must make the call and then report the result by one method of the
// Permit, once. If the permit is never used, a probe's slot is freed when its lease
// ends, but a place of Config.Concurrency is not freed. If the call may use the same
// breaker again in an inner layer, use [Do] instead.
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

// acquirePlace is Acquire for a breaker with a Config.Concurrency.
func (b *Breaker) acquirePlace(c *cell.Cell, w packedState) (Permit, error) {
	has, err := b.takePlace(noCaller(), c, ask{}, false)
	if err != nil {
		return Permit{}, err
	}
	p, err := b.acquire(noCaller(), c, w, ask{})
	switch {
	case has && p.breaker == nil:
		b.places.Free()
	case has: // the frame frees the place once, however often the permit is used
		p.kind |= placed
		p.frame = &frame{Context: noCaller(), cell: c, breaker: b, held: held{permit: p}, placed: true}
	}
	return p, err
}

// permit returns the permit of a call through a breaker in full health.
func (b *Breaker) permit(c *cell.Cell, w packedState) Permit {
	p := Permit{breaker: b, kind: early | kind(w.generation()) | gateKind(c.Gate[0].Load())}
	if b.window.slow > 0 {
		p.start = b.elapsed()
	}
	return p
}

// permitOf returns the permit of a call that seam.Hot.Healthy admitted in state w.
func permitOf(b *Breaker, w uint64) Permit {
	if b == nil {
		return Permit{}
	}
	return Permit{breaker: b, kind: early | kind(packedState(w).generation()) | b.gateKindInHealth()}
}

// acquire is Acquire for a breaker in state w, which is not calm. Config.Observe is
// called with ctx.
func (b *Breaker) acquire(ctx context.Context, c *cell.Cell, w packedState, a ask) (Permit, error) {
	p, err := b.admit(ctx, c, w, a)
	if err == nil && b.rate != nil {
		return b.awaitTurn(ctx, c, p, a)
	}
	return p, err
}

// admit is acquire without the rate limit.
func (b *Breaker) admit(ctx context.Context, c *cell.Cell, w packedState, a ask) (p Permit, err error) {
	if w.healthy() {
		p = b.permit(c, w)
	} else if p, err = b.acquireUnhealthy(ctx, w); err != nil {
		return p, err
	}
	if b.gate != nil && p.breaker != nil {
		if err := b.passGate(ctx, c, &p, a); err != nil {
			return Permit{}, err
		}
	}
	return p, nil
}

// acquireUnhealthy is acquire for a state that is not healthy.
func (b *Breaker) acquireUnhealthy(ctx context.Context, w packedState) (Permit, error) {
	if r := b.refused.Load(); r.matches(w) {
		return Permit{}, b.refuseAgain(b.cell.Load(), r)
	}
	if b.err != nil {
		return Permit{}, b.err
	}
	now := floor(b.now())
	if b.shut(w, now) {
		return Permit{}, b.rejected(w, now) // as step would say; refusals must be cheap
	}
	w, admitted := b.apply(ctx, event{signal: acquire})
	switch {
	case admitted:
		return Permit{breaker: b, kind: kindOf(w), start: b.elapsed()}, nil
	case b.config.ObserveOnly && w.state() != Isolated:
		b.cell.Load().Refuse(b.whyRefused(b.cell.Load(), w.state()))
		return Permit{}, nil // admitted without a permit, because of ObserveOnly
	}
	return Permit{}, b.rejected(w, now)
}

// A Permit is the permission to make one call. When the call has ended, the caller must
// call exactly one method, once: Success, Conflict, Failure, Throttled or Cancel. The
// methods of the zero Permit do nothing. Which method each class of errors means is said
// at the constants of retry.Class.
type Permit struct { // four words, which fit in registers
	breaker *Breaker
	start   int64  // as elapsed returns it; 0: not measured
	frame   *frame // for inner layers; nil if they need not find this permit
	kind    kind
}

// A kind is the properties of a call, in one word:
//
//	watch 32 | gate generation 8 | flags and how 8 | generation of the breaker 16
type kind uint64

const (
	probe kind = 1 << (iota + 16)
	early      // the call began in full health

	outOfTime kind = 1 << 20 // its attempt timeout ended it
	paced     kind = 1 << 21 // it waited for the rate limit
	placed    kind = 1 << 22 // it holds a place of Config.Concurrency
)

// kindOf returns the kind of a call that was admitted in state w.
func kindOf(w packedState) kind {
	k := kind(w.generation())
	if w.state() == HalfOpen {
		k |= probe
	}
	return k
}

func (p Permit) generation() uint16 { return uint16(p.kind) }
func (p Permit) early() bool        { return p.kind&early != 0 }

// Probe reports whether the call is a probe, whose result decides if the breaker closes.
// The permit of a probe must be used even if the call panics.
func (p Permit) Probe() bool { return p.kind&probe != 0 || p.how() != gate.Freely }

// A result is how a call ended.
type result struct {
	signal signal        // success, failure, throttled, cut or cancel
	free   bool          // of success: pays nothing into the budget
	hint   time.Duration // of throttled and failure: how long the service asked not to be called; 0 means not
	class  class.Class   // of the error; 0 means not known

	timedOut bool // of failure
}

// Success records that the service responded, even if with a permanent error.
func (p Permit) Success() { p.successOf(noCaller()) }

// successOf is Success, and calls Config.Observe with ctx.
func (p Permit) successOf(ctx context.Context) {
	if p.breaker != nil {
		p.succeed(ctx)
	}
}

// Conflict records that the service is healthy but the call must be repeated: a success
// that pays nothing into the budget.
func (p Permit) Conflict() { p.done(noCaller(), result{signal: success, free: true}) }

// Failure records that the service failed.
func (p Permit) Failure() { p.done(noCaller(), result{signal: failure}) }

// Throttled records that the service asked for fewer calls, and not to be called for
// wait; 0 means no particular wait. Config.FailureThreshold such responses in a row (5
// if that is Off or below 3), without a success of a call that began after the first,
// open the breaker until the longest wait is over. One response alone delays no other
// call. A wait of more than a day is ignored; pass only what the caller would wait.
func (p Permit) Throttled(wait time.Duration) {
	p.done(noCaller(), result{signal: throttled, hint: wait})
}

// Cancel records that the call has no result, because it was not made or its caller
// gave up. The breaker does not count such a call.
func (p Permit) Cancel() { p.done(noCaller(), result{signal: cancel}) }

// succeed is Success for a permit with a breaker. A call that is timed is recorded even
// in full health, since a gate learns from it.
func (p Permit) succeed(ctx context.Context) {
	if p.frame != nil || p.start != 0 || !seam.Of(p.breaker).IgnoresSuccess() {
		p.done(ctx, result{signal: success})
	}
}

// blameAfter is how long a call must have taken for the end of the caller's deadline to
// count as a failure of the service. A gate replaces it by twice the expected time, if
// that is less.
const blameAfter = time.Second

// done records r, or reports it to the outer layers if there are any.
func (p Permit) done(ctx context.Context, r result) {
	if r.signal == cut && p.start != 0 && p.breaker.gate == nil && p.breaker.elapsed()-p.start >= int64(blameAfter) {
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

// record records r in the gate, the window, the budget and the state.
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
				c.ForgetHint()
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

// observe records a result in the window, and trips the breaker if a rule of the window is met.
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

// Allow reports whether a call may be made. It is Acquire without a permit: the result,
// reported by RecordSuccess or RecordFailure, counts for the state at that time, and
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

// RecordSuccess records that the service responded to a call that Allow admitted.
func (b *Breaker) RecordSuccess() { b.current().Success() }

// RecordFailure records that a call that Allow admitted has failed.
func (b *Breaker) RecordFailure() { b.current().Failure() }

func (b *Breaker) current() Permit {
	if b == nil {
		return Permit{}
	}
	c := b.cell.Load()
	return Permit{breaker: b, kind: kindOf(packedState(c.Breaker.Load())) | gateKind(c.Gate[0].Load())}
}

// The bits of a kind that a gate uses: watch is the number of the watch, see watches.
const (
	howShift            = 18
	gateGenerationShift = 24
	watchShift          = 32
)

// gateKind returns the gate's bits of a kind for a call that is admitted freely. first is
// the gate's first word, which contains the generation 32 bits higher.
func gateKind(first uint64) kind { return kind(first>>32) & (math.MaxUint8 << gateGenerationShift) }

// withGate returns p with the permit g of the gate.
func (p Permit) withGate(g gate.Permit, now int64) Permit {
	p.kind &^= math.MaxUint8 << gateGenerationShift
	p.kind |= kind(g.How)<<howShift | kind(g.Generation)<<gateGenerationShift
	if g.Start != 0 && p.start == 0 {
		p.start = now
	}
	return p
}

func (p Permit) how() gate.How { return gate.How(p.kind >> howShift & 3) }

// gateKindInHealth returns the gate's bits of a kind for a call that began in health and
// has ended. If the gate was limited since, the bits are of the generation before.
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

// atGate reports whether the call may have waited, at a gate that is limited or for the
// rate, and whether the gate admitted it as a probe: such a retry costs no token.
func (p Permit) atGate() (waited, asProbe bool) {
	return p.how() != gate.Freely || p.kind&paced != 0, p.how() == gate.AsProbe
}

// withTiming returns p with the duration of the attempt, 0 if not known, and whether the
// attempt timeout ended it.
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
