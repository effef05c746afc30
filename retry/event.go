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
	"github.com/seed-0f2c7998/perdure/internal/seam"
)

// A Kind says what an [Event] reports.
type Kind uint8

// The kinds.
const (
	Retrying  Kind = iota + 1 // an attempt failed; another follows after Delay
	Succeeded                 // a retry succeeded, or with Policy.ObserveAll a first attempt
	Stopped                   // no attempt follows, for the reason in Reason and Stop
	Nested                    // Stopped because an inner retry has already given up
	Queued                    // the next attempt begins to wait: at the breaker's gate, for its rate, or for a place of its concurrency
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

// An Event reports one step of an operation.
type Event struct {
	Kind        Kind          // what happened
	Operation   string        // name of the Policy, without secrets
	Key         string        // name of the Policy's Breaker, without secrets; "" means no Breaker
	Attempt     int           // number of the last attempt, from 1; 0 means that no attempt was made
	MaxAttempts int           // Policy.Attempts: a number or Unlimited
	Class       Class         // class of Err
	Reason      Reason        // why no attempt follows, if Kind is Stopped or Nested; ReasonLimit if Kind is Queued and the wait is for the rate or a place; otherwise 0
	Delay       time.Duration // wait that begins now; 0 unless Kind is Retrying, or Queued for the rate
	Hint        time.Duration // wait that the server asked for; 0 means no wait
	Duration    time.Duration // how long the attempt took; 0 means not known, see Policy.Timed
	Elapsed     time.Duration // time since the first attempt began; 0 means not known, see Policy.Timed
	Err         error         // the attempt's error, printed without secrets; unwraps to the error that the attempt returned
	Stop        error         // why no attempt follows, as in Error.Stop; nil unless Kind is Stopped or Nested
	RetryAt     time.Time     // when the next attempt is due or, if no attempt follows, when the operation can succeed; zero means not known

	// Refused is the number of calls that this process has refused since the breaker
	// opened. It is set, for a log, in the first refusal after 30 s of an open breaker and
	// then once a minute, and in the very first refusal if this process has not reported
	// the opening. In all other events Refused is 0.
	Refused uint64

	// First is true in the Queued events that a log needs: the first in this process since
	// the gate began to limit calls; of waits for the rate, the first in a minute with a
	// Delay of a second or more; of waits for a place, the first in a minute. In all other
	// events First is false.
	First bool
}

// isRefusal reports whether e is about a call that the breaker refused before its first
// attempt.
func (e *Event) isRefusal() bool {
	return e.Kind == Stopped && e.Attempt == 0 && e.Reason == ReasonBreakerOpen
}

// A queueing is a Policy that reports waits for its breaker: a [seam.Queued].
type queueing Policy

// Queued reports that the next attempt of an operation begins to wait.
func (p *queueing) Queued(ctx context.Context, made int, cause seam.WaitCause, first bool, turn time.Time) {
	e := Event{Kind: Queued, Attempt: made, First: first, RetryAt: turn}
	if cause != seam.AtGate {
		e.Reason = ReasonLimit
	}
	if !turn.IsZero() {
		e.Delay = time.Until(turn)
	}
	(*Policy)(p).report(ctx, &e)
}

// report completes e and calls the observer of p with it. If only the default logger
// observes and drops e, report returns at once.
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

// notify calls observe with e. A panic is logged, and does not fail the operation.
func notify(ctx context.Context, e *Event, observe func(context.Context, Event)) {
	defer func() {
		if v := recover(); v != nil {
			slog.Default().Error("retry: Policy.Observe panicked", "operation", e.Operation, "panic", v)
		}
	}()
	observe(ctx, *e)
}

// refused ends a call whose first attempt the breaker refuses. During an outage such
// calls are many: refused makes no event unless an observer or a log receives it.
func (p *Policy) refused(ctx context.Context, refusal *circuit.OpenError) error {
	if s := p.series(); s != nil {
		s.Stopped(0, uint8(ReasonBreakerOpen), true)
	}
	due := breakers.RefusedDue(p.Breaker)
	if p.Observe != nil || due > 0 || slog.Default().Enabled(ctx, slog.LevelDebug) {
		p.report(ctx, &Event{
			Kind: Stopped, Reason: ReasonBreakerOpen, Refused: due, Stop: refusal, RetryAt: refusal.RetryAt,
		})
	}
	return refusal
}

// Observers returns an observer, for Policy.Observe, that calls each of observers in
// turn, even if an earlier one panics. It skips nil. To keep the log of a Policy
// without Observe, pass LogTo(slog.Default()) as well.
func Observers(observers ...func(context.Context, Event)) func(context.Context, Event) {
	observers = slices.DeleteFunc(slices.Clone(observers), func(o func(context.Context, Event)) bool { return o == nil })
	return func(ctx context.Context, e Event) {
		for _, observe := range observers {
			notify(ctx, &e, observe)
		}
	}
}

// LogTo returns an observer, for Policy.Observe, that logs messages for people: each
// retry, and each success after a retry, at INFO, and each abandoned operation at
// WARN. Errors that are not retried, which the caller handles, and operations that the
// caller cancelled are logged at DEBUG. Secrets in URLs are removed.
//
// An open breaker may refuse thousands of calls a second: LogTo logs one of them at
// WARN after 30 s, and then one each minute, with the number of refusals (see
// Event.Refused), and the others at DEBUG. Of the calls that wait at a gate, for a
// rate or for a place of a breaker's concurrency, LogTo logs at INFO only those with
// Event.First, and the others at DEBUG. [circuit.LogTo] logs when a breaker opens, and
// how many calls it refused until its next transition. For logs that are aggregated,
// use [LogRecords].
func LogTo(logger *slog.Logger) func(context.Context, Event) {
	return func(ctx context.Context, e Event) {
		if level := e.level(); e.isNews() && logger.Enabled(ctx, level) {
			logger.LogAttrs(ctx, level, e.Message(), e.attrs()...)
		}
	}
}

// LogRecords returns an observer, for Policy.Observe, that logs the events of [LogTo] at
// the same levels, for machines: all events of a Kind have the same message ("operation
// retrying", "operation succeeded", ...), and the details are attributes. With
// Policy.ObserveAll, first attempts that succeed are logged at DEBUG.
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

// isNews reports whether LogTo logs e: anything but the success of a first attempt.
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

// Message returns a description of the event in one line, for people.
func (e Event) Message() string { return redact.Line(e.message()) }

func (e *Event) message() string {
	switch e.Kind {
	case Retrying:
		return "Retrying " + e.Operation + " in " + seconds(e.Delay) + " (" + e.position() + ")"
	case Succeeded:
		return e.Operation + " succeeded on attempt " + strconv.Itoa(e.Attempt)
	case Queued:
		switch {
		case e.Reason == ReasonLimit && e.RetryAt.IsZero():
			return e.Operation + " waits: concurrency limit of '" + e.Key + "' is reached"
		case e.Reason == ReasonLimit:
			return e.Operation + " waits " + seconds(e.Delay) + " for the rate limit of '" + e.Key + "'"
		}
		return e.Operation + " waits: circuit breaker '" + e.Key + "' limits calls"
	case Nested:
		return e.Operation + " failed: an inner retry has given up: " + errorText(e.Err)
	default:
		return e.ending()
	}
}

// ending returns the message of an abandoned operation.
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
		text += "; " + count(e.Refused, "call") + " refused since it opened"
	}
	return text
}

// position returns "attempt 1/5", or "attempt 1" if the attempts are unlimited.
func (e *Event) position() string {
	text := "attempt " + strconv.Itoa(e.Attempt)
	if e.MaxAttempts > 0 {
		text += "/" + strconv.Itoa(e.MaxAttempts)
	}
	return text
}

// attrs returns an attribute for each field of the event that has a value.
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
	return redact.Message(err.Error())
}

// seconds returns a text such as "1.0 seconds", with two significant digits below 0.1 s.
func seconds(d time.Duration) string {
	digits := 1
	if s := d.Seconds(); s > 0 && s < 0.1 {
		digits = 1 - int(math.Floor(math.Log10(s)))
	}
	return fmt.Sprintf("%.*f seconds", digits, d.Seconds())
}
