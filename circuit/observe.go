package circuit

import (
	"cmp"
	"context"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/class"
	"github.com/seed-0f2c7998/perdure/internal/redact"
)

// LogTo returns an observer, for Config.Observe, that logs one line for each transition:
// at WARN if the breaker opens or is isolated, else at INFO. If calls were refused since
// the last transition, a second line follows at INFO. Refusals of an open breaker are
// logged at WARN, and waits at INFO, as often as [Transition] says.
func LogTo(logger *slog.Logger) func(context.Context, Transition) {
	return func(ctx context.Context, t Transition) {
		name := "Circuit breaker '" + redact.Line(t.Name) + "'"
		if t.Queued {
			where := "at its gate"
			switch t.Reason.code {
			case RateReached:
				where = "for its rate"
			case ConcurrencyReached:
				where = "for a place of its concurrency"
			default:
			}
			logger.LogAttrs(ctx, slog.LevelInfo, name+" is "+t.To.String()+": calls wait "+where, t.attrs()...)
			return
		}
		if t.From == t.To {
			logger.LogAttrs(ctx, slog.LevelWarn, name+" is "+t.To.String()+": "+
				plural(int(t.Refused), "call")+" refused since it opened", append(t.attrs(), slog.Uint64("refused", t.Refused))...) //nolint:gosec // a count
			return
		}
		logger.LogAttrs(ctx, t.level(), name+" transitioned from "+
			t.From.String()+" to "+t.To.String()+" ("+t.Reason.String()+")", t.attrs()...)
		if t.Refused > 0 {
			logger.LogAttrs(ctx, slog.LevelInfo, name+" has refused "+
				plural(int(t.Refused), "call")+" while "+t.From.String(), //nolint:gosec // a count
				slog.String("event", "refused"), slog.String("breaker", t.Name), slog.Uint64("refused", t.Refused))
		}
	}
}

// LogRecords returns an observer, for Config.Observe, that logs one record for each
// Transition, at the levels of [LogTo]. All facts are in attributes. The message is always
// "circuit breaker transition", "circuit breaker refuses calls" or "circuit breaker queues
// calls".
func LogRecords(logger *slog.Logger) func(context.Context, Transition) {
	return func(ctx context.Context, t Transition) {
		message := "circuit breaker transition"
		switch {
		case t.Queued:
			message = "circuit breaker queues calls"
		case t.From == t.To:
			message = "circuit breaker refuses calls"
		}
		logger.LogAttrs(ctx, t.level(), message,
			append(t.attrs(), slog.String("cause", t.Reason.Cause().String()), slog.Uint64("refused", t.Refused))...)
	}
}

