package retry_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
)

// The tests in this file go through the page that Perdure grew out of, a
// quickstart of retries for a pipeline in Python, heading by heading.

// The configuration reference: every parameter's default. A zero Policy, the
// preset default and one that is read from an empty object are all the same.
func TestSeedDefaults(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]retry.Policy{"zero": {}, "default": retry.Default()} {
		if p.Attempts() != 5 {
			t.Errorf("%s: max_attempts is %d, want 5", name, p.Attempts())
		}
		for attempt, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} { // base_delay, exponential_base, max_delay
			if got := ceiling(p, attempt+1); got != want*time.Second {
				t.Errorf("%s: delay %d is %v, want %vs", name, attempt+1, got, int64(want))
			}
		}
		if _, jitter := p.Range(1, retry.ClassTransient); jitter != time.Second {
			t.Errorf("%s: jitter is %v, want 1s", name, jitter)
		}
	}
}

// retry_on_exceptions and ignore_on_exceptions, with the page's two examples.
func TestSeedRetryOnIgnoreOn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		code    string
		policy  retry.Policy
		want    retry.Class
		retried bool
	}{
		{"ThrottlingException", retry.Policy{}, retry.ClassThrottled, true},
		{"AccessDeniedException", retry.Policy{}, retry.ClassPermanent, false},
		{"AccessDeniedException", retry.Policy{RetryOn: []string{"AccessDeniedException"}}, retry.ClassTransient, true},
		{"ThrottlingException", retry.Policy{IgnoreOn: []string{"ThrottlingException"}}, retry.ClassThrottled, false},
		{"ThrottlingException", retry.Policy{RetryOn: []string{"Mine"}}, retry.ClassThrottled, false},
		{"Mine", retry.Policy{}, retry.ClassUnknown, false},
		{"Mine", retry.Policy{RetryOn: []string{"Mine"}}, retry.ClassTransient, true},
	} {
		if got, _ := c.policy.ClassOf(&coded{code: c.code}); got != c.want {
			t.Errorf("%s with retry_on %q, ignore_on %q: %v, want %v",
				c.code, c.policy.RetryOn, c.policy.IgnoreOn, got, c.want)
		}
		d := c.policy.Decide(retry.Outcome{Attempt: 1, Err: &coded{code: c.code}}, 0)
		if retried := d.Stop == nil; retried != c.retried {
			t.Errorf("%s with retry_on %q, ignore_on %q: retried %v, want %v", c.code, c.policy.RetryOn, c.policy.IgnoreOn, retried, c.retried)
		}
	}
}

