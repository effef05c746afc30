// Package circuit stops calls that would fail: a circuit breaker, and the state that
// belongs to the same key: a retry budget, a gate, a rate limit, a concurrency limit.
//
//	     failures reach a rule                recovery timeout is over
//	closed ────────────────────▶ open ◀────────────────▶ half-open
//	   ▲                                  a probe failed      │
//	   └──────────────────────────────────────────────────────┘
//	                    enough probes succeeded
//
// A healthy breaker costs a call one atomic load. All transitions of a breaker are
// one pure function, step, in state.go; transition.go applies it.
package circuit

import (
	"math"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/gate"
	"github.com/seed-0f2c7998/perdure/internal/places"
	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/internal/seam"
)

// A Store is where the state of breakers lives. It is sealed: the only Stores are a
// [*Memory], for breakers of one process, and the Stores of the packages hoststore,
// for all processes of a host, and redisstore, for a fleet. Each Store is safe for
// concurrent use, and never makes a call fail or wait.
type Store interface{ sealed }

type sealed = cell.Sealed

// Memory is a [Store] in which breakers of the same name share their state within the
// process. It keeps every state. Its zero value is ready for use, and safe for
// concurrent use; do not copy it.
type Memory struct{ sealedMemory }

type sealedMemory = cell.SealedMemory

type handle = seam.Handle //nolint:unused // seam.Of finds it

// A Breaker guards the calls to one service, or to any other part that fails as a
// whole. Make it with [New]; a nil *Breaker admits every call.
//
// Call [Breaker.Acquire] before each call and report the result to the [Permit], or
// use [Breaker.Do] or package retry, which do both. [Breaker.Allow],
// [Breaker.RecordSuccess] and [Breaker.RecordFailure] are for code that keeps no
// permit.
//
// A Breaker is safe for concurrent use. No method blocks except Do. Config.Observe
// is called with each transition, on the goroutine of the call that made the
// transition and under no lock, so it may use the breaker.
type Breaker struct {
	handle //nolint:unused // as above

	cell    *cell.Ref
	rules   rules
	window  window
	ceiling Tokens         // of the budget; 0 means no budget
	gate    *localGate     // nil if Config.Gate is NoGate
	rate    *rateLimit     // nil without a Config.Rate
	places  *places.Places // nil without a Config.Concurrency

	name   string           // redacted
	key    string           // for the store: name as passed to New if it is in memory, else redacted
	config Config           // as passed to New
	err    error            // why the Config is not valid; nil if it is
	store  cell.Store       // never nil
	clock  func() time.Time // wall clock

	virtual cell.Virtual // clocks and random numbers of a simulation; nil: those of the process

	refusals         refusals                // made by this process
	reportPlaceAfter atomic.Int64            // as elapsed returns it: no wait for a place is reported before; 0: none was reported
	lastFailure      atomic.Uint64           // in this process: Unix milliseconds 56, class 8; 0 means none
	refused          atomic.Pointer[refused] // last refusal; never nil
}

// New returns a breaker. It never fails: if c is not valid, the breaker admits no
// call and Acquire returns the [*ConfigError]; see [Config.Validate]. A Store outside of the
// process gets name without its secrets: names that differ only in a secret are one there.
func New(name string, c Config) *Breaker {
	b := &Breaker{name: redact.String(name), key: name, config: c, clock: time.Now, err: c.Validate()}
	b.refused.Store(newRefused(OpenError{}, ^packedState(0))) // matches no call: no breaker has that state
	if c.Store == nil || b.err != nil {
		b.store = new(cell.Memory)
	} else {
		b.store = cell.Unseal(c.Store)
		if _, ok := c.Store.(*Memory); !ok {
			b.key = b.name // others write it to a file, or send it
		}
	}
	made := make(chan struct{}) // a store may apply a remote state at once
	defer close(made)
	if b.err == nil {
		b.ceiling = Tokens(c.Budget * float64(Token))
	}
	b.cell = b.store.Cell(b.key, cell.Client{OnRemote: func(fetch cell.FetchRemote) { <-made; b.applyRemote(fetch) }, Ceiling: int64(b.ceiling), Gate: c.Gate != NoGate})
	hot := seam.Of(b)
	hot.Cell = b.cell
	if b.err != nil {
		b.cell.Load().Breaker.Store(uint64(packedState(0).next(Isolated)))
		return b
	}
	if b.virtual = b.cell.Virtual; b.virtual != nil {
		b.clock = b.virtual.Now
	}
	c = c.filled()
	b.rules, b.window = c.rules(), c.newWindow()
	if c.Rate > 0 {
		l := cell.NewLimit(c.Rate, c.Burst)
		b.rate = &rateLimit{limit: l, schedule: b.store.Schedule(name, l)}
		hot.Paced = true
	}
	b.limitConcurrency(c.Concurrency)
	hot.Plain = b.window.slow == 0 && !hot.Paced
	if c.Gate != NoGate {
		hot.GateMask, hot.InHealth = gate.HealthMask, gate.InHealth
		b.gate = newLocalGate(c.Gate, b.cell.Anchor.IsZero())
	}
	switch {
	case b.window.length > 0:
		hot.Full = math.MaxInt64 // every call is recorded
	case b.ceiling == 0:
		hot.Full = math.MinInt64
	default:
		hot.Full = cell.FullMark(int64(b.ceiling))
	}
	return b
}

// Name returns the breaker's name with secrets removed, such as the password of a
// URL.
func (b *Breaker) Name() string {
	if b == nil {
		return ""
	}
	return b.name
}

