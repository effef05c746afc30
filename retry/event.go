package retry

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/redact"
)

// A Kind is what an [Event] tells.
type Kind uint8

// The kinds.
const (
	Retrying  Kind = iota + 1 // an attempt failed; another follows after Delay
	Succeeded                 // a retry succeeded; a first attempt that does tells nothing
	Stopped                   // no attempt follows, because of Stop
	Held                      // an attempt waits for Delay, because the server asked others to
	Nested                    // as Stopped: another retry, further in, has already given up
)

// String returns retrying, succeeded, stopped, held or nested.
func (k Kind) String() string {
	names := [...]string{"", "retrying", "succeeded", "stopped", "held", "nested"}
	if int(k) < len(names) {
		return names[k]
	}
	return "Kind(" + strconv.Itoa(int(k)) + ")"
}

// An Event is one thing that happened to an operation.
type Event struct {
	Kind        Kind
	Operation   string        // the Policy's name
	Attempt     int           // that it is about, from 1; 0 if none was made
	MaxAttempts int           // or Unlimited
	Class       Class         // of Err
	Delay       time.Duration // that is waited now; of Retrying and Held
	Hint        time.Duration // that the server asked for; 0: nothing
	Elapsed     time.Duration // as Error.Elapsed
	Err         error         // of the attempt; secrets are still in it
	Stop        error         // why no attempt follows; of Stopped and Nested
	RetryAt     time.Time     // when the next attempt is due, or it makes sense to come back; zero: not known
}

// report hands e to the observer. What that panics with is logged: the
// operation shall not fail for it.
func (c *Call) report(ctx context.Context, e Event) {
	e.Operation, e.MaxAttempts = c.policy.name(), c.policy.Attempts()
	defer func() {
		if v := recover(); v != nil {
			slog.Default().Error("retry: Policy.Observe panicked", "operation", e.Operation, "panic", v)
		}
	}()
	if c.policy.Observe != nil {
		c.policy.Observe(ctx, e)
		return
	}
	LogTo(slog.Default())(ctx, e)
}

// LogTo returns an observer, for Policy.Observe, that writes a line for each
// retry and for each success after one at INFO, and for an operation that is
// given up at WARN. An error that is not worth a retry is the caller's to
// tell: it is logged at DEBUG, as is a call that its caller ended. URLs lose
// their secrets.
func LogTo(logger *slog.Logger) func(context.Context, Event) {
	return func(ctx context.Context, e Event) {
		if level := e.level(); logger.Enabled(ctx, level) {
			logger.LogAttrs(ctx, level, e.Message(), e.attrs()...)
		}
	}
}

func (e Event) level() slog.Level {
	switch {
	case e.Kind == Nested, e.Kind == Stopped && e.Attempt <= 1 && (e.Class == ClassPermanent || e.Class == ClassUnknown && e.Stop == ErrPermanent), //nolint:errorlint // the decision's own
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
	case Held:
		return "Holding " + e.Operation + " for " + seconds(e.Delay) + ": the server asked not to be called before " +
			e.RetryAt.Format(time.RFC3339)
	case Nested:
		return e.Operation + " failed: a retry further in has given up: " + errorText(e.Err)
	default:
		return e.ending()
	}
}

// ending is the message of an operation that is given up.
func (e Event) ending() string {
	text := e.Operation + " failed"
	if e.Attempt > 0 {
		text += " after " + count(e.Attempt, "attempt")
	}
	text += " (" + errorText(e.Stop) + ")"
	if e.Err != nil {
		text += ": " + errorText(e.Err)
	}
	return text
}

// position is "attempt 1/5", or "attempt 1" of an unlimited number.
func (e Event) position() string {
	text := "attempt " + strconv.Itoa(e.Attempt)
	if e.MaxAttempts > 0 {
		text += "/" + strconv.Itoa(e.MaxAttempts)
	}
	return text
}

// attrs returns every fact of the event that has a value.
func (e Event) attrs() []slog.Attr {
	attrs := []slog.Attr{
		slog.String("event", e.Kind.String()), slog.String("operation", e.Operation),
		slog.Int("attempt", e.Attempt),
	}
	if e.MaxAttempts > 0 {
		attrs = append(attrs, slog.Int("max_attempts", e.MaxAttempts))
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"delay", e.Delay}, {"retry_after", e.Hint}, {"elapsed", e.Elapsed}} {
		if d.value > 0 {
			attrs = append(attrs, slog.Duration(d.name, d.value))
		}
	}
	if e.Class != ClassUnknown {
		attrs = append(attrs, slog.String("class", e.Class.String()))
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
