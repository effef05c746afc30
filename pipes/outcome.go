package pipes

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A tally is what is known of a session's retries.
type tally struct {
	mu       sync.Mutex
	on       bool // there is somebody to tell
	breaker  *circuit.Breaker
	attempts int           // the most that one operation took
	waited   time.Duration // all waits, as if none was cut short
	ends     []time.Time   // of the latest waits
	last     error
	final    error // of the latest attempt that its policy took for a permanent failure
}

// Observe returns an observer, for Policy.Observe, that writes what
// [retry.LogTo] does to the step's log, an attempt's error included, and makes
// Close report the [Outcome] of the session, with the state of b; nil is none.
func (s *Session) Observe(b *circuit.Breaker) func(context.Context, retry.Event) {
	if !s.Launched() {
		return retry.LogTo(slog.Default())
	}
	count, log := s.CountRetries(b), retry.LogTo(slog.New(s.Handler(slog.LevelDebug)))
	return func(ctx context.Context, e retry.Event) {
		count(ctx, e)
		log(ctx, e)
	}
}

// CountRetries returns an observer as Observe does, but for one that writes nothing to
// the step's log: for a program that logs its retries by itself.
func (s *Session) CountRetries(b *circuit.Breaker) func(context.Context, retry.Event) {
	s.tally.mu.Lock()
	defer s.tally.mu.Unlock()
	s.tally.on = true
	if b != nil {
		s.tally.breaker = b
	}
	return s.tally.add
}

func (t *tally) add(_ context.Context, e retry.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.attempts = max(t.attempts, e.Attempt)
	if e.Delay > 0 {
		now := time.Now()
		t.ends = append(slices.DeleteFunc(t.ends, now.After), now.Add(e.Delay))
		t.waited += e.Delay
	}
	if e.Err != nil {
		t.last = e.Err
	}
	if e.Kind == retry.Stopped && errors.Is(e.Stop, retry.ErrPermanent) {
		t.final = redact.Original(e.Err)
	}
}

// took returns how long the waits took, of which the last may be cut short.
func (t *tally) took() time.Duration {
	took := t.waited
	for _, end := range t.ends {
		took -= max(time.Until(end), 0)
	}
	return took.Round(time.Millisecond)
}

// An Outcome is how a session ended, for code that decides what follows: the
// custom message that Close sends when a policy was observed.
type Outcome struct {
	Kind    string `json:"kind"`    // OutcomeKind
	Version int    `json:"version"` // 1
	// Outcome is success, exhausted, permanent, deadline, budget, retry_later,
	// breaker_open, limit, interrupted or failed.
	Outcome    string        `json:"outcome"`
	Attempts   int           `json:"attempts"`      // of the operation that ended the work; else the most that one took
	Waited     float64       `json:"waited_s"`      // in seconds, between the attempts of all operations
	LastError  *string       `json:"last_error"`    // null if no attempt failed
	Breaker    *BreakerState `json:"breaker"`       // null if there is none
	Retryable  bool          `json:"retryable"`     // it makes sense to start the work again
	RetryAfter *float64      `json:"retry_after_s"` // in so many seconds; null if not known
	ExitCode   int           `json:"exit_code"`
}

// maxLast is the room for the last error of an outcome, all of which shall fit a
// page of the messages file: what follows depends on it.
const maxLast = 3 << 10

// OutcomeKind is the Kind of every [Outcome].
const OutcomeKind = "perdure/outcome"

// A BreakerState is the state of a breaker in an [Outcome].
type BreakerState struct {
	Name  string        `json:"name"`
	State circuit.State `json:"state"`
}

// Outcome returns the outcome of a session whose work ends with err.
func (s *Session) Outcome(err error) Outcome {
	o := Outcome{Kind: OutcomeKind, Version: 1, Outcome: "success", Attempts: 1, ExitCode: ExitCode(err)}
	s.tally.mu.Lock()
	o.Attempts, o.Waited = max(o.Attempts, s.tally.attempts), s.tally.took().Seconds()
	last, b, final := s.tally.last, s.tally.breaker, s.tally.final
	s.tally.mu.Unlock()
	if b != nil {
		o.Breaker = &BreakerState{b.Name(), b.State()}
	}
	if err != nil {
		last = o.ended(err, final != nil && errors.Is(err, final))
	}
	if open := breakers.Peek(b); open != nil && o.Retryable && o.RetryAfter == nil {
		o.comeBack(open.RetryAt) // it would be refused before
	}
	if last != nil {
		message := clip(text(last), maxLast)
		o.LastError = &message
	}
	return o
}

// ended fills in what err tells, and returns the error of the last attempt. What
// the policy has taken for a permanent failure is one, by whatever rule of its
// own: the first attempt's error comes without a word of that.
func (o *Outcome) ended(err error, permanent bool) error {
	stop, last, at := err, err, time.Time{}
	class, hint := (&retry.Policy{}).ClassOf(err)
	gaveUp, retried := errors.AsType[*retry.Error](err)
	switch {
	case retried:
		class = retry.ClassUnknown // the reason to stop is what counts
		at, o.Attempts = gaveUp.RetryAt, gaveUp.Attempts
		for e, ok := gaveUp, true; ok; e, ok = errors.AsType[*retry.Error](e.Last) {
			stop = e.Stop // the innermost has given up first, the others because of it
			if e.Last != nil {
				last = e.Last
			}
		}
	case permanent, class == retry.ClassUnknown: // an error that no rule knows is not retried
		class = retry.ClassPermanent
	}
	if retryAt, refused := breakers.Refusal(stop); refused {
		if at.IsZero() {
			at = retryAt
		}
		if !retried {
			o.Attempts = 0
		}
	}
	if open, ok := errors.AsType[*circuit.OpenError](stop); ok {
		o.Breaker = &BreakerState{open.Name, open.State}
	}
	if at.IsZero() && hint > 0 {
		at = time.Now().Add(hint)
	}
	o.Outcome, o.Retryable = verdict(stop, err, class)
	if o.Retryable {
		o.comeBack(at)
	}
	return last
}

// comeBack says when it makes sense to start the work again; the zero Time is
// not known.
func (o *Outcome) comeBack(at time.Time) {
	if !at.IsZero() {
		after := max(time.Until(at), 0).Round(time.Millisecond).Seconds()
		o.RetryAfter = &after
	}
}

// verdict names the reason for which the work stopped, and says whether it
// makes sense to start it again.
func verdict(stop, err error, class retry.Class) (string, bool) {
	var open *circuit.OpenError
	var limit *circuit.LimitError
	var signalled *SignalError
	switch {
	case errors.As(err, &signalled), errors.Is(err, context.Canceled):
		return "interrupted", false
	case errors.As(stop, &open):
		return "breaker_open", true
	case errors.As(stop, &limit):
		return "limit", true
	case errors.Is(stop, retry.ErrExhausted):
		return "exhausted", true
	case errors.Is(stop, retry.ErrBudget):
		return "budget", true
	case errors.Is(stop, retry.ErrRetryLater):
		return "retry_later", true
	case errors.Is(stop, retry.ErrPermanent), class == retry.ClassPermanent:
		return "permanent", false
	case errors.Is(stop, retry.ErrDeadline), errors.Is(stop, context.DeadlineExceeded):
		return "deadline", true
	default:
		return "failed", true
	}
}
