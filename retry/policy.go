package retry

import (
	"context"
	"math"
	"time"

	"github.com/seed-0f2c7998/perdure"
	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/class"
	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// What a number of a Policy may be besides a positive one.
const (
	Unlimited = -1 // as MaxAttempts: no limit of attempts
	NoJitter  = -1 // as Jitter: no randomness in any delay
)

// A Policy configures how an operation is retried. It is plain data: the zero
// Policy is ready for use and has the defaults given here. It holds no state
// of a call, so one Policy serves any number of goroutines; do not change it
// after its first use. Copies share nothing but their Breaker.
//
// Its text form, for [Policy.Set] and JSON, has names like max_attempts, takes
// a number as seconds, and has no value that means default: omit a field to get
// its default.
type Policy struct {
	// Name of the operation, in logs, events and errors; "" means "operation".
	Name string

	// MaxAttempts is how often the operation is tried, the first included;
	// 0 means 5, Unlimited no limit.
	MaxAttempts int
	// BaseDelay is the wait after the first attempt; 0 means 1s.
	BaseDelay time.Duration
	// MaxDelay is the longest wait, jitter included, but for one that the
	// server asked for; 0 means 30s. A BaseDelay or ThrottleDelay that is longer
	// counts as MaxDelay.
	MaxDelay time.Duration
	// ExponentialBase multiplies the wait after each attempt, 1 to 1000;
	// 0 means 2.
	ExponentialBase float64
	// Jitter is the width by which [Additive] jitter spreads a delay; 0 means
	// 1s, NoJitter no randomness at all in any mode.
	Jitter time.Duration
	// JitterMode says how a delay is spread; the zero one is Additive.
	JitterMode JitterMode
	// ThrottleDelay takes the place of BaseDelay for throttled errors;
	// 0 means BaseDelay.
	ThrottleDelay time.Duration

	// RetryOn chooses the errors to retry: if it is not empty, no other error is
	// retried. An entry is one of the words timeout, connection, throttled and
	// conflict; an HTTP status ("503", "5xx"); what an SQLState method returns
	// ("40001"); or what an ErrorCode method returns ("SlowDown"). The word
	// default stands for every error that would be retried without RetryOn, so
	// that {"default", "NoSuchBucket"} adds one. Words are small letters; a code
	// has a capital or a separator in it.
	RetryOn []string
	// IgnoreOn names errors that are not retried, in the same way, but for
	// default. It wins over RetryOn. An error that is not retried because of
	// either list keeps its class for the Breaker.
	IgnoreOn []string

	// AttemptTimeout ends the context of each attempt; that is a transient
	// error. 0 means no timeout but the caller's.
	AttemptTimeout time.Duration
	// MaxElapsed is the time, since the first attempt began, within which the
	// last may begin; 0 means no limit. A call with it reads the clock once more.
	MaxElapsed time.Duration
	// MaxRetryAfter is the longest wait that a server may ask for: if it asks
	// for more, the operation ends with [ErrRetryLater]. 0 means 60s.
	MaxRetryAfter time.Duration
	// IgnoreRetryAfter ignores Retry-After and rate-limit hints; in text it is
	// respect_retry_after: false.
	IgnoreRetryAfter bool
	// RetryNested retries errors on which another retry, further in, has already
	// given up. If false (the default), such errors are permanent, so attempts do
	// not multiply.
	RetryNested bool

	// Classify returns the class of an error; ClassUnknown leaves it to the
	// general rules, and so does nil. It is called once for each failed attempt,
	// on the caller's goroutine. Marks and the lists have the last word.
	Classify func(error) Class
	// Observe is called with each event, on the caller's goroutine, under no
	// lock, and before a wait. It is given the caller's context, so that a
	// handler of slog finds the trace of the call in it. A panic in it is logged
	// and changes nothing. If nil, it is LogTo(slog.Default()).
	Observe func(context.Context, Event)
	// ObserveAll reports operations whose first attempt succeeds, too: as
	// Succeeded, with Attempt 1. LogTo writes nothing of those.
	ObserveAll bool
	// Timed reads the clock before the first attempt, so that Elapsed and the
	// first attempt's Duration are known in events and errors. They also are with
	// MaxElapsed, AttemptTimeout or ObserveAll.
	Timed bool
	// Breaker is what the operations on one key share: circuit breaker and retry
	// budget. If nil, they share nothing.
	Breaker *circuit.Breaker
}

// unnamed is what an operation without a name is called.
const unnamed = "operation"

func (p *Policy) name() string                 { return or(p.Name, unnamed) }
func (p *Policy) baseDelay() time.Duration     { return or(p.BaseDelay, time.Second) }
func (p *Policy) maxDelay() time.Duration      { return or(p.MaxDelay, 30*time.Second) }
func (p *Policy) exponentialBase() float64     { return or(p.ExponentialBase, 2) }
func (p *Policy) jitter() time.Duration        { return or(p.Jitter, time.Second) }
func (p *Policy) maxRetryAfter() time.Duration { return or(p.MaxRetryAfter, time.Minute) }

// Attempts returns how often the operation is tried, or [Unlimited].
func (p *Policy) Attempts() int { return or(p.MaxAttempts, 5) }

// ForRerun returns p with its attempts halved n times, rounded down, but at least
// one: for the nth re-run of a failed step by an orchestrator. With an unchanged
// policy the attempts of all runs multiply; with ForRerun(n) they stay below twice
// the attempts of the first run plus one for each re-run.
//
// If the attempts are [Unlimited], MaxElapsed is halved instead; 0, no limit, stays
// 0. An n of 0 or less returns p as it is.
func (p Policy) ForRerun(n int) Policy {
	switch attempts := p.Attempts(); {
	case n <= 0:
	case attempts > 0:
		p.MaxAttempts = max(attempts>>n, 1)
	case attempts == Unlimited && p.MaxElapsed > 0:
		p.MaxElapsed = max(p.MaxElapsed>>n, 1) // 0 would be no limit
	}
	return p
}

// timed reports whether the time of the first attempt is needed.
func (p *Policy) timed() bool {
	return p.MaxElapsed != 0 || p.AttemptTimeout != 0 || p.Timed || p.ObserveAll
}

// or is cmp.Or for two, which is inlined: every call comes by.
func or[T comparable](v, byDefault T) T {
	if v == *new(T) {
		return byDefault
	}
	return v
}

// maxBase is the greatest ExponentialBase: larger values are almost certainly typos.
const maxBase = 1000

// forever is a field's limit where time itself is the only one.
const forever = time.Duration(math.MaxInt64)

// fields is the table of what a Policy can say in text.
func fields() []setting.Field[Policy] {
	return []setting.Field[Policy]{
		setting.Text("name", "name of the operation in logs, events and errors",
			func(p *Policy) *string { return &p.Name }),
		setting.Whole("max_attempts", "attempts in all, the first included (5)",
			1, math.MaxInt, "unlimited", func(p *Policy) *int { return &p.MaxAttempts }),
		setting.Span("base_delay", "seconds to wait after the first attempt (1)",
			1, forever, setting.None, func(p *Policy) *time.Duration { return &p.BaseDelay }),
		setting.Span("max_delay", "seconds of the longest wait (30)",
			1, forever, setting.None, func(p *Policy) *time.Duration { return &p.MaxDelay }),
		setting.Ratio("exponential_base", "factor of the wait for each attempt (2)",
			1, maxBase, func(p *Policy) *float64 { return &p.ExponentialBase }),
		setting.Span("jitter", "seconds of random time added to a wait (1); 0 for none",
			1, forever, "0", func(p *Policy) *time.Duration { return &p.Jitter }),
		setting.Choice("jitter_mode", "how a wait is spread (additive)",
			jitterNames(), func(p *Policy) *JitterMode { return &p.JitterMode }),
		setting.Span("throttle_delay", "seconds to wait after the first attempt, if it was throttled (base_delay)",
			1, forever, setting.None, func(p *Policy) *time.Duration { return &p.ThrottleDelay }),
		setting.Entries("retry_on", "the only errors to retry: timeout, connection, throttled, conflict, HTTP statuses, codes; default adds the usual ones",
			class.WantRetryOn, class.CheckRetryOn, func(p *Policy) *[]string { return &p.RetryOn }),
		setting.Entries("ignore_on", "errors not to retry: timeout, connection, throttled, conflict, HTTP statuses, codes; wins",
			class.WantIgnoreOn, class.CheckIgnoreOn, func(p *Policy) *[]string { return &p.IgnoreOn }),
		setting.Span("attempt_timeout", "seconds that one attempt may take (no limit)",
			1, forever, setting.None, func(p *Policy) *time.Duration { return &p.AttemptTimeout }),
		setting.Span("max_elapsed", "seconds within which the last attempt may begin (no limit)",
			1, forever, setting.None, func(p *Policy) *time.Duration { return &p.MaxElapsed }),
		setting.Span("max_retry_after", "seconds of the longest wait that a server may ask for (60)",
			1, forever, setting.None, func(p *Policy) *time.Duration { return &p.MaxRetryAfter }),
		setting.Switch("respect_retry_after", "wait as long as a server asks (true)",
			false, func(p *Policy) *bool { return &p.IgnoreRetryAfter }),
		setting.Switch("retry_nested", "retry what another retry has given up on (false)",
			true, func(p *Policy) *bool { return &p.RetryNested }),
	}
}

// Parameters returns what [Policy.Set] takes, in the order of a table.
func Parameters() []perdure.Parameter { return setting.Parameters(fields()) }

// Set gives the parameter of that name the value that text says. A number is
// seconds where a time is meant, and "1500ms" is understood as well; values of
// a list are separated by commas. The error is a [*ConfigError], and p is then
// as it was. How parameters fit together is for Validate to say.
func (p *Policy) Set(name, text string) error { return setting.Set(fields(), p, name, text) }

// Validate returns a [*ConfigError] about the first value that is not allowed,
// that of the Breaker included, or nil.
func (p *Policy) Validate() error {
	if err := setting.Check(fields(), p); err != nil {
		return err
	}
	return breakers.Invalid(p.Breaker)
}

// plausible reports whether Validate would find nothing in the numbers of a
// policy without timeouts, in a few nanoseconds: every call asks. It must not be
// true for a policy that Validate refuses; lists and Breakers answer for themselves.
func (p *Policy) plausible() bool {
	return p.MaxAttempts >= Unlimited && min(p.BaseDelay, p.MaxDelay, p.ThrottleDelay, p.MaxRetryAfter) >= 0 &&
		p.Jitter >= NoJitter && p.JitterMode.isValid() &&
		(p.ExponentialBase == 0 || p.ExponentialBase >= 1 && p.ExponentialBase <= maxBase)
}

// check is Validate for a call that is about to begin: it costs little.
func (p *Policy) check() error {
	if p.AttemptTimeout >= 0 && p.MaxElapsed >= 0 && p.plausible() &&
		setting.Allowed(p.RetryOn, class.CheckRetryOn) && setting.Allowed(p.IgnoreOn, class.CheckIgnoreOn) {
		return breakers.Invalid(p.Breaker)
	}
	return p.Validate()
}

// MarshalJSON writes what is not the default, with the names of [Parameters].
// Classify, Observe, ObserveAll, Timed and Breaker have no text form.
func (p Policy) MarshalJSON() ([]byte, error) { return setting.MarshalJSON(fields(), &p) }

// UnmarshalJSON reads parameters with the names of [Parameters]; what is not
// named stays as it is. An unknown name or a value that is not allowed is a
// [*ConfigError], and p is then as it was.
func (p *Policy) UnmarshalJSON(data []byte) error { return setting.UnmarshalJSON(fields(), p, data) }