// String returns the breaker's name, its state and the reason of the state, for logs:
// `circuit breaker "s3" is open (5 consecutive failures)`.
func (b *Breaker) String() string {
	if b == nil {
		return "no circuit breaker"
	}
	m := b.Metrics()
	text := "circuit breaker " + strconv.Quote(b.name) + " is " + m.State.String()
	if m.Reason.Cause() == Unknown {
		return text
	}
	return text + " (" + m.Reason.String() + ")"
}

// invalid returns the [*ConfigError] of the breaker's Config, or nil.
func (b *Breaker) invalid() error {
	if b == nil {
		return nil
	}
	return b.err
}

// Trip opens a closed or half-open breaker, for as long as its rules would.
func (b *Breaker) Trip() { b.apply(noCaller(), event{signal: trip}) }

// Isolate refuses all calls until Reset, even if Config.ObserveOnly is set.
func (b *Breaker) Isolate() { b.apply(noCaller(), event{signal: isolate}) }

// Reset closes the breaker, clears its window and not-before instant, and sets the
// budget back to one token.
func (b *Breaker) Reset() {
	if b == nil || b.err != nil {
		return
	}
	b.cell.Load().ForgetHint()
	b.cell.Load().Budget.Reset()
	b.window.clear(b.cell.Load())
	b.cell.Load().SetOverride(b.clock(), uint8(Closed)) // also of a closed breaker: other hosts follow
	b.apply(noCaller(), event{signal: reset})
	if b.gate != nil {
		b.resetGate(Manual)
	}
}

// notBefore returns the instant before which the service must not be called, because
// several responses in a row asked for that: the end of an opening whose cause is
// [Throttled], or with a gate, the instant of the next probe. It is the zero Time if
// the service did not ask for a wait.
func (b *Breaker) notBefore() time.Time {
	if b == nil {
		return time.Time{}
	}
	c := b.cell.Load()
	if refusal := b.peek(); refusal != nil {
		if unpack(c.Reason.Load()).code == Throttled {
			return refusal.RetryAt
		}
	} else if b.gate != nil && b.gateOf(c).NotBefore > 0 {
		return b.wall(ceil(b.gateOf(c).NotBefore))
	}
	return time.Time{}
}

// State returns the state that applies to a call now: an open breaker whose recovery
// timeout has elapsed is half-open.
func (b *Breaker) State() State {
	if b == nil {
		return Closed
	}
	w := packedState(b.cell.Load().Breaker.Load())
	if w.state() == Closed && b.gate != nil {
		return gateState(b.gateOf(b.cell.Load()).Status(b.now()))
	}
	if s := w.state(); s != Open || b.left(w, floor(b.now())) > 0 {
		return s
	}
	return HalfOpen
}

// now returns the current time in Unix nanoseconds, by the clock that the breaker's
// instants are counted by: the wall clock if processes share the state, else a
// monotonic clock.
func (b *Breaker) now() int64 {
	switch from := b.cell.Anchor; {
	case from.IsZero():
		return b.clock().UnixNano()
	case b.virtual != nil:
		return from.UnixNano() + b.elapsed()
	default:
		return from.UnixNano() + int64(time.Since(from))
	}
}

// wall converts t, an instant of the breaker, to the wall clock.
func (b *Breaker) wall(t instant) time.Time {
	if b.cell.Anchor.IsZero() {
		return time.UnixMilli(int64(t))
	}
	set := time.Duration(b.clock().UnixNano() - b.now()) // wall clock steps since the anchor
	if set.Abs() < 2*time.Millisecond {
		set = 0
	}
	return time.UnixMilli(int64(t)).Add(set)
}

// instant converts t, of the wall clock, to an instant of the breaker.
func (b *Breaker) instant(t time.Time) instant {
	if b.cell.Anchor.IsZero() {
		return ceil(t.UnixNano())
	}
	return ceil(b.now() + int64(t.Sub(b.clock())))
}

// elapsed returns the monotonic clock, in nanoseconds.
func (b *Breaker) elapsed() int64 {
	if b.virtual != nil {
		return int64(b.virtual.Elapsed())
	}
	return elapsed()
}

// tick returns the clock of the windows, in nanoseconds, when elapsed returns now. It
// costs half a time.Now, since it reads only the monotonic clock.
func (b *Breaker) tick(now int64) int64 {
	if b.virtual != nil {
		return b.virtual.Now().UnixNano()
	}
	return ticks(now)
}

// chance returns a random number in [0, 1).
func (b *Breaker) chance() float64 {
	if b.virtual != nil {
		return b.virtual.Float64()
	}
	return rand.Float64()
}

const _ = uint(generationShift-seam.GenerationShift) + uint(seam.GenerationShift-generationShift) // does not compile unless they are equal

// init passes the functions of this package that package breakers calls, and users do not see.
func init() { //nolint:gochecknoinits // see package seam
	seam.OfferCircuit(seam.Circuit[*Breaker, Permit, *OpenError, Tokens]{
		BeginAttempt: (*Breaker).beginAttempt, AtGate: Permit.atGate, RefuseKnown: (*Breaker).refuseKnown, RefusedDue: (*Breaker).refusedDue, Peek: (*Breaker).peek,
		Invalid: (*Breaker).invalid, Nested: nest, KeepPlace: (*Breaker).keepPlace,
		Balance: (*Breaker).balance, Withdraw: (*Breaker).withdraw, Refund: (*Breaker).refund,
		Permit: permitOf, Succeed: Permit.successOf, Record: Permit.recordEnd,
	})
}
