package retry

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/redact"
)

// A Kind is what an [Event] reports.
type Kind uint8

// The kinds.
const (
	Retrying  Kind = iota + 1 // an attempt failed; another follows after Delay
	Succeeded                 // a retry succeeded, or with Policy.ObserveAll a first attempt
	Stopped                   // no attempt follows, because of Stop
	Nested                    // as Stopped: another retry, further in, has already given up
	Queued                    // the next attempt begins to wait: at the gate of the circuit breaker, for its rate, or for a place of its concurrency
)

// String returns retrying, succeeded, stopped, nested or queued.
func (k Kind) String() string {
	return nameOf("Kind", k, "", "retrying", "succeeded", "stopped", "nested", "queued")
}

func nameOf[T ~uint8](what string, n T, names ...string) string {
	if int(n) < len(names) {
		return names[n]
	}
	return what + "(" + strconv.Itoa(int(n)) + ")"
}

// An Event is one thing that happened to an operation.
type Event struct {
	Kind        Kind          // what happened
	Operation   string        // name of the Policy, without secrets
	Key         string        // name of the Policy's Breaker, without secrets; "" means no Breaker
	Attempt     int           // number of the attempt, from 1; 0 means that none was made; of Queued, of the one before
	MaxAttempts int           // Policy.Attempts: a number or Unlimited
	Class       Class         // class of Err
	Reason      Reason        // why no attempt follows; 0 unless Kind is Stopped or Nested, but for ReasonLimit of a Queued event, of a wait for the rate
	Delay       time.Duration // wait that begins now; 0 unless Kind is Retrying, or Queued for the rate
	Hint        time.Duration // wait that the server asked for; 0 means none
	Duration    time.Duration // how long the attempt took; 0 means not known, see Policy.Timed
	Elapsed     time.Duration // time since the first attempt began; 0 means not known, see Policy.Timed
	Err         error         // the attempt's error, printed without secrets; unwraps to what the attempt returned
	Stop        error         // why no attempt follows, as Error.Stop; nil unless Kind is Stopped or Nested
	RetryAt     time.Time     // when the next attempt is due or, if none follows, makes sense; zero means not known

	// Refused is set in the first event of a refused call after 30 s of an open
	// breaker, and then after each minute, to how many calls this process has
	// refused in that opening; also in the very first, as 1, if the opening itself
	// was not reported in this process. In the events of all other refused calls
	// it is 0.
	Refused uint64

	// First is set in the first Queued event of this process since the gate was
	// limited, and of those that wait for the rate in the first in a minute whose
	// Delay is a second or more: of thousands that queue at once, one is for the log.
	First bool
}

// isRefusal reports whether e is that of a call which was not made, because the
// breaker is not closed.
func (e *Event) isRefusal() bool {
	return e.Kind == Stopped && e.Attempt == 0 && e.Reason == ReasonBreakerOpen
}

// A queueing is a Policy that reports a wait at a gate.
type queueing Policy

// Queued reports that the next attempt of an operation, after so many, begins to wait.
func (p *queueing) Queued(ctx context.Context, made int, first bool, turn time.Time) {
	e := Event{Kind: Queued, Attempt: made, First: first, RetryAt: turn}
	if !turn.IsZero() {
		e.Reason, e.Delay = ReasonLimit, time.Until(turn)
	}
	(*Policy)(p).report(ctx, &e)
}

// report calls the observer of p with e, which it completes, unless nobody would
// see e: then nothing is made of it.
func (p *Policy) report(ctx context.Context, e *Event) {
	observe := p.Observe
	if observe == nil {
		logger := slog.Default()
		if !e.isNews() || !logger.Enabled(ctx, e.level()) {
			return
		}
		observe = LogTo(logger)
	}
	e.Operation, e.Key = or(redact.String(p.Name), unnamed), p.Breaker.Name()
	e.MaxAttempts = p.Attempts()
	if e.Err = redact.Error(e.Err); e.Reason == ReasonCancelled {
		e.Stop = redact.Error(e.Stop) // the cause is the caller's
	}
	notify(ctx, e, observe)
}

// notify calls observe with e. What it panics with is logged: the operation
// does not fail for it.
func notify(ctx context.Context, e *Event, observe func(context.Context, Event)) {
	defer func() {
		if v := recover(); v != nil {
			slog.Default().Error("retry: Policy.Observe panicked", "operation", e.Operation, "panic", v)
		}
	}()
	observe(ctx, *e)
}

// refused ends a call whose first attempt the breaker refuses. An outage has
// many: without an observer and DEBUG no event is made of them, unless it is due.
func (p *Policy) refused(ctx context.Context, refusal *circuit.OpenError) error {
	due := breakers.Refused(p.Breaker)
	if p.Observe != nil || due > 0 || slog.Default().Enabled(ctx, slog.LevelDebug) {
		p.report(ctx, &Event{
			Kind: Stopped, Reason: ReasonBreakerOpen, Refused: due, Stop: refusal, RetryAt: refusal.RetryAt,
		})
	}
	return refusal
}

// Observers returns an observer, for Policy.Observe, that calls each of
// observers in turn, also if one before it panics. Nil ones are left out. To keep
// the log that a Policy without Observe has, make LogTo(slog.Default()) one of
// them.
func Observers(observers ...func(context.Context, Event)) func(context.Context, Event) {
	observers = slices.DeleteFunc(slices.Clone(observers), func(o func(context.Context, Event)) bool { return o == nil })
	return func(ctx context.Context, e Event) {
		for _, observe := range observers {
			notify(ctx, &e, observe)
		}
	}
}

