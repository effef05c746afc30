package retry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/retry"
)

// Each kind of event with all of its fields.
func TestEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const s = time.Second
		begin := time.Now()
		var r record
		p := retry.Policy{Name: "up", Jitter: retry.NoJitter, Classify: retry.Always, Observe: r.observe, Timed: true}
		hinted := retry.After(errDown, 10*s)
		f, _ := calls(errDown, hinted)
		if err := retry.Do(t.Context(), &p, f); err != nil {
			t.Fatal(err)
		}
		p.MaxAttempts = 2
		f, _ = always(errDown)
		_ = retry.Do(t.Context(), &p, f) // 11 to 12 s
		p.MaxAttempts = retry.Unlimited
		f, _ = always(retry.After(errDown, time.Hour))
		_ = retry.Do(t.Context(), &p, f)
		f, _ = always(retry.Permanent(errDown))
		final := retry.Do(t.Context(), &p, f)
		p.Breaker = breaker(circuit.Config{})
		f, _ = always(&retry.Error{Stop: retry.ErrExhausted, Last: errDown})
		nested := retry.Do(t.Context(), &p, f)

		want := []retry.Event{
			{Kind: retry.Retrying, Attempt: 1, MaxAttempts: 5, Class: transient, Delay: s, Err: errDown, RetryAt: begin.Add(s)},
			{Kind: retry.Retrying, Attempt: 2, MaxAttempts: 5, Class: throttled, Delay: 10 * s, Hint: 10 * s, Elapsed: s, Err: hinted, RetryAt: begin.Add(11 * s)},
			{Kind: retry.Succeeded, Attempt: 3, MaxAttempts: 5, Elapsed: 11 * s},
			{Kind: retry.Retrying, Attempt: 1, MaxAttempts: 2, Class: transient, Delay: s, Err: errDown, RetryAt: begin.Add(12 * s)},
			{Kind: retry.Stopped, Attempt: 2, MaxAttempts: 2, Class: transient, Elapsed: s, Err: errDown, Reason: retry.ReasonExhausted, Stop: retry.ErrExhausted},
			{Kind: retry.Stopped, Attempt: 1, MaxAttempts: -1, Class: throttled, Hint: time.Hour, Reason: retry.ReasonRetryLater, Stop: retry.ErrRetryLater, RetryAt: begin.Add(time.Hour + 12*s)},
			{Kind: retry.Stopped, Attempt: 1, MaxAttempts: -1, Class: permanent, Err: final, Reason: retry.ReasonPermanent, Stop: retry.ErrPermanent},
			{Kind: retry.Nested, Attempt: 1, MaxAttempts: -1, Class: transient, Err: nested, Reason: retry.ReasonNested, Stop: retry.ErrPermanent, Key: "s3_upload"},
		}
		got := r.events()
		for i := range want {
			want[i].Operation = "up"
			if i >= len(got) {
				t.Fatalf("%d events, want %d", len(got), len(want))
			}
			if !got[i].RetryAt.Equal(want[i].RetryAt) {
				t.Errorf("event %d: retry at %v, want %v", i, got[i].RetryAt, want[i].RetryAt)
			}
			got[i].RetryAt = want[i].RetryAt
			if want[i].Hint == time.Hour {
				want[i].Err = got[i].Err // a mark made in passing
			}
			if !reflect.DeepEqual(got[i], want[i]) {
				t.Errorf("event %d:\n%+v\nwant\n%+v", i, got[i], want[i])
			}
		}
		if len(got) != len(want) {
			t.Errorf("%d events, want %d", len(got), len(want))
		}
	})
}

// The observer is called before the wait, on the caller's goroutine, with the
// error that the attempt returned, and may use the breaker.
func TestObserveIsCalledBeforeTheWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begin, seen := time.Now(), 0
		b := breaker(circuit.Config{Budget: 10})
		p := retry.Policy{Breaker: b, Jitter: retry.NoJitter, Classify: retry.Always}
		p.Observe = func(_ context.Context, e retry.Event) {
			if e.Kind == retry.Retrying {
				seen++
				if time.Since(begin) != 0 || !errors.Is(e.Err, errDown) || b.Metrics().Failures != 1 {
					t.Errorf("after %v: %+v, %+v", time.Since(begin), e, b.Metrics())
				}
			}
		}
		f, _ := calls(errDown)
		if err := retry.Do(t.Context(), &p, f); err != nil || seen != 1 {
			t.Errorf("%v, seen %d", err, seen)
		}
	})
}

