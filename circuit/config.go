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

// Off switches the rule of consecutive failures off, as Config.FailureThreshold.
const Off = -1

const noThreshold = "off" // the same as text

// A ConfigError is a value that a [Config] may not have. It names the field,
// the value and what is allowed.
type ConfigError = perdure.ConfigError

// A Config says when a breaker opens and how it closes. The zero Config opens
// for 30 s after 5 consecutive failures and closes after 1 successful probe.
// It is plain data: copy it, compare it, read it from text with [Config.Set].
//
// The zero Config is for callers that call one after the other. On a busy key, 5
// consecutive failures come by chance, and a short fault shuts the key for 30 s: of
// 18 s at 1,600 calls a second, the first 5 s with an outage, the simulation
// (sim.Storm) loses 17.9 s. It loses 5.0 s without retries, and 2.3 s with
// [Service] or [Pipeline]; of a brownout 17.9, 8.9 and 1.2 s.
type Config struct {
	// FailureThreshold is the number of consecutive failures that opens the
	// breaker, 1 to 1000; 0 means 5; Off disables this rule. As many throttled
	// responses in a row open the breaker, too: see [Permit.Throttled].
	FailureThreshold int
	// RecoveryTimeout is how long the breaker stays open before the first probe,
	// from 1ms to 30 days; 0 means 30s. If a failing service asks for a longer
	// wait, the breaker stays open for that wait: at most a day, and only if the
	// caller would wait that long.
	RecoveryTimeout time.Duration
	// SuccessThreshold is the number of probes that must succeed to close the
	// breaker, 1 to 31; 0 means 1.
	SuccessThreshold int
	// HalfOpenMax is the maximum number of concurrent probes, 1 to 31; 0 means 1.
	HalfOpenMax int
	// ProbeLease is how long a probe may take before its slot is reclaimed, from
	// 1ms; 0 means 30s.
	ProbeLease time.Duration

	// Window is the time over which FailureRatio and SlowRatio are measured, from
	// 10ms to 24 days; 0 means that they are not.
	Window time.Duration
	// MinCalls is the least number of calls in the window for its ratios to open
	// the breaker; 0 means 20.
	MinCalls int
	// FailureRatio is the ratio of failures to the window's calls that opens the
	// breaker, above 0 to 1; 0 disables this rule.
	FailureRatio float64
	// SlowCall is the duration from which a call counts as slow, whatever its
	// result; 0 means that calls are not measured.
	SlowCall time.Duration
	// SlowRatio is the ratio of slow calls to the window's calls that opens the
	// breaker, above 0 to 1; 0 with SlowCall set means 0.8.
	SlowRatio float64

	// OpenGrowth multiplies the open time each time that a probe fails, 1 to
	// 10; 0 means 1: every open time is RecoveryTimeout.
	OpenGrowth float64
	// OpenJitter is the maximum ratio, 0 to 1, by which each open time is
	// lengthened at random, so that processes do not probe together; 0 means none.
	OpenJitter float64
	// OpenMax is the longest open time before jitter; 0 means ten times
	// RecoveryTimeout. It matters only with OpenGrowth.
	OpenMax time.Duration

	// Budget is the ceiling of the retry budget in tokens, 1 to 1000; 10 is
	// usual. 0 means no budget: retries are not limited but by their policies.
	// A process that makes 2,000 calls a second needs 100 to retry what a fault
	// of 50ms fails. Each of thousands of processes that share nothing, and make
	// a call a second, needs 1: with 10 they together make three attempts for each
	// call, however the service fails.
	Budget float64

	// Gate is how the breaker closes and opens: see [GateMode]. 0 means NoGate, by
	// the rules above.
	Gate GateMode

	// Rate is how many calls per second are admitted, from 1 a day to 1,000,000;
	// 0 means no limit. It belongs to the name: all who share the state, by the
	// Store, share it, retries and probes count, and if they have several, the
	// lowest holds. In any time t at most Burst + Rate t + 1 calls are admitted.
	// [Do], package retry and the clients' adapters wait for their turn: as long as
	// the context's deadline allows, or 30 s if it has none. Who has to wait
	// longer, and [Breaker.Acquire], which never waits, gets a [*LimitError].
	Rate float64
	// Burst is how many calls may be admitted at once after a pause, 1 to 10000;
	// 0 means 1. It is used with a Rate.
	Burst int

	// Concurrency is the maximum number of calls in flight in this process, 1 to
	// 10,000; 0 means no limit. Do, Breaker.Do, package retry and the clients'
	// adapters wait for a place until the deadline is near, at most 30s if there is none;
	// Acquire does not wait, and Allow, which has no permit to give back, is not
	// limited. The error of a call that has found none is a [*LimitError]. Of
	// several breakers that share their state, the lowest Concurrency holds.
	Concurrency int

	// ObserveOnly admits every call, while the breaker changes and reports its
	// states as if it did not: to see what the breaker would have done.
	ObserveOnly bool

	// Observe is called with each transition, on the goroutine whose call made
	// it and under no lock; it may use the breaker. It is given the context of
	// that call, or context.Background() where there is none: after a method
	// that takes no context, and for a state that comes from the Store. A panic
	// in it is logged. If nil, it is LogTo(Log).
	Observe func(context.Context, Transition)

	// Log receives a warning if another breaker of that name has a lower Rate or
	// Concurrency, which then holds. If nil, it is slog.Default().
	Log *slog.Logger

	// Store is where the state lives. Breakers of one name in one Store share
	// it. Nil means memory of this breaker's own.
	Store Store
}

