package circuit

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/seed-0f2c7998/perdure"
	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/gate"
	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// Off disables the rule of consecutive failures: see Config.FailureThreshold.
const Off = -1

const noThreshold = "off" // Off as text

// A ConfigError reports a value that a [Config] may not have: the field, the value and
// what is allowed.
type ConfigError = perdure.ConfigError

// A Config configures a [Breaker]: when it opens, how it closes, and its budget, gate and
// limits. The zero Config opens the breaker for 30 s after 5 consecutive failures and
// closes it after 1 successful probe. A Config is plain data: copy it, compare it, read it
// from text with [Config.Set].
//
// The zero Config is for callers that make one call after the other. On a busy key, 5
// consecutive failures happen by chance, and a short fault refuses all calls for 30 s. In
// a simulation (sim.Storm) of 18 s at 1,600 calls a second, of which the first 5 s are an
// outage, the zero Config loses 17.9 s of calls, no retries at all lose 5.0 s, and [Service]
// or [Pipeline] lose 2.3 s; of a brownout 17.9, 8.9 and 1.2 s.
type Config struct {
	// FailureThreshold is the number of consecutive failures that opens the breaker, 1 to
	// 1000; 0 means 5; Off disables this rule. The same number of throttled responses in a
	// row opens the breaker too: see [Permit.Throttled].
	FailureThreshold int
	// RecoveryTimeout is how long the breaker stays open before the first probe,
	// from 1ms to 30 days; 0 means 30s. If a failing service asks for a longer
	// wait, the breaker stays open for that wait: at most a day, and only if the
	// caller would wait that long. For all processes that share the breaker's state,
	// by the Store, it stays open for as long as the one that opened it decided.
	RecoveryTimeout time.Duration
	// SuccessThreshold is the number of probes that must succeed to close the
	// breaker, 1 to 31; 0 means 1.
	SuccessThreshold int
	// HalfOpenMax is the maximum number of concurrent probes, 1 to 31; 0 means 1.
	HalfOpenMax int
	// ProbeLease is how long a probe may take before its slot is reclaimed, from
	// 1ms to 30 days; 0 means 30s. If processes share the state, the ProbeLease of
	// the one that sends the probe applies.
	ProbeLease time.Duration

	// Window is the time over which FailureRatio and SlowRatio are measured, from 10ms to 24
	// days; 0 means no window. A Window needs a FailureRatio or a SlowCall.
	Window time.Duration
	// MinCalls is the minimum number of calls in the window for its ratios to open the
	// breaker; 0 means 20. MinCalls, FailureRatio, SlowCall and SlowRatio need a Window.
	MinCalls int
	// FailureRatio is the ratio of failures to the window's calls that opens the
	// breaker, above 0 to 1; 0 disables this rule.
	FailureRatio float64
	// SlowCall is the duration from which a call counts as slow, whatever its
	// result; 0 means that calls are not measured.
	SlowCall time.Duration
	// SlowRatio is the ratio of slow calls to the window's calls that opens the
	// breaker, above 0 to 1; 0 with SlowCall set means 0.8. SlowRatio needs a SlowCall.
	SlowRatio float64

	// OpenGrowth is the factor of the open time after each failed probe in a row, 1 to 10; 0
	// means 1: every open time is RecoveryTimeout. If processes share the state, the failed
	// probes of all of them count.
	OpenGrowth float64
	// OpenJitter is the maximum ratio, 0 to 1, by which each open time is
	// lengthened at random, so that processes do not probe together; 0 means none.
	OpenJitter float64
	// OpenMax is the longest open time before jitter, at least RecoveryTimeout; 0 means ten
	// times RecoveryTimeout. OpenMax needs an OpenGrowth above 1.
	OpenMax time.Duration

	// Budget is the ceiling of the retry budget in tokens, 1 to 1000; 10 is usual. 0 means no
	// budget: only their policies limit retries. A new budget has one token, which pays for
	// one retry; each success adds a fifth of a token. So a process whose first calls fail
	// retries only once, whatever MaxAttempts says. A process that makes 2,000 calls a second
	// needs 100 to retry the calls that a fault of 50ms fails. If thousands of processes share
	// nothing and each makes a call a second, set 1: with 10 they make three attempts for each
	// call together, however the service fails.
	Budget float64

	// Gate replaces the rules above by a gate: see [GateMode]. 0 means NoGate.
	Gate GateMode

	// Rate is the maximum number of calls per second, from 1 a day to 1,000,000; 0 means no
	// limit. All processes that share the breaker's state, by the Store, share the Rate; if
	// their Rates differ, the lowest applies. Retries and probes count. In any time t at most
	// Burst + Rate*t + 1 calls are admitted. [Do], package retry and the clients' adapters
	// wait for their turn, until the context's deadline, or 30 s if it has none. A call that
	// would wait longer, and [Breaker.Acquire], which never waits, get a [*LimitError].
	Rate float64
	// Burst is the maximum number of calls admitted at once after a pause, 1 to 10000; 0 means
	// 1. It must be 0 without a Rate.
	Burst int

	// Concurrency is the maximum number of calls in flight in this process, 1 to 10,000; 0
	// means no limit. Do, Breaker.Do, package retry and the clients' adapters wait for a place
	// until shortly before their deadline, at most 30s without one; Acquire does not wait. A
	// call that gets no place returns a [*LimitError]. Allow has no permit that could return a
	// place, so it is not limited. If breakers that share their state have different values,
	// the lowest applies.
	Concurrency int

	// ObserveOnly admits every call, while the breaker changes and reports its state as usual:
	// to see what the breaker would do.
	ObserveOnly bool

	// Observe is called with each transition, on the goroutine of the call that made the
	// transition and under no lock; it may use the breaker. ctx is the context of that call,
	// or context.Background() after a method without a context and for a state that comes from
	// the Store. A panic in Observe is logged. If nil, Observe is LogTo(slog.Default()).
	Observe func(context.Context, Transition)

	// Log receives a warning if another breaker of that name has a lower Rate or Concurrency,
	// which then applies. If nil, Log is slog.Default().
	Log *slog.Logger

	// Store is where the state lives. Breakers of the same name in one Store share their state.
	// If nil, the breaker has its own memory.
	Store Store
}