// Preset configurations.
func TestSeedPresets(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for _, c := range []struct {
		name              string
		preset            func() retry.Policy
		attempts          int
		base, max, jitter time.Duration
	}{
		{"default", retry.Default, 5, 1000 * ms, 30 * time.Second, 1000 * ms},
		{"s3_upload", retry.S3Upload, 5, 1000 * ms, 30 * time.Second, 1000 * ms},
		{"s3_download", retry.S3Download, 5, 500 * ms, 30 * time.Second, 500 * ms},
		{"s3_heavy", retry.S3Heavy, 3, 2000 * ms, 60 * time.Second, 2000 * ms},
		{"api_call", retry.APICall, 3, 500 * ms, 10 * time.Second, 500 * ms},
	} {
		p := c.preset()
		_, jitter := p.Range(1, retry.ClassTransient)
		if p.Name != "" || p.Attempts() != c.attempts || ceiling(p, 1) != c.base ||
			ceiling(p, 100) != c.max || jitter != c.jitter || p.ExponentialBase != 2 {
			t.Errorf("%s is %+v, want %d attempts, %v to %v, jitter %v", c.name, p, c.attempts, c.base, c.max, c.jitter)
		}
		if err := p.Validate(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// Basic usage, custom configuration and logging: the three lines of the page,
// and nothing else, when two attempts fail and the third succeeds.
func TestSeedLogging(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		upload := retry.S3Upload()
		upload.Name = "upload_to_s3"
		upload.MaxAttempts = 5
		upload.BaseDelay = time.Second
		upload.MaxDelay = 30 * time.Second
		upload.Jitter = retry.NoJitter
		upload.Observe = retry.LogTo(slog.New(lines{&out}))

		slow := &coded{code: "SlowDown", status: 503}
		f, made := calls(slow, slow)
		key, err := retry.Value(t.Context(), &upload, func(ctx context.Context) (string, error) {
			return "data.json", f(ctx)
		})
		if err != nil || key != "data.json" {
			t.Fatalf("got %q, %v", key, err)
		}
		const want = `INFO: Retrying upload_to_s3 in 1.0 seconds (attempt 1/5)
INFO: Retrying upload_to_s3 in 2.0 seconds (attempt 2/5)
INFO: upload_to_s3 succeeded on attempt 3
`
		if out.String() != want {
			t.Errorf("log:\n%swant:\n%s", out.String(), want)
		}
		if want := []time.Duration{0, time.Second, 3 * time.Second}; !slices.Equal(made.at, want) {
			t.Errorf("attempts at %v, want %v", made.at, want)
		}
	})
}

// Error handling: attempts that are used up say how many they were and hold
// the last error.
func TestSeedExhausted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		upload := retry.S3Upload()
		upload.Name = "upload_to_s3"
		last := &coded{code: "InternalError", status: 500}
		f, made := always(last)
		err := retry.Do(t.Context(), &upload, f)
		e := stopped(t, err, retry.ErrExhausted, 5)
		if made.n != 5 || e.Last != error(last) || !errors.Is(err, last) || e.Operation != "upload_to_s3" { //nolint:errorlint // as itself
			t.Errorf("after %d calls: %#v", made.n, e)
		}
		if want := "upload_to_s3: attempts exhausted after 5 attempts: api error InternalError"; err.Error() != want {
			t.Errorf("text %q, want %q", err, want)
		}
	})
}

// Error handling: an error that is not retried is returned itself after one attempt.
func TestSeedNonRetryable(t *testing.T) {
	t.Parallel()
	upload := retry.S3Upload()
	for _, denied := range []error{&coded{code: "AccessDenied", status: 403}, errors.New("unheard of")} {
		f, made := always(denied)
		if err := retry.Do(t.Context(), &upload, f); err != denied || made.n != 1 { //nolint:errorlint // as itself
			t.Errorf("after %d calls: %#v, want %#v after 1", made.n, err, denied)
		}
	}
}

// The configuration reference: failure_threshold, recovery_timeout_seconds and
// success_threshold. What is absent has the page's default.
func TestSeedCircuitBreakerDefaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		config              circuit.Config
		failures, successes int
		recovery            time.Duration
	}{
		{circuit.Config{}, 5, 1, 30 * time.Second},
		{circuit.Config{FailureThreshold: 1}, 1, 1, 30 * time.Second},
		{circuit.Config{RecoveryTimeout: 7 * time.Second}, 5, 1, 7 * time.Second},
		{circuit.Config{SuccessThreshold: 3}, 5, 3, 30 * time.Second},
		{circuit.Config{FailureThreshold: 2, RecoveryTimeout: time.Minute, SuccessThreshold: 2}, 2, 2, time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := breaker(c.config)
			expect := func(want circuit.State, when string, n int) {
				t.Helper()
				if got := b.State(); got != want {
					t.Fatalf("%+v: %v after %s %d, want %v", c.config, got, when, n, want)
				}
			}
			for n := range c.failures {
				expect(circuit.Closed, "failure", n)
				b.RecordFailure()
			}
			expect(circuit.Open, "failure", c.failures)
			<-time.After(c.recovery - time.Millisecond)
			expect(circuit.Open, "recovery timeout but for 1 ms, failure", c.failures)
			<-time.After(time.Millisecond)
			for n := range c.successes {
				expect(circuit.HalfOpen, "success", n)
				if !b.Allow() {
					t.Fatalf("%+v: probe %d is not allowed", c.config, n+1)
				}
				b.RecordSuccess()
			}
			expect(circuit.Closed, "success", c.successes)
		})
	}
}