// Service returns the Config that goes with [retry.Service], for calls between
// services: a gate at which calls wait, and a retry budget with a ceiling of 10
// tokens.
//
// [retry.Service]: https://pkg.go.dev/github.com/seed-0f2c7998/perdure/retry#Service
func Service() Config { return Config{Gate: Wait, Budget: 10} }

// Pipeline returns the Config that goes with [retry.Pipeline], for steps that
// nobody waits for: a gate at which calls wait, and no budget.
//
// [retry.Pipeline]: https://pkg.go.dev/github.com/seed-0f2c7998/perdure/retry#Pipeline
func Pipeline() Config { return Config{Gate: Wait} }

// filled returns c with its defaults in the place of zeros.
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

// fields is the table of what a Config can say in text.
func fields() []setting.Field[Config] {
	return []setting.Field[Config]{
		setting.Whole("failure_threshold", "consecutive failures that open the circuit breaker (5)",
			1, maxFailures, noThreshold, func(c *Config) *int { return &c.FailureThreshold }),
		setting.Span("recovery_timeout_seconds", "seconds that it stays open before the first probe (30)",
			time.Millisecond, maxOpen, setting.None, func(c *Config) *time.Duration { return &c.RecoveryTimeout }),
		setting.Whole("success_threshold", "probes that must succeed to close it (1)",
			1, countMask, setting.None, func(c *Config) *int { return &c.SuccessThreshold }),
		setting.Whole("half_open_max", "probes that may be out at a time (1)",
			1, countMask, setting.None, func(c *Config) *int { return &c.HalfOpenMax }),
		setting.Span("probe_lease", "seconds after which a probe that is lost is given up (30)",
			time.Millisecond, maxOpen, setting.None, func(c *Config) *time.Duration { return &c.ProbeLease }),
		setting.Span("window", "seconds over which calls are judged by ratio (none)",
			minWindow, maxWindow, setting.None, func(c *Config) *time.Duration { return &c.Window }),
		setting.Whole("min_calls", "calls that the window must hold for a verdict (20)",
			1, math.MaxInt, setting.None, func(c *Config) *int { return &c.MinCalls }),
		setting.Ratio("failure_ratio", "ratio of failures in the window that opens it (none)",
			0, 1, func(c *Config) *float64 { return &c.FailureRatio }),
		setting.Span("slow_call", "seconds from which a call counts as slow (none)",
			1, maxOpen, setting.None, func(c *Config) *time.Duration { return &c.SlowCall }),
		setting.Ratio("slow_ratio", "ratio of slow calls in the window that opens it (0.8)",
			0, 1, func(c *Config) *float64 { return &c.SlowRatio }),
		setting.Ratio("open_growth", "factor of the open time for each probe that fails (1)",
			1, 10, func(c *Config) *float64 { return &c.OpenGrowth }),
		setting.Ratio("open_jitter", "random part of itself that lengthens the open time (none)",
			0, 1, func(c *Config) *float64 { return &c.OpenJitter }),
		setting.Span("open_max", "longest open time in seconds (10 times recovery_timeout_seconds)",
			time.Millisecond, maxOpen, setting.None, func(c *Config) *time.Duration { return &c.OpenMax }),
		setting.Ratio("budget", "ceiling of the retry budget in tokens (no budget)",
			1, 1000, func(c *Config) *float64 { return &c.Budget }),
		setting.Choice("gate", "admit at the rate that the service digests, and let calls wait or fail_fast (off)",
			gateModes(), func(c *Config) *GateMode { return &c.Gate }),
		setting.Rate("rate", "most calls per second, or as in 60/m, of all processes that share the breaker (no limit)",
			func(c *Config) *float64 { return &c.Rate }),
		setting.Whole("burst", "calls that the rate admits at once after a pause (1)",
			1, cell.MaxBurst, setting.None, func(c *Config) *int { return &c.Burst }),
		setting.Whole("concurrency", "calls that may be in flight at a time (no limit)",
			1, maxConcurrency, setting.None, func(c *Config) *int { return &c.Concurrency }),
		setting.Switch("observe_only", "report what it would do, but refuse nothing (false)",
			true, func(c *Config) *bool { return &c.ObserveOnly }),
	}
}

