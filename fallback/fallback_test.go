package fallback_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/fallback"
	"github.com/seed-0f2c7998/perdure/retry"
)

func quiet(context.Context, retry.Event)            {}
func unseen(context.Context, circuit.Transition)    {}
func cached(context.Context, error) (string, error) { return "cached", nil }
func unobserved(context.Context, fallback.Event)    {}
func fails(err error) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return "partial", err }
}

// retried is f within a retry whose attempts all fail with err.
func retried(p retry.Policy, err error) func(context.Context) (string, error) {
	p.BaseDelay, p.Jitter, p.Observe = 1, retry.NoJitter, quiet
	return func(ctx context.Context) (string, error) { return retry.Value(ctx, &p, fails(err)) }
}

func TestWhichErrorsAreReplaced(t *testing.T) {
	tripped := circuit.New("tripped", circuit.Config{Observe: unseen})
	tripped.Trip()
	paced := circuit.New("paced", circuit.Config{Rate: 1.0 / 86400, Observe: unseen})
	paced.Allow()
	open := &retry.Policy{Breaker: tripped, Observe: quiet}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	late, stop := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer stop()
	bug := errors.New("bug")
	for name, c := range map[string]struct {
		ctx      context.Context
		f        func(context.Context) (string, error)
		replaced bool
	}{
		"success":              {f: fails(nil)},
		"exhausted":            {f: retried(retry.Policy{MaxAttempts: 2, Classify: retry.Always}, bug), replaced: true},
		"exhausted, one try":   {f: retried(retry.Policy{MaxAttempts: 1, Classify: retry.Always}, bug), replaced: true},
		"permanent":            {f: retried(retry.Policy{}, retry.Permanent(bug))},
		"unknown, not retried": {f: retried(retry.Policy{}, bug)},
		"retry later":          {f: retried(retry.Policy{}, retry.After(bug, time.Hour)), replaced: true},
		"nested, exhausted": {f: func(ctx context.Context) (string, error) {
			return retry.Value(ctx, &retry.Policy{Observe: quiet}, retried(retry.Policy{MaxAttempts: 1, Classify: retry.Always}, bug))
		}, replaced: true},
		"breaker open": {f: func(ctx context.Context) (string, error) { return retry.Value(ctx, open, fails(nil)) }, replaced: true},
		"breaker alone": {f: func(ctx context.Context) (string, error) {
			return "", tripped.Do(ctx, func(context.Context) error { return nil })
		}, replaced: true},
		"limit": {ctx: timeout(t, time.Minute), f: func(ctx context.Context) (string, error) {
			return "", paced.Do(ctx, func(context.Context) error { return nil })
		}, replaced: true},
		"transient, no retry": {f: fails(fmt.Errorf("read: %w", syscall.ECONNRESET)), replaced: true},
		"throttled, no retry": {f: fails(retry.After(bug, time.Second)), replaced: true},
		"unexpected EOF":      {f: fails(io.ErrUnexpectedEOF), replaced: true},
		"cancelled by caller": {ctx: cancelled, f: retried(retry.Policy{Classify: retry.Always}, bug)},
		"cancelled, no retry": {ctx: cancelled, f: func(ctx context.Context) (string, error) { return "", ctx.Err() }},
		"deadline of caller":  {ctx: late, f: retried(retry.Policy{}, bug), replaced: true},
		"deadline, no retry":  {ctx: late, f: func(ctx context.Context) (string, error) { return "", ctx.Err() }, replaced: true},
	} {
		ctx := c.ctx
		if ctx == nil {
			ctx = t.Context()
		}
		_, plain := c.f(ctx)
		v, replaced, err := fallback.Replaced(ctx, &fallback.Policy{Observe: unobserved}, c.f, cached)
		if c.replaced {
			if v != "cached" || replaced == nil || err != nil {
				t.Errorf("%s: %q, replaced %v, error %v; want the error replaced", name, v, replaced, err)
			}
		} else if v == "cached" || replaced != nil || (err == nil) != (plain == nil) {
			t.Errorf("%s: %q, replaced %v, error %v; want what f returned", name, v, replaced, err)
		}
	}
}

