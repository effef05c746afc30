package pipes

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"

	"github.com/seed-0f2c7998/perdure/internal/pipestest"
)

// Each retry is a line of the log, and Close reports the outcome.
func TestObserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := listen(t, pipestest.Context("a"))
		b := circuit.New("store", circuit.Config{Observe: func(context.Context, circuit.Transition) {}})
		p := retry.Policy{Name: "upload", Jitter: retry.NoJitter, Classify: retry.Always, Breaker: b}
		p.Observe = l.Observe(b)
		n := 0
		err := retry.Do(t.Context(), &p, func(context.Context) error {
			if n++; n < 3 {
				return fmt.Errorf("503 from https://h/?sig=%d", n)
			}
			return nil
		})
		l.Close(err)
		received := l.received()
		compare(t, received[1:len(received)-1], []string{
			`log {"level":"INFO","message":"Retrying upload in 1.0 seconds (attempt 1/5): 503 from https://h/?sig=REDACTED"}`,
			`log {"level":"INFO","message":"Retrying upload in 2.0 seconds (attempt 2/5): 503 from https://h/?sig=REDACTED"}`,
			`log {"level":"INFO","message":"upload succeeded on attempt 3"}`,
			`report_custom_message {"payload":{"kind":"perdure/outcome","version":1,"outcome":"success","attempts":3,"waited_s":3,
				"last_error":"503 from https://h/?sig=REDACTED","breaker":{"name":"store","state":"closed"},"retryable":false,"retry_after_s":null,"exit_code":0}}`,
		})
	})
}

// An error that a policy's own rule takes for permanent is permanent in the outcome,
// also as the unmarked error of a first attempt.
func TestOutcomeOfPolicyRules(t *testing.T) {
	ignored := retry.Policy{IgnoreOn: []string{"timeout"}}
	for _, test := range []struct {
		name   string
		policy retry.Policy
		err    error
		want   string
	}{
		{"ignore_on", ignored, context.DeadlineExceeded, "permanent"},
		{"ignore_on, another error", ignored, syscall.ECONNREFUSED, "exhausted"},
		{"classify", retry.Policy{Classify: func(error) retry.Class { return retry.ClassPermanent }}, syscall.ECONNREFUSED, "permanent"},
		{"a mark", retry.Policy{}, retry.Permanent(context.DeadlineExceeded), "permanent"},
		{"no rule", retry.Policy{}, context.DeadlineExceeded, "exhausted"},
	} {
		l := listen(t, pipestest.Context("a"))
		p := test.policy
		p.MaxAttempts, p.BaseDelay, p.Observe = 2, time.Nanosecond, l.CountRetries(nil)
		err := retry.Do(t.Context(), &p, func(context.Context) error { return test.err })
		if o := l.Outcome(fmt.Errorf("the work: %w", err)); o.Outcome != test.want || o.Retryable == (test.want == "permanent") {
			t.Errorf("%s: %s, retryable %v, want %s", test.name, o.Outcome, o.Retryable, test.want)
		}
	}
}

// coded is an error with a code of its own.
type coded struct{ code int }

func (c coded) Error() string { return fmt.Sprint("code ", c.code) }
func (c coded) ExitCode() int { return c.code }

// What an error means for the code that decides whether the step is retried.
func TestOutcome(t *testing.T) { synctest.Test(t, outcomes) }