func (t Transition) level() slog.Level {
	if !t.Queued && (t.To == Open || t.To == Isolated) {
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

func (t Transition) attrs() []slog.Attr {
	event := "transition"
	switch {
	case t.Queued:
		event = "queued"
	case t.From == t.To:
		event = "refused"
	}
	attrs := []slog.Attr{
		slog.String("event", event), slog.String("breaker", t.Name), slog.String("from", t.From.String()),
		slog.String("to", t.To.String()), slog.String("reason", t.Reason.String()),
	}
	if !t.RetryAt.IsZero() {
		attrs = append(attrs, slog.Time("retry_at", t.RetryAt))
	}
	if t.ObserveOnly {
		attrs = append(attrs, slog.Bool("observe_only", true))
	}
	return attrs
}

// Observers returns an observer, for Config.Observe, that calls each of observers in
// order, even if an earlier one panics. Nil observers are skipped.
func Observers(observers ...func(context.Context, Transition)) func(context.Context, Transition) {
	observers = slices.DeleteFunc(slices.Clone(observers), func(o func(context.Context, Transition)) bool { return o == nil })
	return func(ctx context.Context, t Transition) {
		for _, observe := range observers {
			notify(ctx, t, observe)
		}
	}
}

// report calls the observer with t.
func (b *Breaker) report(ctx context.Context, t Transition) {
	observe := b.config.Observe
	if observe == nil {
		observe = LogTo(b.log())
	}
	notify(ctx, t, observe)
}

// log returns the logger that Config.Log names.
func (b *Breaker) log() *slog.Logger { return cmp.Or(b.config.Log, slog.Default()) }

// notify calls observe with t. A panic of observe is logged, so it does not change the
// result of the call that made the transition.
func notify(ctx context.Context, t Transition, observe func(context.Context, Transition)) {
	defer func() {
		if v := recover(); v != nil {
			slog.Default().Error("circuit: Config.Observe panicked", "breaker", t.Name, "panic", v)
		}
	}()
	observe(ctx, t)
}

// noCaller returns the context of a transition that no call with a context has made.
func noCaller() context.Context {
	return context.Background() //nolint:forbidigo // no caller has passed a context
}

// Metrics is a snapshot of a breaker. Each field is exact; the fields are not
// read atomically together.
type Metrics struct {
	State      State         // state that applies to a call now
	Failures   int           // consecutive failures of a closed breaker
	Calls      int           // calls in the window; 0 without a window
	Failed     int           // failed calls in the window
	Slow       int           // slow calls in the window
	Trips      uint64        // number of times that the breaker has opened
	Rejected   uint64        // calls that were refused, or with ObserveOnly would have been
	Refused    Refused       // Rejected by reason, and the retries that the budget refused
	Probes     uint64        // probes that were admitted
	OpenTime   time.Duration // how long the breaker was open, or its gate was limited, in all; the current opening included
	Attempts   Attempts      // attempts by class, of the retry policies with Metrics of all processes; 0 unless processes share the state by a Store
	Gated      bool          // the breaker has a gate
	Limited    bool          // the gate limits calls
	Budgeted   bool          // the breaker has a retry budget
	Balance    float64       // tokens in the retry budget; 0 without a budget
	Since      time.Time     // time of the last transition; zero means none
	Reason     Reason        // reason of the last transition
	RetryAt    time.Time     // when an open breaker admits the first probe; zero if it is not open
	NotBefore  time.Time     // end of an opening that servers asked for; zero means none
	Waiting    int           // calls of this process that wait at the gate or for a place of Config.Concurrency
	InFlight   int           // calls of this process that hold a place of Config.Concurrency
	Rate       float64       // rate limit that applies, in calls per second: Config.Rate, or a lower one of another process; 0 means no limit
	Queued     int           // calls of all processes that wait for the Rate
	Waits      uint64        // number of waits at the gate or for the Rate
	Waited     time.Duration // total duration of those waits
	AtGate     int           // calls of all processes that wait at the gate
	OldestWait time.Duration // how long the first call of this process that waits at the gate has waited
	Demand     float64       // lower bound of the operations per second, while the gate is limited; 0 means not known
	Admitted   float64       // calls per second that the gate has admitted since it was limited; 0 if it is not limited
	Credits    uint64        // number of calls that the gate admitted for a credit
	Abandoned  uint64        // number of calls that left the gate without being admitted
	Prober     int           // ID of the process that sent the last probe of a half-open breaker; 0 means not known

	LastFailure      time.Time // when this process last recorded a failure; zero means never
	LastFailureClass string    // class of that failure, such as transient, throttled or unknown; "" means none
}

// Refused is how many calls were refused, by reason.
type Refused struct {
	Open      uint64 // the breaker was open
	HalfOpen  uint64 // all probes were in flight
	Isolated  uint64
	NotBefore uint64 // the breaker was open until an instant that the service asked for
	Gate      uint64 // the gate did not admit the call
	Limit     uint64 // by Config.Rate or Config.Concurrency
	Budget    uint64 // retries for which the budget had no tokens; they are not part of Metrics.Rejected
}

// Attempts is a number of attempts by class: see the classes of package retry.
type Attempts struct {
	Success, Transient, Throttled, Conflict, Permanent, Ignored, Unknown uint64

	Retries uint64 // those of them that were not the first of their operation
}

// countMetrics sets the fields of m that only count.
func (b *Breaker) countMetrics(c *cell.Cell, m *Metrics) {
	m.Trips, m.Rejected, m.Probes = c.Trips.Load(), c.Rejected.Load(), c.Probes.Load()
	m.Refused = Refused{
		Open: c.Refused[cell.RefusedOpen].Load(), HalfOpen: c.Refused[cell.RefusedHalfOpen].Load(),
		Isolated: c.Refused[cell.RefusedIsolated].Load(), NotBefore: c.Refused[cell.RefusedNotBefore].Load(),
		Gate: c.Refused[cell.RefusedByGate].Load(), Limit: c.Refused[cell.RefusedLimit].Load(),
		Budget: c.Refused[cell.RefusedBudget].Load(),
	}
	m.Attempts = Attempts{
		c.Calls[0].Load(), c.Calls[1].Load(), c.Calls[2].Load(), c.Calls[3].Load(),
		c.Calls[4].Load(), c.Calls[5].Load(), c.Calls[6].Load(), c.Retries.Load(),
	}
	for { // an opening that ended long before the next call is not open until that call
		w, now := packedState(c.Breaker.Load()), b.now()
		m.OpenTime = c.OpenTime(b.openUntil(w, now))
		if packedState(c.Breaker.Load()) == w {
			return
		}
	}
}

// recordFailure records the time and class of a failure for Metrics.
func (b *Breaker) recordFailure(c class.Class) {
	b.lastFailure.Store(uint64(b.clock().UnixMilli())<<8 | uint64(c))
}

// Metrics returns a snapshot of the breaker.
func (b *Breaker) Metrics() Metrics {
	if b == nil {
		return Metrics{}
	}
	c := b.cell.Load()
	m := Metrics{
		State: b.State(), Reason: unpack(c.Reason.Load()), NotBefore: b.notBefore(),
	}
	b.countMetrics(c, &m)
	if last := b.lastFailure.Load(); last != 0 {
		m.LastFailure, m.LastFailureClass = time.UnixMilli(int64(last>>8)), class.Class(last).String()
	}
	if refusal := b.peek(); refusal != nil {
		m.RetryAt = refusal.RetryAt
	}
	b.gateMetrics(c, &m)
	b.rateMetrics(c, &m)
	if b.places != nil {
		s := b.places.Status()
		m.InFlight, m.Waiting = s.Taken, m.Waiting+s.Waiting
	}
	m.Calls, m.Failed, m.Slow = b.counts(c)
	if w := packedState(c.Breaker.Load()); w.state() == Closed {
		m.Failures = w.failures()
	} else if w.state() == HalfOpen {
		m.Prober = prober(c, w)
	}
	if t, on := b.balance(); on {
		m.Budgeted, m.Balance = true, float64(t)/float64(Token)
	}
	if since := c.Since.Load(); since != 0 {
		m.Since = time.Unix(0, since)
	}
	return m
}

// proberBits is the width of the process ID in the word Prober; the generation of the
// packed state is above it, so that the sender of an earlier probe is not shown.
const proberBits = 48

// recordProber records that this process sends the probe that led to state w.
func recordProber(c *cell.Cell, w packedState) {
	c.Probes.Add(1)
	c.Prober.Store(uint64(w.generation())<<proberBits | uint64(os.Getpid()))
}

// prober returns the ID of the process that sent the last probe of w, or 0.
func prober(c *cell.Cell, w packedState) int {
	p := c.Prober.Load()
	if p>>proberBits != uint64(w.generation()) {
		return 0
	}
	return int(p & (1<<proberBits - 1))
}
