// Package circuit stops calls that would fail: a circuit breaker, and beside
// it, because it shares the breaker's fate and memory, a retry budget.
//
//	     failures reach a rule                recovery timeout is over
//	closed ────────────────────▶ open ◀────────────────▶ half-open
//	   ▲                                  a probe failed      │
//	   └──────────────────────────────────────────────────────┘
//	                    enough probes succeeded
//
// A healthy breaker costs a call one atomic load. All that a breaker can do is
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

// A Store is where the state of breakers lives. It is sealed: a [*Memory], for
// the breakers of one process, and the Stores of the packages hoststore and
// redisstore, for those of all processes of a host and of a fleet, are all that
// there are. Each is safe for concurrent use, and none makes a call fail or wait.
type Store interface{ sealed }

type sealed = cell.Sealed

// Memory is a [Store] in which breakers of one name share their state within
// the process, and which keeps it for as long as it is used. Its zero value is
// ready for use, and safe for concurrent use; do not copy it.
type Memory struct{ sealedMemory }

type sealedMemory = cell.SealedMemory

type handle = seam.Handle //nolint:unused // by it seam.Of finds what a call looks at

// A Breaker guards calls that share a fate. Make it with [New], once for each
// thing that can fail as a whole; a nil *Breaker admits everything.
//
// Ask with [Breaker.Acquire] before each call and tell the [Permit] how it
// went, or let [Breaker.Do] or package retry do so. [Breaker.Allow],
// [Breaker.RecordSuccess] and [Breaker.RecordFailure] are the same for code
// that keeps no permit.
//
// A Breaker is safe for concurrent use, and no method blocks. Transitions are
// reported to Config.Observe on the goroutine whose call made them, under no
// lock, so it may use the breaker.
type Breaker struct {
	handle //nolint:unused // as above

	cell    *cell.Ref
	rules   rules
	window  window
	ceiling Tokens         // of the budget; 0: none
	gate    *localGate     // nil: none
	pacing  *rateLimit     // nil: calls have no rate
	places  *places.Places // nil: calls in flight are not limited

	name   string           // without secrets
	key    string           // the name as it was given, for the store
	config Config           // as it was given
	err    error            // what is wrong with it
	store  cell.Store       // never nil
	clock  func() time.Time // the wall clock

	virtual cell.Virtual // the time and the chance of a simulation; nil: the process's own

	refusals         refusals                // by this process
	reportPlaceAfter atomic.Int64            // as elapsed returns it: until then a wait for a place is not the first; 0: there was none
	lastFailure      atomic.Uint64           // here: Unix milliseconds 56, class 8; 0: none
	refused          atomic.Pointer[refused] // the last refusal; never nil
}