// A first attempt that succeeds makes no event.
func TestNoEventForAFirstTrySuccess(t *testing.T) {
	t.Parallel()
	var r record
	for _, p := range []retry.Policy{
		{},
		{AttemptTimeout: time.Minute},
		{MaxElapsed: time.Minute},
		{RetryOn: []string{"X"}},
		{Breaker: breaker(circuit.Config{Budget: 10})},
	} {
		p.Observe = r.observe
		f, _ := calls()
		if err := retry.Do(t.Context(), &p, f); err != nil || len(r.events()) != 0 {
			t.Errorf("%v, %+v", err, r.events())
		}
	}
}

// A panic in the observer changes nothing: neither the attempts, nor the
// waits, nor the result, nor the breaker.
func TestObservePanics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		run := func(observe func(context.Context, retry.Event)) (text string, at []time.Duration, m circuit.Metrics) {
			b := breaker(circuit.Config{Budget: 10, FailureThreshold: 3})
			breakers.Refund(b, 100)
			p := retry.Policy{Breaker: b, Jitter: retry.NoJitter, Classify: retry.Always, Observe: observe}
			f, made := always(errDown)
			err := retry.Do(t.Context(), &p, f)
			e, _ := errors.AsType[*retry.Error](err)
			m = b.Metrics()
			m.Since, m.RetryAt, m.LastFailure = time.Time{}, time.Time{}, time.Time{} // later in the second run
			return fmt.Sprintf("%T %d", e.Stop, e.Attempts), made.at, m
		}
		text, at, m := run(func(context.Context, retry.Event) {})
		gotText, gotAt, gotM := run(func(context.Context, retry.Event) { panic("no such dashboard") })
		if gotText != text || !reflect.DeepEqual(gotAt, at) || m != gotM || len(at) != 3 {
			t.Errorf("%s, %v, %+v; want %s, %v, %+v", gotText, gotAt, gotM, text, at, m)
		}
	})
}

// The observer's panic is logged, and a policy without an observer writes to
// the default logger. This test sets that, so it runs alone.
func TestDefaultLogger(t *testing.T) {
	var out strings.Builder
	before := slog.Default()
	slog.SetDefault(slog.New(lines{&out}))
	defer slog.SetDefault(before)
	p := retry.Policy{Name: "up", BaseDelay: time.Microsecond, MaxDelay: time.Second, Jitter: retry.NoJitter, Classify: retry.Always}
	f, _ := calls(errDown)
	if err := retry.Do(t.Context(), &p, f); err != nil {
		t.Fatal(err)
	}
	p.Observe = func(context.Context, retry.Event) { panic("no such dashboard") }
	f, _ = calls(errDown)
	if err := retry.Do(t.Context(), &p, f); err != nil {
		t.Fatal(err)
	}
	const want = `INFO: Retrying up in 0.0000010 seconds (attempt 1/5)
INFO: up succeeded on attempt 2
ERROR: retry: Policy.Observe panicked
ERROR: retry: Policy.Observe panicked
`
	if out.String() != want {
		t.Errorf("log:\n%swant:\n%s", out.String(), want)
	}
}

// An observer that ends its goroutine ends the operation, like any callback.
func TestObserveGoexit(t *testing.T) {
	t.Parallel()
	p := retry.Policy{Observe: func(context.Context, retry.Event) { runtime.Goexit() }}
	thrown, returned := end1(func() { _ = retry.Do(t.Context(), &p, func(context.Context) error { return errDown }) })
	if thrown != nil || returned {
		t.Errorf("thrown %v, returned %v", thrown, returned)
	}
}

