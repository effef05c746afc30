package retry_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	adapters "github.com/seed-0f2c7998/perdure/internal/calls"
	"github.com/seed-0f2c7998/perdure/retry"
)

// Each reason to stop is a Reason, in the event, in the error and in the log.
func TestReasons(t *testing.T) {
	t.Parallel()
	done, cancel := context.WithCancelCause(t.Context())
	cancel(retry.ErrExhausted) // not ours
	late, stop := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer stop()
	isolated := breaker(circuit.Config{})
	isolated.Isolate()
	for want, c := range map[string]struct {
		policy retry.Policy
		ctx    context.Context
		err    error
	}{
		"exhausted":    {policy: retry.Policy{MaxAttempts: 1}, err: errDown},
		"permanent":    {err: retry.Permanent(errDown)},
		"deadline":     {policy: retry.Policy{BaseDelay: time.Hour, MaxDelay: time.Hour, MaxElapsed: time.Minute}, err: errDown},
		"budget":       {policy: retry.Policy{Breaker: spent()}, err: errDown},
		"retry_later":  {err: retry.After(errDown, time.Hour)},
		"breaker_open": {policy: retry.Policy{Breaker: isolated}},
		"cancelled":    {ctx: done, err: errDown},
		"deadline ":    {ctx: late, err: errDown},
		"nested":       {err: &retry.Error{Stop: retry.ErrExhausted, Last: errDown}},
	} {
		var r record
		var out strings.Builder
		p := c.policy
		p.Classify, p.Observe = retry.Always, retry.Observers(r.observe, retry.LogRecords(debug(&out)))
		call, err := adapters.Begin(t.Context(), &p)
		if err != nil {
			t.Fatal(want, err)
		}
		if err = call.Admit(t.Context()); err == nil {
			ctx := c.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			_, err = call.Failed(ctx, c.err)
		}
		want = strings.TrimSpace(want)
		if all := r.events(); len(all) != 1 || all[0].Reason.String() != want {
			t.Errorf("%+v, want one event with the reason %s", all, want)
		}
		if e, ok := errors.AsType[*retry.Error](err); ok && want != "nested" && e.Reason.String() != want { // nested: f's own
			t.Errorf("%v: the error has the reason %v, want %s", err, e.Reason, want)
		}
		if !strings.Contains(out.String(), "reason="+want+" ") {
			t.Errorf("%s, want reason=%s", out.String(), want)
		}
	}
	if got := fmt.Sprint(retry.Reason(0), retry.ReasonLimit, retry.Reason(10)); got != " limit Reason(10)" {
		t.Error(got)
	}
}

// spent returns a breaker whose budget is empty.
func spent() *circuit.Breaker {
	b := breaker(circuit.Config{Budget: 1})
	breakers.Withdraw(b, circuit.Token)
	return b
}

// debug returns a logger that writes all levels to out, without the time.
func debug(out *strings.Builder) *slog.Logger {
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
}

// Attempt gives f its number. Inside another operation it is the number of the inner
// operation, even if the inner is at its first attempt and the outer is not.
func TestAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got []string
		outer := retry.Policy{Jitter: retry.NoJitter, Classify: retry.Always, MaxAttempts: 3}
		for _, inner := range []retry.Policy{
			{Jitter: retry.NoJitter, Classify: retry.Always},
			{Jitter: retry.NoJitter, Classify: retry.Always, AttemptTimeout: time.Minute},
			{Jitter: retry.NoJitter, Classify: retry.Always, IgnoreOn: []string{"X"}},
			{Jitter: retry.NoJitter, Classify: retry.Always, Breaker: breaker(circuit.Config{})},
		} {
			got = got[:0]
			_ = retry.Do(t.Context(), &outer, func(ctx context.Context) error {
				n := 0
				_, _ = retry.Value(ctx, &inner, func(in context.Context) (int, error) {
					got = append(got, fmt.Sprint(retry.Attempt(ctx), ".", retry.Attempt(in)))
					if n++; n < 3 {
						return 0, errDown
					}
					return 0, nil
				})
				return errDown
			})
			want := []string{"1.1", "1.2", "1.3", "2.1", "2.2", "2.3", "3.1", "3.2", "3.3"}
			if !slices.Equal(got, want) {
				t.Errorf("outer.inner attempts %q, want %q", got, want)
			}
		}
		if n := retry.Attempt(t.Context()); n != 1 {
			t.Errorf("%d without an operation, want 1", n)
		}
	})
}

// The first attempt is called with the caller's own context, also after an
// operation that has ended with a panic in its second.
func TestFirstAttemptHasTheCallersContext(t *testing.T) {
	ctx := t.Context()
	p := retry.Policy{BaseDelay: 1, Jitter: retry.NoJitter, Classify: retry.Always}
	func() {
		defer func() { _ = recover() }()
		_ = retry.Do(ctx, &p, func(ctx context.Context) error {
			if retry.Attempt(ctx) == 2 {
				panic("in the second")
			}
			return errDown
		})
	}()
	_ = retry.Do(ctx, &p, func(in context.Context) error {
		if in != ctx {
			t.Error("the first attempt of a healthy operation has a context of its own")
		}
		return nil
	})
}