// Parameters returns what [Config.Set] takes, in the order of a table.
func Parameters() []perdure.Parameter { return setting.Parameters(fields()) }

// Set gives the parameter of that name the value that text says: a number of
// seconds or a Go duration for times. In text there is no zero that means the
// default: leave the parameter out. The error is a [*ConfigError], and c is
// then as it was. How parameters fit together is for Validate to say.
func (c *Config) Set(name, text string) error { return setting.Set(fields(), c, name, text) }

// Validate returns a [*ConfigError] about the first value that is not allowed,
// or nil.
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
		return setting.Bad("failure_threshold", text, "5, or left out, with a gate; with the gate off it is free")
	}
	return c.validate(f)
}

// validate is Validate for what has to do with windows, open times and the rate; f is c with
// its defaults.
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

// same reports whether two breakers would behave alike.
func (c Config) same(d Config) bool {
	c, d = c.filled(), d.filled()
	return c.rules() == d.rules() && c.newWindow() == d.newWindow() &&
		c.FailureThreshold == d.FailureThreshold && c.Budget == d.Budget &&
		c.ObserveOnly == d.ObserveOnly && c.Gate == d.Gate && c.Rate == d.Rate && c.Burst == d.Burst &&
		c.Concurrency == d.Concurrency && c.Store == d.Store
}

// rules returns a filled Config as the step uses it.
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
		r.failures = 0 // they are the gate's
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

// minThrottled is the least FailureThreshold that counts for throttled responses
// as well: one or two say nothing of others.
const minThrottled = 3

func (c Config) newWindow() window {
	return window{
		length: c.Window, slice: uint64(c.Window) / cell.Buckets, slow: c.SlowCall,
		minCalls: c.MinCalls, failed: c.FailureRatio, slowed: c.SlowRatio,
	}
}

// MarshalJSON writes the settings that are not zero, with the names of
// [Parameters]. Observe, Log and Store have no text form.
func (c Config) MarshalJSON() ([]byte, error) { return setting.MarshalJSON(fields(), &c) }

// UnmarshalJSON reads settings with the names of [Parameters]. A name that is
// none of them, or a value that is not allowed, is a [*ConfigError].
func (c *Config) UnmarshalJSON(data []byte) error { return setting.UnmarshalJSON(fields(), c, data) }