// Service returns the Config for calls between services: a gate at which calls wait, and a
// retry budget of 10 tokens. It goes with [retry.Service].
//
// [retry.Service]: https://pkg.go.dev/github.com/seed-0f2c7998/perdure/retry#Service
func Service() Config { return Config{Gate: Wait, Budget: 10} }

// Pipeline returns the Config for steps of a data pipeline, which can wait for minutes: a
// gate at which calls wait, and no budget. It goes with [retry.Pipeline].
//
// [retry.Pipeline]: https://pkg.go.dev/github.com/seed-0f2c7998/perdure/retry#Pipeline
func Pipeline() Config { return Config{Gate: Wait} }

// filled returns c with defaults in place of zeros.
func (c Config) filled() Config {
	c.FailureThreshold = cmp.Or(c.FailureThreshold, 5)
	c.RecoveryTimeout = cmp.Or(c.RecoveryTimeout, 30*time.Second)
	c.SuccessThreshold = cmp.Or(c.SuccessThreshold, 1)
	c.HalfOpenMax = cmp.Or(c.HalfOpenMax, 1)
	c.ProbeLease = cmp.Or(c.ProbeLease, 30*time.Second)
	c.MinCalls = cmp.Or(c.MinCalls, 20)
	c.OpenGrowth = cmp.Or(c.OpenGrowth, 1)
	if c.Rate > 0 {
		c.Burst = cmp.Or(c.Burst, 1)
	}
	c.OpenMax = cmp.Or(c.OpenMax, min(10*c.RecoveryTimeout, maxOpen))
	if c.SlowCall > 0 {
		c.SlowRatio = cmp.Or(c.SlowRatio, 0.8)
	}
	return c
}