// Elapsed counts from the start of the first attempt, and Duration from the start of the
// attempt; if they are not known, they are 0.
func TestElapsed(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for name, c := range map[string]struct {
		change func(*retry.Policy)
		known  bool
	}{
		"nothing":        {func(*retry.Policy) {}, false},
		"Timed":          {func(p *retry.Policy) { p.Timed = true }, true},
		"ObserveAll":     {func(p *retry.Policy) { p.ObserveAll = true }, true},
		"MaxElapsed":     {func(p *retry.Policy) { p.MaxElapsed = time.Hour }, true},
		"AttemptTimeout": {func(p *retry.Policy) { p.AttemptTimeout = time.Hour }, true},
		"a list":         {func(p *retry.Policy) { p.RetryOn = []string{"default"}; p.Timed = true }, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			var r record
			p := retry.Policy{Jitter: retry.NoJitter, Classify: retry.Always, MaxAttempts: 2, Observe: r.observe}
			c.change(&p)
			err := retry.Do(t.Context(), &p, func(context.Context) error { <-time.After(10 * s); return errDown })
			elapsed, first := []time.Duration{10 * s, 21 * s}, 10*s
			if !c.known {
				elapsed, first = []time.Duration{0, 0}, 0
			}
			got := r.events()
			if len(got) != 2 || got[0].Elapsed != elapsed[0] || got[0].Duration != first ||
				got[1].Elapsed != elapsed[1] || got[1].Duration != 10*s {
				t.Errorf("%s: %+v, want elapsed %v, durations %v and 10s", name, got, elapsed, first)
			}
			if e, ok := errors.AsType[*retry.Error](err); !ok || e.Elapsed != elapsed[1] {
				t.Errorf("%s: %+v, want %v elapsed", name, err, elapsed[1])
			}
		})
	}
}

// An adapter that makes the first attempt passes its start; for an adapter with a loop of
// its own Elapsed is always known.
func TestElapsedOfAdapters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		p := retry.Policy{Jitter: retry.NoJitter, Classify: retry.Always, MaxAttempts: 2}
		f := func(context.Context) error { <-time.After(10 * time.Second); return errDown }
		err := adapters.Continue(t.Context(), &p, circuit.Permit{}, begin, f(t.Context()), f)
		if e := stopped(t, err, retry.ErrExhausted, 2); e.Elapsed != 21*time.Second {
			t.Errorf("Continue: %v elapsed, want 21s", e.Elapsed)
		}
		err = loop(t.Context(), &p, f)
		if e := stopped(t, err, retry.ErrExhausted, 2); e.Elapsed != 21*time.Second {
			t.Errorf("Begin: %v elapsed, want 21s", e.Elapsed)
		}
	})
}

// With ObserveAll, first attempts that succeed are in the records, but not in the log for
// people.
func TestObserveAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r record
		var text, records strings.Builder
		p := retry.Policy{Name: "up", ObserveAll: true, Breaker: breaker(circuit.Config{})}
		p.Observe = retry.Observers(r.observe, nil, retry.LogTo(debug(&text)), retry.LogRecords(debug(&records)))
		if err := retry.Do(t.Context(), &p, func(context.Context) error { <-time.After(time.Second); return nil }); err != nil {
			t.Fatal(err)
		}
		want := retry.Event{
			Kind: retry.Succeeded, Operation: "up", Key: "s3_upload", Attempt: 1, MaxAttempts: 5,
			Duration: time.Second, Elapsed: time.Second,
		}
		if got := r.events(); len(got) != 1 || got[0] != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		if text.String() != "" {
			t.Errorf("LogTo wrote %s", text.String())
		}
		const line = "level=DEBUG msg=\"operation succeeded\" event=succeeded operation=up attempt=1 key=s3_upload " +
			"max_attempts=5 duration=1s elapsed=1s\n"
		if records.String() != line {
			t.Errorf("%s, want %s", records.String(), line)
		}
	})
}

// The messages of records differ by kind alone; a panic of one observer does not
// keep the others from being called.
func TestLogRecords(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		p := retry.Policy{Name: "up", Jitter: retry.NoJitter, AttemptTimeout: time.Second, MaxAttempts: 2, Breaker: breaker(circuit.Config{})}
		p.Observe = retry.Observers(func(context.Context, retry.Event) { panic("boom") }, retry.LogRecords(debug(&out)))
		_ = retry.Do(t.Context(), &p, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		const want = `level=INFO msg="operation retrying" event=retrying operation=up attempt=1 key=s3_upload max_attempts=2 ` +
			`delay=1s duration=1s elapsed=1s class=transient error="context deadline exceeded" retry_at=2000-01-01T00:00:02.000Z
level=WARN msg="operation stopped" event=stopped operation=up attempt=2 key=s3_upload max_attempts=2 ` +
			`duration=1s elapsed=3s class=transient reason=exhausted error="context deadline exceeded" stop="attempts exhausted"
`
		if out.String() != want {
			t.Errorf("%s, want\n%s", out.String(), want)
		}
	})
}