// Circuit breaker: the hand-written form of the page, with its trio.
func TestSeedCircuitBreaker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		uploads := circuit.New("s3_upload", circuit.Config{
			FailureThreshold: 5,
			RecoveryTimeout:  30 * time.Second,
		})
		upload := func(put func() error) error {
			if !uploads.Allow() {
				return &circuit.OpenError{Name: uploads.Name(), State: uploads.State()}
			}
			err := put()
			if err != nil {
				uploads.RecordFailure()
				return err
			}
			uploads.RecordSuccess()
			return nil
		}
		down := func() error { return errDown }
		for range 5 {
			if err := upload(down); !errors.Is(err, errDown) {
				t.Fatal(err)
			}
		}
		open, ok := errors.AsType[*circuit.OpenError](upload(down))
		if !ok || open.Name != "s3_upload" || open.State != circuit.Open {
			t.Fatalf("the sixth call: %+v", open)
		}
		<-time.After(30 * time.Second)
		if err := upload(func() error { return nil }); err != nil || uploads.State() != circuit.Closed {
			t.Errorf("after the recovery timeout: %v, %v", err, uploads.State())
		}
	})
}

// The decorator's circuit_breaker argument: the Breaker of a policy. Five
// attempts that fail open it, and the next call is refused without one.
func TestSeedCircuitBreakerArgument(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		upload := retry.S3Upload()
		upload.Breaker = circuit.New("s3_upload", circuit.Config{
			FailureThreshold: 5, RecoveryTimeout: 30 * time.Second, SuccessThreshold: 1,
			Observe: circuit.LogTo(slog.New(lines{&out})),
		})
		f, made := always(&coded{code: "InternalError", status: 500})
		stopped(t, retry.Do(t.Context(), &upload, f), retry.ErrExhausted, 5)

		err := retry.Do(t.Context(), &upload, f)
		open, ok := err.(*circuit.OpenError) //nolint:errorlint // as itself
		if !ok || open.Name != "s3_upload" || open.State != circuit.Open || made.n != 5 {
			t.Fatalf("after %d calls: %#v", made.n, err)
		}
		if want := time.Now().Add(30 * time.Second); open.RetryAt.Sub(want).Abs() > 10*time.Millisecond {
			t.Errorf("retry at %v, want %v", open.RetryAt, want)
		}
		const want = "WARN: Circuit breaker 's3_upload' transitioned from closed to open (5 consecutive failures)\n"
		if out.String() != want {
			t.Errorf("log:\n%swant:\n%s", out.String(), want)
		}
	})
}

// API calls: with respect_retry_after, the default, a call waits as long as the server
// asks; without it, the hint is ignored.
func TestSeedRespectRetryAfter(t *testing.T) {
	t.Parallel()
	for _, respect := range []string{"true", "false"} {
		synctest.Test(t, func(t *testing.T) {
			p := retry.APICall()
			for name, text := range map[string]string{"respect_retry_after": respect, "max_attempts": "3", "jitter": "0"} {
				if err := p.Set(name, text); err != nil {
					t.Fatal(err)
				}
			}
			p.Observe = retry.LogTo(slog.New(lines{io.Discard}))
			f, made := calls(retry.After(errDown, 7*time.Second))
			if err := retry.Do(t.Context(), &p, f); err != nil {
				t.Fatal(err)
			}
			want := 500 * time.Millisecond
			if respect == "true" {
				want = 7 * time.Second
			}
			if made.at[1] != want {
				t.Errorf("respect_retry_after %s: second attempt after %v, want %v", respect, made.at[1], want)
			}
		})
	}
}