// LogTo returns an observer, for Policy.Observe, that writes a line for each
// retry and for each success after one at INFO, and for an operation that is
// given up at WARN. An error that is not worth a retry is the caller's to
// report: it is logged at DEBUG, as is a call that its caller ended.
//
// Of the calls that an open breaker refuses, which may be thousands a second, one
// is logged at WARN after 30 s, and then one each minute, with the number of
// refusals so far (see Event.Refused), and the others at DEBUG. Of the calls that
// wait at a gate or for a rate, the first is logged at INFO (see Event.First), and the
// others at DEBUG. That the breaker
// opened, and how many calls it refused until its next transition, is logged by
// [circuit.LogTo]. URLs lose their secrets. [LogRecords] is for logs that are aggregated.
func LogTo(logger *slog.Logger) func(context.Context, Event) {
	return func(ctx context.Context, e Event) {
		if level := e.level(); e.isNews() && logger.Enabled(ctx, level) {
			logger.LogAttrs(ctx, level, e.Message(), e.attrs()...)
		}
	}
}

// LogRecords returns an observer, for Policy.Observe, that writes what [LogTo]
// writes, at the same levels, for machines: the message is the same for all
// events of one Kind ("operation retrying", "operation succeeded", ...), and all
// that differs is in attributes. A first attempt that succeeds, with
// Policy.ObserveAll, is written at DEBUG.
func LogRecords(logger *slog.Logger) func(context.Context, Event) {
	return func(ctx context.Context, e Event) {
		level := e.level()
		if !e.isNews() {
			level = slog.LevelDebug
		}
		if logger.Enabled(ctx, level) {
			logger.LogAttrs(ctx, level, "operation "+e.Kind.String(), e.attrs()...)
		}
	}
}

// isNews reports whether e is more than a first attempt that succeeded.
func (e *Event) isNews() bool { return e.Kind != Succeeded || e.Attempt > 1 }

func (e *Event) level() slog.Level {
	switch {
	case e.isRefusal() && e.Refused == 0, e.Kind == Nested, e.Kind == Queued && !e.First,
		e.Kind == Stopped && e.Attempt <= 1 && e.Reason == ReasonPermanent,
		e.Class == ClassIgnored:
		return slog.LevelDebug
	case e.Kind == Stopped:
		return slog.LevelWarn
	default:
		return slog.LevelInfo
	}
}

// Message returns the event as one line for people.
func (e Event) Message() string {
	switch e.Kind {
	case Retrying:
		return "Retrying " + e.Operation + " in " + seconds(e.Delay) + " (" + e.position() + ")"
	case Succeeded:
		return e.Operation + " succeeded on attempt " + strconv.Itoa(e.Attempt)
	case Queued:
		if e.Reason == ReasonLimit {
			return e.Operation + " waits " + seconds(e.Delay) + " for the rate limit of '" + e.Key + "'"
		}
		return e.Operation + " waits: circuit breaker '" + e.Key + "' limits calls"
	case Nested:
		return e.Operation + " failed: a retry further in has given up: " + errorText(e.Err)
	default:
		return e.ending()
	}
}

// ending is the message of an operation that is given up.
func (e *Event) ending() string {
	text := e.Operation + " failed"
	if e.Attempt > 0 {
		text += " after " + count(e.Attempt, "attempt")
	}
	text += " (" + errorText(e.Stop) + ")"
	if e.Err != nil {
		text += ": " + errorText(e.Err)
	}
	if e.Refused > 1 {
		text += "; " + count(int(e.Refused), "call") + " refused since it opened" //nolint:gosec // a count
	}
	return text
}

// position is "attempt 1/5", or "attempt 1" of an unlimited number.
func (e *Event) position() string {
	text := "attempt " + strconv.Itoa(e.Attempt)
	if e.MaxAttempts > 0 {
		text += "/" + strconv.Itoa(e.MaxAttempts)
	}
	return text
}

// attrs returns every fact of the event that has a value.
func (e *Event) attrs() []slog.Attr {
	attrs := []slog.Attr{
		slog.String("event", e.Kind.String()), slog.String("operation", e.Operation),
		slog.Int("attempt", e.Attempt),
	}
	if e.Key != "" {
		attrs = append(attrs, slog.String("key", e.Key))
	}
	if e.MaxAttempts > 0 {
		attrs = append(attrs, slog.Int("max_attempts", e.MaxAttempts))
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"delay", e.Delay}, {"retry_after", e.Hint}, {"duration", e.Duration}, {"elapsed", e.Elapsed}} {
		if d.value > 0 {
			attrs = append(attrs, slog.Duration(d.name, d.value))
		}
	}
	if e.Class != ClassUnknown {
		attrs = append(attrs, slog.String("class", e.Class.String()))
	}
	if e.Reason != 0 {
		attrs = append(attrs, slog.String("reason", e.Reason.String()))
	}
	if e.Refused > 0 {
		attrs = append(attrs, slog.Uint64("refused", e.Refused))
	}
	if e.Err != nil {
		attrs = append(attrs, slog.String("error", errorText(e.Err)))
	}
	if e.Stop != nil {
		attrs = append(attrs, slog.String("stop", errorText(e.Stop)))
	}
	if !e.RetryAt.IsZero() {
		attrs = append(attrs, slog.Time("retry_at", e.RetryAt))
	}
	return attrs
}

func errorText(err error) string {
	if err == nil {
		return "no error"
	}
	return redact.String(err.Error())
}

// seconds is "1.0 seconds"; below a tenth of a second it has two significant
// digits.
func seconds(d time.Duration) string {
	digits := 1
	if s := d.Seconds(); s > 0 && s < 0.1 {
		digits = 1 - int(math.Floor(math.Log10(s)))
	}
	return fmt.Sprintf("%.*f seconds", digits, d.Seconds())
}