// A service that is down is a handful of lines however often it is called: the
// opening, one after 30 s, one each minute, and one at the end. It used to be one
// line for each refused call, 6,192 of 10,016 lines in 48 s.
func TestRefusedCallsAreNotLines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		var r record
		log := slog.New(lines{&out})
		p := retry.Policy{
			Name: "up", MaxAttempts: 1, Classify: retry.Always, Observe: retry.Observers(r.observe, retry.LogTo(log)),
			Breaker: circuit.New("b", circuit.Config{FailureThreshold: 1, RecoveryTimeout: 150 * time.Second, Observe: circuit.LogTo(log)}),
		}
		down := true
		call := func(context.Context) error {
			if down {
				return errDown
			}
			return nil
		}
		for range 100 * 150 { // for 150 s
			_ = retry.Do(t.Context(), &p, call)
			<-time.After(10 * time.Millisecond)
		}
		down = false
		_ = retry.Do(t.Context(), &p, call)
		const want = `WARN: Circuit breaker 'b' transitioned from closed to open (1 consecutive failure)
WARN: up failed after 1 attempt (attempts exhausted): the service is down
WARN: up failed (circuit breaker "b" is open; next probe at 2000-01-01T00:02:30Z); 3000 calls refused since it opened
WARN: up failed (circuit breaker "b" is open; next probe at 2000-01-01T00:02:30Z); 9000 calls refused since it opened
INFO: Circuit breaker 'b' transitioned from open to half-open (recovery timeout elapsed)
INFO: Circuit breaker 'b' has refused 14999 calls while open
INFO: Circuit breaker 'b' transitioned from half-open to closed (1 successful probe)
`
		if out.String() != want {
			t.Errorf("%s, want\n%s", out.String(), want)
		}
		refused := 0
		for _, e := range r.events() {
			if e.Reason == retry.ReasonBreakerOpen && e.Attempt == 0 {
				refused++
			}
		}
		if refused != 14999 {
			t.Errorf("%d events of refused calls, want each of 14999", refused)
		}
	})
}

// If another process has opened the breaker, only the first refusal of this process logs
// it.
func TestFirstRefusalOfAnOpeningElsewhere(t *testing.T) {
	t.Parallel()
	var store circuit.Memory
	quiet := func(context.Context, circuit.Transition) {}
	other := circuit.New("b", circuit.Config{Store: &store, Observe: quiet})
	var out strings.Builder
	p := retry.Policy{Name: "up", Observe: retry.LogTo(slog.New(lines{&out})), Breaker: circuit.New("b", circuit.Config{Store: &store, Observe: quiet})}
	f, _ := calls()
	for opening := range 2 {
		other.Trip()
		out.Reset()
		if opening == 1 {
			p.Breaker.Metrics() // a look is no call
		}
		for range 10 {
			_ = retry.Do(t.Context(), &p, f)
		}
		if got := out.String(); !strings.HasPrefix(got, `WARN: up failed (circuit breaker "b" is open`) || strings.Count(got, "\n") != 1 {
			t.Errorf("opening %d: %q, want one line", opening, got)
		}
		other.Reset()
	}
}

// A breaker's figures have the last failure, by class and time.
func TestLastFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := breaker(circuit.Config{})
		p := retry.Policy{MaxAttempts: 1, Breaker: b, Observe: func(context.Context, retry.Event) {}}
		if m := b.Metrics(); !m.LastFailure.IsZero() || m.LastFailureClass != "" {
			t.Errorf("%+v, want no failure yet", m)
		}
		for _, c := range []struct {
			err  error
			want string
			ago  time.Duration
		}{
			{retry.Transient(errDown), "transient", 0},
			{errDown, "unknown", 0},
			{retry.After(errDown, time.Second), "throttled", 0},
			{retry.Permanent(errDown), "throttled", time.Second}, // which is no failure of the service
			{nil, "throttled", 2 * time.Second},
		} {
			<-time.After(time.Second)
			_ = retry.Do(t.Context(), &p, func(context.Context) error { return c.err })
			if m := b.Metrics(); m.LastFailureClass != c.want || time.Since(m.LastFailure) != c.ago {
				t.Errorf("%v: %s, %v ago, want %s, %v ago", c.err, m.LastFailureClass, time.Since(m.LastFailure), c.want, c.ago)
			}
		}
	})
}