func timeout(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestAFallbackThatFails(t *testing.T) {
	down, empty := io.ErrUnexpectedEOF, errors.New("cache is empty: postgres://u:secret@db/x")
	var events []fallback.Event
	p := &fallback.Policy{Name: "stations", Observe: func(_ context.Context, e fallback.Event) {
		events = append(events, e)
		panic("an observer's mistake changes nothing")
	}}
	v, err := fallback.Value(t.Context(), p, fails(down), func(context.Context, error) (string, error) { return "half", empty })
	both, ok := errors.AsType[*fallback.Error](err)
	if v != "half" || !ok || !errors.Is(err, down) || !errors.Is(err, empty) {
		t.Errorf("%q, %v", v, err)
	}
	if want := "stations: fallback failed: cache is empty: postgres://REDACTED@db/x (after: unexpected EOF)"; err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
	wrapped := fmt.Errorf("no copy either: %w", down)
	_, err = fallback.Value(t.Context(), p, fails(down), func(context.Context, error) (string, error) { return "", wrapped })
	if !errors.Is(err, wrapped) || errors.As(err, &both) {
		t.Errorf("a fallback that declines: %v, want its own error", err)
	}
	err = fallback.Do(t.Context(), p, func(context.Context) error { return down }, func(_ context.Context, err error) error {
		if !errors.Is(err, down) {
			t.Errorf("the fallback got %v", err)
		}
		return nil
	})
	if err != nil || len(events) != 3 || events[2].Err != nil || !errors.Is(events[2].Replaced, down) || events[0].Operation != "stations" {
		t.Errorf("%v, events %v", err, events)
	}
}

func TestOnDecides(t *testing.T) {
	bug := errors.New("bug")
	p := &fallback.Policy{On: func(err error) bool { return errors.Is(err, bug) }, Observe: unobserved}
	if v, err := fallback.Value(t.Context(), p, fails(bug), cached); v != "cached" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
	if v, err := fallback.Value(t.Context(), p, fails(io.ErrUnexpectedEOF), cached); v != "partial" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%q, %v", v, err)
	}
}

func TestSuccessAllocatesNothing(t *testing.T) {
	f, p := fails(nil), &fallback.Policy{}
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() { _, _ = fallback.Value(ctx, p, f, cached) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func ExampleReplaced() {
	broken := circuit.New("stations", circuit.Config{Observe: unseen})
	broken.Trip() // as failures would
	api := retry.Policy{Name: "stations", Breaker: broken, Observe: quiet}
	p := fallback.Policy{Name: "stations", Observe: unobserved}

	free, old, err := fallback.Replaced(context.Background(), &p, func(ctx context.Context) (int, error) {
		return retry.Value(ctx, &api, func(context.Context) (int, error) { return 7, nil })
	}, func(context.Context, error) (int, error) {
		return 5, nil // the last known number
	})
	if old != nil {
		fmt.Println("the service is not available")
	}
	fmt.Println(free, err)
	// Output:
	// the service is not available
	// 5 <nil>
}

// A bare handler writes messages as they are, as the handler that slog begins with does.
type bare struct {
	slog.Handler
	to io.Writer
}

func (bare) Enabled(context.Context, slog.Level) bool { return true }

func (b bare) Handle(_ context.Context, r slog.Record) error {
	_, err := fmt.Fprintln(b.to, r.Message)
	return err
}

// A name with a line break forges no line.
func TestTheLogIsOneLine(t *testing.T) {
	var written bytes.Buffer
	before := slog.Default()
	defer slog.SetDefault(before)
	slog.SetDefault(slog.New(bare{slog.DiscardHandler, &written}))
	p := fallback.Policy{Name: "stations\n2026/03/01 12:00:00 INFO all is well"}
	if v, err := fallback.Value(t.Context(), &p, fails(syscall.ECONNRESET), cached); err != nil || v != "cached" {
		t.Errorf("%q, %v", v, err)
	}
	if got := written.String(); strings.Count(got, "\n") != 1 {
		t.Errorf("lines: %q", got)
	}
}
