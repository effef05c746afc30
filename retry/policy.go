package retry

import (
	"context"
	"math"
	"time"

	"github.com/seed-0f2c7998/perdure"
	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/class"
	"github.com/seed-0f2c7998/perdure/internal/meter"
	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// The negative values that fields of a Policy may have.
const (
	Unlimited = -1 // for MaxAttempts: no limit
	NoJitter  = -1 // for Jitter: no randomness in any delay
)

// A Policy configures how an operation is retried. A Policy is plain data: the zero
// Policy is ready for use and has the defaults given here. One Policy serves any
// number of goroutines at once; do not change it after its first use. Copies of a
// Policy share their Breaker.
//
// The text form of a Policy, for [Policy.Set] and JSON, has names like max_attempts
// and takes numbers as seconds. It has no value that means default: omit a field to
// get its default.
type Policy struct {
	// Name is the name of the operation in logs, events and errors; "" means "operation".
	Name string

	// MaxAttempts is the maximum number of attempts, the first included; 0 means 5,
	// Unlimited means no limit.
	MaxAttempts int
	// BaseDelay is the delay after the first attempt; 0 means 1s.
	BaseDelay time.Duration
	// MaxDelay is the longest delay, jitter included; 0 means 30s. Only a wait that the
	// server asked for may be longer. A longer BaseDelay or ThrottleDelay counts as
	// MaxDelay.
	MaxDelay time.Duration
	// ExponentialBase multiplies the delay after each attempt, from 1 to 1000; 0 means 2.
	ExponentialBase float64
	// Jitter is the width of [Additive] jitter; 0 means 1s. A Jitter longer than MaxDelay
	// counts as MaxDelay. NoJitter removes the randomness of every mode.
	Jitter time.Duration
	// JitterMode selects how a delay is randomized; 0 means Additive.
	JitterMode JitterMode
	// ThrottleDelay replaces BaseDelay after throttled errors; 0 means BaseDelay.
	ThrottleDelay time.Duration

	// RetryOn lists the errors to retry: if RetryOn is not empty, no other error is
	// retried. An entry is one of the words timeout, connection, throttled and
	// conflict; an HTTP status ("503", "5xx"); an SQLSTATE, from an SQLState method
	// ("40001"); or an error code, from an ErrorCode method ("SlowDown"). The word
	// default stands for every error that is retried without RetryOn, so that
	// {"default", "NoSuchBucket"} adds one error. Words are in lower case; a code has a
	// capital letter or a separator.
	RetryOn []string
	// IgnoreOn lists errors not to retry. It takes the entries of RetryOn except default,
	// and takes precedence over RetryOn. An error that either list excludes keeps its
	// class for the Breaker.
	IgnoreOn []string

	// AttemptTimeout is the timeout of each attempt, whose expiry is a transient error;
	// 0 means that only the caller's deadline limits an attempt.
	AttemptTimeout time.Duration
	// MaxElapsed is the time after the start of the operation within which the last
	// attempt may begin; 0 means no limit. A wait for the first attempt, at a gate or for
	// a rate, counts.
	MaxElapsed time.Duration
	// MaxRetryAfter is the longest wait that a server may ask for; 0 means 60s. If a
	// server asks for more, the operation ends with [ErrRetryLater]. A retry is never
	// earlier than the server asked, and unless Jitter is NoJitter later by a random part
	// of up to a quarter of that wait, at most 15s.
	MaxRetryAfter time.Duration
	// IgnoreRetryAfter ignores Retry-After and rate-limit hints. The text form is
	// respect_retry_after: false.
	IgnoreRetryAfter bool
	// RetryNested retries errors on which an inner retry has already given up. If false,
	// such errors are permanent, so that attempts do not multiply.
	RetryNested bool

	// Classify returns the class of an error. If Classify is nil or returns ClassUnknown,
	// the general rules decide. Do and Value call Classify at most once for each failed
	// attempt, on the caller's goroutine, so several goroutines call it at once if the Policy
	// serves several.
	// Marks, RetryOn and IgnoreOn take precedence.
	Classify func(error) Class
	// Observe receives each event, before the wait that the event announces. It is called
	// on the caller's goroutine, under no lock, so by several goroutines at once if the
	// Policy serves several. The context is the caller's, in which a slog.Handler finds the
	// trace of the call. A panic in Observe is logged and changes nothing else. If Observe
	// is nil, LogTo(slog.Default()) is used.
	Observe func(context.Context, Event)
	// ObserveAll also reports operations whose first attempt succeeds: as Succeeded, with
	// Attempt 1. LogTo does not log these.
	ObserveAll bool
	// Timed reads the clock before the first attempt, so that events and errors have
	// Elapsed and the Duration of the first attempt. So do MaxElapsed, AttemptTimeout and
	// ObserveAll. Any of the four costs each call one read of the clock.
	Timed bool
	// Breaker is the circuit breaker that operations on the same key share, with its retry
	// budget, gate and limits if it has these. If nil, operations share nothing.
	Breaker *circuit.Breaker
	// Metrics counts the operations: it is a *metrics.Registry of package metrics, such as
	// metrics.Default. If Metrics is nil, or a nil Registry, nothing is counted.
	Metrics Meter
}

// A Meter counts the operations of policies. It is sealed: the only Meter is the
// *metrics.Registry of package metrics, which exposes the counts.
type Meter interface{ sealed }

type sealed = meter.Sealed

// unnamed is the name of an operation whose Policy has no name.
const unnamed = "operation"

func (p *Policy) name() string                 { return or(p.Name, unnamed) }
func (p *Policy) baseDelay() time.Duration     { return or(p.BaseDelay, time.Second) }
func (p *Policy) maxDelay() time.Duration      { return or(p.MaxDelay, 30*time.Second) }
func (p *Policy) exponentialBase() float64     { return or(p.ExponentialBase, 2) }
func (p *Policy) jitter() time.Duration        { return or(p.Jitter, time.Second) }
func (p *Policy) maxRetryAfter() time.Duration { return or(p.MaxRetryAfter, time.Minute) }

// Attempts returns the maximum number of attempts, or [Unlimited].
func (p *Policy) Attempts() int { return or(p.MaxAttempts, 5) }

// ForRerun returns p with its attempts halved n times, rounded down to at least one:
// for the nth re-run of a failed step by an orchestrator. With an unchanged policy the
// attempts of all runs multiply; with ForRerun(n) their sum stays below twice the
// attempts of the first run, plus one for each re-run.
//
// If the attempts are [Unlimited], ForRerun halves MaxElapsed instead; a MaxElapsed of
// 0 stays 0. If n is 0 or less, ForRerun returns p unchanged.
func (p Policy) ForRerun(n int) Policy {
	switch attempts := p.Attempts(); {
	case n <= 0:
	case attempts > 0:
		p.MaxAttempts = max(attempts>>n, 1)
	case attempts == Unlimited && p.MaxElapsed > 0:
		p.MaxElapsed = max(p.MaxElapsed>>n, 1) // 0 would mean no limit
	}
	return p
}

// timed reports whether a call reads the clock before its first attempt.
func (p *Policy) timed() bool {
	return p.MaxElapsed != 0 || p.AttemptTimeout != 0 || p.Timed || p.ObserveAll
}

// or is cmp.Or for two values, and is inlined: every call uses it.
func or[T comparable](v, byDefault T) T {
	if v == *new(T) {
		return byDefault
	}
	return v
}

// maxBase is the greatest ExponentialBase: larger values are almost certainly typos.
const maxBase = 1000

// forever is the limit of a duration that may be as long as its type allows.
const forever = time.Duration(math.MaxInt64)

// fields returns the table of the parameters that a Policy has in text.
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
		setting.Entries("ignore_on", "errors not to retry: timeout, connection, throttled, conflict, HTTP statuses, codes; takes precedence over retry_on",
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

// Parameters returns the parameters of [Policy.Set], in the order of documentation.
func Parameters() []perdure.Parameter { return setting.Parameters(fields()) }

// Set parses text and sets the parameter with the given name. A duration is a number
// of seconds or a Go duration such as "1500ms"; the values of a list are separated by
// commas. If Set returns an error, a [*ConfigError], p is unchanged. Validate checks
// how parameters fit together.
func (p *Policy) Set(name, text string) error { return setting.Set(fields(), p, name, text) }

// Validate returns a [*ConfigError] about the first invalid value of p or of its
// Breaker, or nil.
func (p *Policy) Validate() error {
	if err := setting.Check(fields(), p); err != nil {
		return err
	}
	return breakers.Invalid(p.Breaker)
}

// hasValidNumbers reports in a few nanoseconds, for every call, whether Validate
// accepts the numbers of a policy without AttemptTimeout and MaxElapsed.
// TestQuickAgreesWithValidate holds it to Validate.
func (p *Policy) hasValidNumbers() bool {
	return p.MaxAttempts >= Unlimited && min(p.BaseDelay, p.MaxDelay, p.ThrottleDelay, p.MaxRetryAfter) >= 0 &&
		p.Jitter >= NoJitter && p.JitterMode.isValid() &&
		(p.ExponentialBase == 0 || p.ExponentialBase >= 1 && p.ExponentialBase <= maxBase)
}

// check is Validate for a call that is about to begin. It builds no table of fields
// unless a value is invalid.
func (p *Policy) check() error {
	if p.AttemptTimeout >= 0 && p.MaxElapsed >= 0 && p.hasValidNumbers() &&
		setting.Allowed(p.RetryOn, class.CheckRetryOn) && setting.Allowed(p.IgnoreOn, class.CheckIgnoreOn) {
		return breakers.Invalid(p.Breaker)
	}
	return p.Validate()
}

// MarshalJSON writes the parameters that differ from their defaults, with the names of
// [Parameters]. Classify, Observe, ObserveAll, Timed, Breaker and Metrics have no text form.
func (p Policy) MarshalJSON() ([]byte, error) { return setting.MarshalJSON(fields(), &p) }

// UnmarshalJSON sets the parameters that data contains, with the names of
// [Parameters]. If a name is unknown or a value invalid, UnmarshalJSON returns a
// [*ConfigError] and p is unchanged.
func (p *Policy) UnmarshalJSON(data []byte) error { return setting.UnmarshalJSON(fields(), p, data) }