// fields returns the table of settings that a Config has in text.
func fields() []setting.Field[Config] {
	return []setting.Field[Config]{
		setting.Whole("failure_threshold", "consecutive failures that open the circuit breaker (5)",
			1, maxFailures, noThreshold, func(c *Config) *int { return &c.FailureThreshold }),
		setting.Span("recovery_timeout_seconds", "seconds that the breaker stays open before the first probe (30)",
			time.Millisecond, maxOpen, setting.None, func(c *Config) *time.Duration { return &c.RecoveryTimeout }),
		setting.Whole("success_threshold", "probes that must succeed to close the breaker (1)",
			1, countMask, setting.None, func(c *Config) *int { return &c.SuccessThreshold }),
		setting.Whole("half_open_max", "maximum number of concurrent probes (1)",
			1, countMask, setting.None, func(c *Config) *int { return &c.HalfOpenMax }),
		setting.Span("probe_lease", "seconds after which a lost probe's slot is reclaimed (30)",
			time.Millisecond, maxOpen, setting.None, func(c *Config) *time.Duration { return &c.ProbeLease }),
		setting.Span("window", "seconds over which failure_ratio and slow_ratio are measured (none)",
			minWindow, maxWindow, setting.None, func(c *Config) *time.Duration { return &c.Window }),
		setting.Whole("min_calls", "minimum number of calls in the window for its ratios to apply (20)",
			1, math.MaxInt, setting.None, func(c *Config) *int { return &c.MinCalls }),
		setting.Ratio("failure_ratio", "ratio of failures in the window that opens the breaker (none)",
			0, 1, func(c *Config) *float64 { return &c.FailureRatio }),
		setting.Span("slow_call", "seconds from which a call counts as slow (none)",
			1, maxOpen, setting.None, func(c *Config) *time.Duration { return &c.SlowCall }),
		setting.Ratio("slow_ratio", "ratio of slow calls in the window that opens the breaker (0.8)",
			0, 1, func(c *Config) *float64 { return &c.SlowRatio }),
		setting.Ratio("open_growth", "factor of the open time after each failed probe (1)",
			1, 10, func(c *Config) *float64 { return &c.OpenGrowth }),
		setting.Ratio("open_jitter", "maximum ratio by which the open time is lengthened at random (none)",
			0, 1, func(c *Config) *float64 { return &c.OpenJitter }),
		setting.Span("open_max", "longest open time in seconds (10 times recovery_timeout_seconds)",
			time.Millisecond, maxOpen, setting.None, func(c *Config) *time.Duration { return &c.OpenMax }),
		setting.OrOff(setting.Ratio("budget", "ceiling of the retry budget in tokens (no budget)", 1, 1000, budget), budget),
		setting.Choice("gate", "admit calls at the rate that the service can serve; other calls wait or fail_fast (off)",
			gateModes(), func(c *Config) *GateMode { return &c.Gate }),
		setting.OrOff(setting.Rate("rate", "maximum calls per second, or as in 60/m, of all processes that share the breaker (no limit)", rate), rate),
		setting.Whole("burst", "maximum calls that the rate admits at once after a pause (1)",
			1, cell.MaxBurst, setting.None, func(c *Config) *int { return &c.Burst }),
		setting.OrOff(setting.Whole("concurrency", "maximum number of calls in flight (no limit)", 1, maxConcurrency, setting.None, concurrency), concurrency),
		setting.Switch("observe_only", "report what the breaker would do, but refuse nothing (false)",
			true, func(c *Config) *bool { return &c.ObserveOnly }),
	}
}

func budget(c *Config) *float64  { return &c.Budget }
func rate(c *Config) *float64    { return &c.Rate }
func concurrency(c *Config) *int { return &c.Concurrency }

// Parameters returns the parameters of [Config.Set], in the order of documentation.
func Parameters() []perdure.Parameter { return setting.Parameters(fields()) }

// Set sets the parameter name to the value of text: a time is a number of seconds or a Go
// duration, such as "30" or "500ms". Text has no value that means default: omit the
// parameter. If Set returns an error, a [*ConfigError], c is unchanged. Set checks only
// this value; Validate checks the whole Config.
func (c *Config) Set(name, text string) error { return setting.Set(fields(), c, name, text) }