// The message of each kind, for people.
func TestEventMessage(t *testing.T) {
	t.Parallel()
	for want, e := range map[string]retry.Event{
		"Retrying up in 1.0 seconds (attempt 1/5)":                             {Kind: retry.Retrying, Attempt: 1, MaxAttempts: 5, Delay: time.Second},
		"Retrying up in 2.0 seconds (attempt 3)":                               {Kind: retry.Retrying, Attempt: 3, MaxAttempts: -1, Delay: 2 * time.Second},
		"Retrying up in 1.5 seconds (attempt 2/3)":                             {Kind: retry.Retrying, Attempt: 2, MaxAttempts: 3, Delay: 1490 * time.Millisecond},
		"Retrying up in 0.1 seconds (attempt 1/3)":                             {Kind: retry.Retrying, Attempt: 1, MaxAttempts: 3, Delay: 100 * time.Millisecond},
		"Retrying up in 0.050 seconds (attempt 1/3)":                           {Kind: retry.Retrying, Attempt: 1, MaxAttempts: 3, Delay: 50 * time.Millisecond},
		"Retrying up in 0.0012 seconds (attempt 1)":                            {Kind: retry.Retrying, Attempt: 1, MaxAttempts: -1, Delay: 1234 * time.Microsecond},
		"Retrying up in 0.0000000010 seconds (attempt 1)":                      {Kind: retry.Retrying, Attempt: 1, MaxAttempts: -1, Delay: 1},
		"Retrying up in 0.0 seconds (attempt 1)":                               {Kind: retry.Retrying, Attempt: 1, MaxAttempts: -1},
		"Retrying up in 3600.0 seconds (attempt 1)":                            {Kind: retry.Retrying, Attempt: 1, MaxAttempts: -1, Delay: time.Hour},
		"up succeeded on attempt 3":                                            {Kind: retry.Succeeded, Attempt: 3},
		"up failed: an inner retry has given up: the service is down":          {Kind: retry.Nested, Attempt: 1, Err: errDown, Stop: retry.ErrPermanent},
		"up failed after 5 attempts (attempts exhausted): the service is down": {Kind: retry.Stopped, Attempt: 5, Err: errDown, Stop: retry.ErrExhausted},
		"up failed after 1 attempt (retry budget spent): the service is down":  {Kind: retry.Stopped, Attempt: 1, Err: errDown, Stop: retry.ErrBudget},
		"up failed (the server asked for a longer wait than allowed)":          {Kind: retry.Stopped, Stop: retry.ErrRetryLater},
		"up failed (no error)":                                                 {},
	} {
		e.Operation = "up"
		if got := e.Message(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	forged := retry.Event{Kind: retry.Nested, Operation: "up\n2026/03/01 12:00:00 INFO all is well\x1b[2J", Err: errors.New("down\r\nnow")}
	if got := forged.Message(); strings.ContainsFunc(got, unicode.IsControl) {
		t.Errorf("more than one line: %q", got)
	}
}

func TestKindString(t *testing.T) {
	t.Parallel()
	var got []string
	for k := range retry.Kind(8) {
		got = append(got, k.String())
	}
	if want := " retrying succeeded stopped nested queued Kind(6) Kind(7)"; strings.Join(got, " ") != want {
		t.Errorf("%q, want %q", strings.Join(got, " "), want)
	}
}

// Each field is an attribute as well, and the levels are those that LogTo documents.
func TestLogAttributes(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 11, 8, 0, 0, 0, time.UTC)
	const ns = 1.0
	for _, c := range []struct {
		event retry.Event
		level string
		want  map[string]any
	}{
		{
			retry.Event{
				Kind: retry.Retrying, Attempt: 1, MaxAttempts: 5, Class: throttled, Delay: 9 * time.Second, Hint: 8 * time.Second,
				Elapsed: 3 * time.Second, Err: errDown, RetryAt: at,
			},
			"INFO",
			map[string]any{
				"event": "retrying", "operation": "up", "attempt": 1.0, "max_attempts": 5.0, "class": "throttled", "delay": 9e9 * ns,
				"retry_after": 8e9 * ns, "elapsed": 3e9 * ns, "error": "the service is down", "retry_at": "2026-01-11T08:00:00Z",
			},
		},
		{
			retry.Event{Kind: retry.Succeeded, Attempt: 3, MaxAttempts: -1, Elapsed: time.Second},
			"INFO",
			map[string]any{"event": "succeeded", "operation": "up", "attempt": 3.0, "elapsed": 1e9 * ns},
		},
		{
			retry.Event{Kind: retry.Stopped, Attempt: 5, MaxAttempts: 5, Class: transient, Err: errDown, Stop: retry.ErrExhausted},
			"WARN",
			map[string]any{
				"event": "stopped", "operation": "up", "attempt": 5.0, "max_attempts": 5.0, "class": "transient",
				"error": "the service is down", "stop": "attempts exhausted",
			},
		},
		{
			retry.Event{Kind: retry.Stopped, MaxAttempts: 5, Stop: &circuit.OpenError{Name: "b", State: circuit.Open}},
			"WARN",
			map[string]any{"event": "stopped", "operation": "up", "attempt": 0.0, "max_attempts": 5.0, "stop": `circuit breaker "b" is open`},
		},
		{retry.Event{Kind: retry.Stopped, Attempt: 2, Class: permanent, Stop: retry.ErrPermanent}, "WARN", nil},
		{retry.Event{Kind: retry.Stopped, Attempt: 1, Class: permanent, Reason: retry.ReasonPermanent, Stop: retry.ErrPermanent}, "DEBUG", nil},
		{retry.Event{Kind: retry.Stopped, Attempt: 3, Class: ignored, Stop: context.Canceled}, "DEBUG", nil},
		{retry.Event{Kind: retry.Nested, Attempt: 3, Class: transient, Stop: retry.ErrPermanent}, "DEBUG", nil},
	} {
		var out strings.Builder
		c.event.Operation = "up"
		retry.LogTo(slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))(t.Context(), c.event)
		got := map[string]any{}
		if err := json.Unmarshal([]byte(out.String()), &got); err != nil {
			t.Fatal(err)
		}
		if got["level"] != c.level || got["msg"] != c.event.Message() {
			t.Errorf("%+v: %v %v, want %s %s", c.event, got["level"], got["msg"], c.level, c.event.Message())
		}
		for _, own := range []string{"level", "msg", "time"} {
			delete(got, own)
		}
		if c.want != nil && !reflect.DeepEqual(got, c.want) {
			t.Errorf("%+v: attributes\n%v, want\n%v", c.event, got, c.want)
		}
	}
}