func outcomes(t *testing.T) {
	t.Helper()
	plain := errors.New("plain")
	soon := time.Now().Add(time.Hour + 500*time.Millisecond)
	for _, c := range []struct {
		err       error
		outcome   string
		attempts  int
		retryable bool
		after     float64 // 0: null
		code      int
		last      string
	}{
		{nil, "success", 1, false, 0, 0, ""},
		{plain, "permanent", 1, false, 0, 1, "plain"},
		{retry.Transient(plain), "failed", 1, true, 0, 1, "plain"},
		{retry.After(plain, time.Hour), "failed", 1, true, 3600, 1, "plain"},
		{coded{75}, "permanent", 1, false, 0, 75, "code 75"},
		{coded{0}, "permanent", 1, false, 0, 1, "code 0"},
		{coded{256}, "permanent", 1, false, 0, 1, "code 256"},
		{coded{-1}, "permanent", 1, false, 0, 1, "code -1"},
		{fmt.Errorf("w: %w", &retry.Error{Attempts: 5, Stop: retry.ErrExhausted, Last: coded{7}}), "exhausted", 5, true, 0, 7, "code 7"},
		{&retry.Error{Attempts: 2, Stop: retry.ErrPermanent, Last: plain}, "permanent", 2, false, 0, 1, "plain"},
		{&retry.Error{Attempts: 2, Stop: retry.ErrDeadline, Last: plain}, "deadline", 2, true, 0, 1, "plain"},
		{&retry.Error{Attempts: 2, Stop: context.DeadlineExceeded, Last: plain}, "deadline", 2, true, 0, 1, "plain"},
		{&retry.Error{Attempts: 2, Stop: retry.ErrBudget, Last: plain}, "budget", 2, true, 0, 1, "plain"},
		{&retry.Error{Attempts: 0, Stop: retry.ErrRetryLater, RetryAt: soon}, "retry_later", 0, true, 3600, 1, "retry later"},
		{&retry.Error{Attempts: 3, Stop: &circuit.OpenError{Name: "b", State: circuit.Open}, Last: plain, RetryAt: soon}, "breaker_open", 3, true, 3600, 1, "plain"},
		{&circuit.OpenError{Name: "b", State: circuit.Open, RetryAt: soon}, "breaker_open", 0, true, 3600, 1, "circuit breaker"},
		{&circuit.LimitError{Name: "b", Limit: circuit.RateLimit, RetryAt: soon}, "limit", 0, true, 3600, 1, "rate limit"},
		{&retry.Error{Attempts: 2, Stop: &circuit.LimitError{Name: "b", Limit: circuit.RateLimit}, Last: plain, RetryAt: soon}, "limit", 2, true, 3600, 1, "plain"},
		{&circuit.OpenError{Name: "b", State: circuit.Open, RetryAt: soon.Add(-3 * time.Hour)}, "breaker_open", 0, true, 0, 1, "circuit breaker"},
		{&retry.Error{
			Attempts: 1, Stop: retry.ErrPermanent, RetryAt: soon,
			Last: &retry.Error{Attempts: 4, Stop: retry.ErrExhausted, Last: plain},
		}, "exhausted", 1, true, 3600, 1, "plain"},
		{&retry.Error{Attempts: 2, Stop: &SignalError{syscall.SIGTERM}, Last: coded{9}}, "interrupted", 2, false, 0, 143, "code 9"},
		{&SignalError{syscall.SIGINT}, "interrupted", 1, false, 0, 130, "stopped by signal: interrupt"},
		{context.Canceled, "interrupted", 1, false, 0, 1, "context canceled"},
	} {
		o := new(Session).Outcome(c.err)
		if o.Kind != OutcomeKind || o.Version != 1 || o.Outcome != c.outcome || o.Attempts != c.attempts || o.Retryable != c.retryable || o.ExitCode != c.code {
			t.Errorf("%v: %+v, want %+v", c.err, o, c)
		}
		if last := o.LastError; (last == nil) != (c.last == "") || last != nil && !strings.Contains(*last, c.last) && c.outcome != "retry_later" {
			t.Errorf("%v: last error %v, want %q", c.err, last, c.last)
		}
		if after := o.RetryAfter; after != nil && (*after < c.after || *after > c.after+1) || after == nil && c.after > 0 {
			t.Errorf("%v: retry after %v, want %v", c.err, after, c.after)
		}
		var open *circuit.OpenError
		if want := (*BreakerState)(nil); errors.As(c.err, &open) {
			want = &BreakerState{"b", circuit.Open}
			if !reflect.DeepEqual(o.Breaker, want) {
				t.Errorf("%v: breaker %v, want %v", c.err, o.Breaker, want)
			}
		} else if o.Breaker != nil {
			t.Errorf("%v: breaker %v, want none", c.err, o.Breaker)
		}
	}
}