// Validate returns a [*ConfigError] about the first value that is not allowed, or nil.
func (c Config) Validate() error {
	if err := setting.Check(fields(), &c); err != nil {
		return err
	}
	f := c.filled()
	if c.Gate != NoGate && f.FailureThreshold != gate.Row {
		var text any = c.FailureThreshold
		if text == Off {
			text = noThreshold
		}
		return setting.Bad("failure_threshold", text, "5 or absent with a gate; with gate off, 1 to 1000 or off")
	}
	return c.validate(f)
}

// validate checks windows, open times and the rate; f is c with its defaults.
func (c Config) validate(f Config) error {
	switch {
	case c.Burst != 0 && c.Rate == 0:
		return setting.Bad("burst", c.Burst, "used with a rate")
	case f.OpenMax < f.RecoveryTimeout:
		return setting.Bad("open_max", c.OpenMax, fmt.Sprintf("at least recovery_timeout_seconds (%v)", f.RecoveryTimeout))
	case c.OpenMax != 0 && f.OpenGrowth == 1:
		return setting.Bad("open_max", c.OpenMax, "used with an open_growth above 1")
	case c.SlowCall == 0 && c.SlowRatio != 0:
		return setting.Bad("slow_ratio", c.SlowRatio, "used with a slow_call")
	case c.Window != 0 && c.FailureRatio == 0 && c.SlowCall == 0:
		return setting.Bad("window", c.Window, "used with a failure_ratio or a slow_call")
	case c.Window != 0:
		return nil
	case c.FailureRatio != 0:
		return setting.Bad("failure_ratio", c.FailureRatio, "used with a window")
	case c.SlowCall != 0:
		return setting.Bad("slow_call", c.SlowCall, "used with a window")
	case c.MinCalls != 0:
		return setting.Bad("min_calls", c.MinCalls, "used with a window")
	}
	return nil
}

// same reports whether breakers of c and d behave alike.
func (c Config) same(d Config) bool {
	c, d = c.filled(), d.filled()
	return c.rules() == d.rules() && c.newWindow() == d.newWindow() &&
		c.FailureThreshold == d.FailureThreshold && c.Budget == d.Budget &&
		c.ObserveOnly == d.ObserveOnly && c.Gate == d.Gate && c.Rate == d.Rate && c.Burst == d.Burst &&
		c.Concurrency == d.Concurrency && c.Store == d.Store
}

// rules converts a filled Config for step.
func (c Config) rules() rules {
	ms := func(d time.Duration) instant {
		return instant((d + time.Millisecond - 1) / time.Millisecond)
	}
	r := rules{
		failures: max(c.FailureThreshold, 0), successes: c.SuccessThreshold, probes: c.HalfOpenMax,
		open: ms(c.RecoveryTimeout), openMax: ms(c.OpenMax), lease: ms(c.ProbeLease),
		growth: c.OpenGrowth, jitter: c.OpenJitter,
	}
	if c.Gate != NoGate {
		r.failures = 0 // the gate counts them
	}
	if r.throttled = r.failures; r.throttled < minThrottled {
		r.throttled = 5
	}
	longest := r.openMax
	if r.growth <= 1 {
		longest = r.open
	}
	r.openLimit = instant(math.Ceil(float64(longest) * (1 + r.jitter)))
	return r
}

// minThrottled is the lowest FailureThreshold that applies to throttled responses too.
const minThrottled = 3

func (c Config) newWindow() window {
	return window{
		length: c.Window, slice: uint64(c.Window) / cell.Buckets, slow: c.SlowCall,
		minCalls: c.MinCalls, failed: c.FailureRatio, slowed: c.SlowRatio,
	}
}

// MarshalJSON writes the settings that are not zero, with the names of [Parameters].
// Observe, Store and Log have no text form.
func (c Config) MarshalJSON() ([]byte, error) { return setting.MarshalJSON(fields(), &c) }

// UnmarshalJSON reads settings with the names of [Parameters]. An unknown name or a value
// that is not allowed is a [*ConfigError].
func (c *Config) UnmarshalJSON(data []byte) error { return setting.UnmarshalJSON(fields(), c, data) }