// A logger does not receive events below its level.
func TestLogToAsksForTheLevel(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	log := retry.LogTo(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn})))
	log(t.Context(), retry.Event{Kind: retry.Retrying, Attempt: 1})
	if log(t.Context(), retry.Event{Kind: retry.Stopped, Attempt: 5}); strings.Count(out.String(), "\n") != 1 {
		t.Errorf("%s, want the warning alone", out.String())
	}
}

// No secret of a URL is in a log line, an attribute or an error's text; the caller gets
// the error unchanged.
func TestSecretsAreNotShown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		leak := fmt.Errorf(`put "https://ada:hunter2@store.example/b/k?X-Amz-Credential=AKIDEXAMPLE%%2F2026&X-Amz-Signature=cafe01` +
			`&X-Amz-Security-Token=tok01&partNumber=7&sig=sas01&api_key=key01": refused`)
		var out strings.Builder
		p := retry.Policy{MaxAttempts: 2, Classify: retry.Always}
		p.Observe = retry.LogTo(slog.New(slog.NewJSONHandler(&out, nil)))
		f, _ := always(leak)
		err := retry.Do(t.Context(), &p, f)
		e := stopped(t, err, retry.ErrExhausted, 2)
		nested := retry.Event{Kind: retry.Nested, Err: leak}
		text := out.String() + err.Error() + fmt.Sprintf("%v %s %q", err, err, err) + nested.Message()
		for _, secret := range []string{"hunter2", "ada", "AKIDEXAMPLE", "cafe01", "tok01", "sas01", "key01"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s is shown in %s", secret, text)
			}
		}
		for _, harmless := range []string{"store.example/b/k", "partNumber=7", "refused"} {
			if !strings.Contains(err.Error(), harmless) || !strings.Contains(out.String(), harmless) {
				t.Errorf("%s is not shown in %s", harmless, text)
			}
		}
		if e.Last != leak { //nolint:errorlint // as itself
			t.Errorf("last is %v", e.Last)
		}
	})
}

type traceKey struct{}

// Observers of the policy and of its breaker find in their context what the
// caller has put in its own, as slog's handlers want it.
func TestObserveHasTheCallersContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		seen := map[string]any{}
		b := circuit.New("b", circuit.Config{
			FailureThreshold: 2, RecoveryTimeout: time.Minute,
			Observe: func(ctx context.Context, tr circuit.Transition) { seen[tr.To.String()] = ctx.Value(traceKey{}) },
		})
		p := retry.Policy{
			Breaker: b, Jitter: retry.NoJitter, BaseDelay: time.Second, Classify: retry.Always,
			Observe: func(ctx context.Context, e retry.Event) { seen[e.Kind.String()] = ctx.Value(traceKey{}) },
		}
		call := func(trace string, failures int) {
			_ = retry.Do(context.WithValue(t.Context(), traceKey{}, trace), &p, func(context.Context) error {
				if failures--; failures >= 0 {
					return errors.New("down")
				}
				return nil
			})
		}
		call("one", 1)
		if seen["retrying"] != "one" || seen["succeeded"] != "one" {
			t.Errorf("the operation's events have the contexts of %v, want one", seen)
		}
		if call("two", 3); seen["stopped"] != "two" || seen["open"] != "two" {
			t.Errorf("the end and the opening have the contexts of %v, want two", seen)
		}
		<-time.After(time.Minute)
		if call("three", 0); seen["half-open"] != "three" || seen["closed"] != "three" {
			t.Errorf("the probe's transitions have the contexts of %v, want three", seen)
		}
	})
}