// New returns the breaker of that name. It never fails: a Config that is not
// valid makes a breaker that admits nothing, and whose Acquire returns the
// [*ConfigError]; see [Config.Validate].
func New(name string, c Config) *Breaker {
	b := &Breaker{name: redact.String(name), key: name, config: c, clock: time.Now, err: c.Validate()}
	b.refused.Store(newRefused(OpenError{}, ^packedState(0))) // of no call: no breaker has that word
	if c.Store == nil || b.err != nil {
		b.store = new(cell.Memory)
	} else {
		b.store = cell.Unseal(c.Store)
	}
	made := make(chan struct{}) // a store may have an order at once
	defer close(made)
	if b.err == nil {
		b.ceiling = Tokens(c.Budget * float64(Token))
	}
	b.cell = b.store.Cell(name, cell.Client{OnRemote: func(agreed cell.FetchRemote) { <-made; b.applyRemote(agreed) }, Ceiling: int64(b.ceiling), Gate: c.Gate != NoGate})
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
		b.pacing = &rateLimit{limit: l, schedule: b.store.Schedule(name, l)}
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

// Name returns the breaker's name, without the secrets that may be in it, such
// as the password of a URL.
func (b *Breaker) Name() string {
	if b == nil {
		return ""
	}
	return b.name
}

// String returns the breaker's name, state, and why it is in that, for logs:
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

// invalid returns what is wrong with the breaker's Config, a [*ConfigError], or nil.
func (b *Breaker) invalid() error {
	if b == nil {
		return nil
	}
	return b.err
}

// Trip opens a closed or half-open breaker, as its rules would.
func (b *Breaker) Trip() { b.apply(noCaller(), event{signal: trip}) }

// Isolate refuses all calls until Reset, even if ObserveOnly is set.
func (b *Breaker) Isolate() { b.apply(noCaller(), event{signal: isolate}) }

// Reset closes the breaker, and forgets its evidence and its budget's balance.
func (b *Breaker) Reset() {
	if b == nil || b.err != nil {
		return
	}
	b.cell.Load().ForgetHint()
	b.cell.Load().Budget.Reset()
	b.window.clear(b.cell.Load())
	b.cell.Load().SetOverride(b.clock(), uint8(Closed)) // which counts even if it is closed
	b.apply(noCaller(), event{signal: reset})
	if b.gate != nil {
		b.resetGate(Manual)
	}
}

// NotBefore returns the instant before which the service must not be called,
// because several responses in a row asked for that: the end of an opening
// whose cause is [Throttled], or with a gate, when the next probe goes. It is the zero
// Time when there is none.
func (b *Breaker) NotBefore() time.Time {
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

// State returns what the breaker would do with a call now: an open one whose
// time is up is half-open.
func (b *Breaker) State() State {
	if b == nil {
		return Closed
	}
	w := packedState(b.cell.Load().Breaker.Load())
	if w.state() == Closed && b.gate != nil {
		return gateState(b.gateOf(b.cell.Load()).Status(b.now()))
	}
	if s := w.state(); s != Open || b.rules.left(w, floor(b.now())) > 0 {
		return s
	}
	return HalfOpen
}

// now returns the time in Unix nanoseconds by the clock of the breaker's words:
// the wall clock if they are shared, since a monotonic reading means nothing to
// another process, and else one that nobody can set.
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

// wall returns t, an instant of the breaker's words, as the wall clock has it.
func (b *Breaker) wall(t instant) time.Time {
	if b.cell.Anchor.IsZero() {
		return time.UnixMilli(int64(t))
	}
	set := time.Duration(b.clock().UnixNano() - b.now()) // by which the wall clock was set since
	if set.Abs() < 2*time.Millisecond {
		set = 0
	}
	return time.UnixMilli(int64(t)).Add(set)
}

// instant returns t, of the wall clock, as an instant of the breaker's words.
func (b *Breaker) instant(t time.Time) instant {
	if b.cell.Anchor.IsZero() {
		return ceil(t.UnixNano())
	}
	return ceil(b.now() + int64(t.Sub(b.clock())))
}

// elapsed returns a time in nanoseconds of which only differences mean anything:
// nobody can set its clock.
func (b *Breaker) elapsed() int64 {
	if b.virtual != nil {
		return int64(b.virtual.Elapsed())
	}
	return elapsed()
}

// tick returns the time in nanoseconds by the clock of the windows, when elapsed
// returns now. It costs half a time.Now, since it reads only the monotonic
// clock, and is of use only within one window.
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

const _ = uint(generationShift-seam.GenerationShift) + uint(seam.GenerationShift-generationShift) // they are the same, or this does not compile

// What this module's own packages call, and users do not see.
func init() { //nolint:gochecknoinits // see package seam
	seam.OfferCircuit(seam.Circuit[*Breaker, Permit, *OpenError, Tokens]{
		Begin: (*Breaker).begin, BeginAttempt: (*Breaker).beginAttempt, AtGate: Permit.atGate, Refuse: (*Breaker).refuseKnown, Refused: (*Breaker).refusedDue, Peek: (*Breaker).peek,
		Invalid: (*Breaker).invalid, Nested: nest, Guarded: Permit.guarded, KeepPlace: (*Breaker).keepPlace,
		Balance: (*Breaker).balance, Withdraw: (*Breaker).withdraw, Refund: (*Breaker).refund,
		Permit: permitOf, Succeed: Permit.successOf, Record: Permit.recordEnd,
	})
}
