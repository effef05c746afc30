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

// A tally counts the retries of a session.
type tally struct {
	mu       sync.Mutex
	on       bool // an observer was made: Close reports an Outcome
	breaker  *circuit.Breaker
	attempts int           // of the operation with the most attempts
	waited   time.Duration // sum of all waits, as if each lasted to its end
	ends     []time.Time   // ends of the waits that may still last
	last     error         // of the latest attempt that failed
	final    error         // of the latest attempt that a policy took for a permanent failure
}

// Observe returns an observer for Policy.Observe. The observer writes the lines of
// [retry.LogTo], with the errors of attempts, to the step's log, and makes Close
// report the [Outcome] of the session. If b is not nil, the Outcome has the state of b.
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

// CountRetries returns an observer as Observe does, except that the observer writes
// nothing to the step's log: for a program that logs its retries itself.
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

// took returns how long the waits have taken. A wait that has been cut short
// counts up to now.
func (t *tally) took() time.Duration {
	took := t.waited
	for _, end := range t.ends {
		took -= max(time.Until(end), 0)
	}
	return took.Round(time.Millisecond)
}

// An Outcome reports how a session ended, for the code that decides whether the
// step is retried. Close sends the Outcome as a custom message if
// [Session.Observe] or [Session.CountRetries] was called.
type Outcome struct {
	Kind    string `json:"kind"`    // OutcomeKind
	Version int    `json:"version"` // 1
	// Outcome is success, exhausted, permanent, deadline, budget, retry_later,
	// breaker_open, limit, interrupted or failed.
	Outcome    string        `json:"outcome"`
	Attempts   int           `json:"attempts"`      // attempts of the operation that failed; after success, the maximum of all operations
	Waited     float64       `json:"waited_s"`      // seconds between attempts, of all operations
	LastError  *string       `json:"last_error"`    // nil if no attempt failed
	Breaker    *BreakerState `json:"breaker"`       // nil if no breaker was observed
	Retryable  bool          `json:"retryable"`     // another run of the work may succeed
	RetryAfter *float64      `json:"retry_after_s"` // seconds to wait before another run; nil if not known
	ExitCode   int           `json:"exit_code"`
}

// maxLast is the limit of the last error of an outcome, in bytes. The message must
// fit a page of the messages file, to be read whole.
const maxLast = 3 << 10

// OutcomeKind is the Kind of every [Outcome].
const OutcomeKind = "perdure/outcome"

// A BreakerState is the name and the state of a breaker in an [Outcome].
type BreakerState struct {
	Name  string        `json:"name"`
	State circuit.State `json:"state"`
}

// Outcome returns the outcome of a session whose work ended with err, nil for
// success.
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
		o.retryAt(open.RetryAt) // the breaker refuses calls until then
	}
	if last != nil {
		message := clip(text(last), maxLast)
		o.LastError = &message
	}
	return o
}

// ended fills in the fields that follow from err, and returns the error of the last
// attempt. The flag permanent says that the policy took err for a permanent
// failure, which err itself does not show if the first attempt failed so.
func (o *Outcome) ended(err error, permanent bool) error {
	stop, last, at := err, err, time.Time{}
	class, hint := (&retry.Policy{}).ClassOf(err)
	gaveUp, retried := errors.AsType[*retry.Error](err)
	switch {
	case retried:
		class = retry.ClassUnknown // the reason to stop counts instead
		at, o.Attempts = gaveUp.RetryAt, gaveUp.Attempts
		for e, ok := gaveUp, true; ok; e, ok = errors.AsType[*retry.Error](e.Last) {
			stop = e.Stop // the innermost gave up first, the others because of it
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
		o.retryAt(at)
	}
	return last
}

// retryAt sets RetryAfter to the time until at; a zero at leaves RetryAfter nil.
func (o *Outcome) retryAt(at time.Time) {
	if !at.IsZero() {
		after := max(time.Until(at), 0).Round(time.Millisecond).Seconds()
		o.RetryAfter = &after
	}
}

// verdict returns the reason why the work stopped, and whether another run of the
// work may succeed.
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
