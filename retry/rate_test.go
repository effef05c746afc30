package retry_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
)

// Each attempt takes an instant of the rate, after its backoff; the wait is not included
// in the attempt's duration.
func TestEachAttemptIsCountedByTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at, took []time.Duration
		start := time.Now()
		p := retry.Policy{
			MaxAttempts: 4, BaseDelay: time.Second, Jitter: retry.NoJitter, Timed: true,
			Breaker: circuit.New("s", circuit.Config{Rate: 0.1, FailureThreshold: circuit.Off}),
			Observe: func(_ context.Context, e retry.Event) {
				if e.Kind != retry.Queued {
					took = append(took, e.Duration)
				}
			},
		}
		err := retry.Do(t.Context(), &p, func(ctx context.Context) error {
			at = append(at, time.Since(start))
			_ = pause(ctx, 50*time.Millisecond)
			return down(ctx)
		})
		if !errors.Is(err, retry.ErrExhausted) {
			t.Errorf("it ended with %v", err)
		}
		for i, at := range at {
			if want := time.Duration(i) * 10 * time.Second; at != want || took[i] != 50*time.Millisecond {
				t.Errorf("attempt %d was made after %v and took %v, want %v and 50ms", i+1, at, took[i], want)
			}
		}
	})
}

// Each wait for the rate is one event, when it begins; of many that take a second or
// more, one in a minute is for the log.
func TestAWaitForARateIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var events []retry.Event
		var log bytes.Buffer
		p := retry.Policy{
			Name: "load", MaxElapsed: 5 * time.Minute, Breaker: circuit.New("s", circuit.Config{Rate: 2}),
			Observe: retry.Observers(retry.LogTo(slog.New(slog.NewTextHandler(&log, nil))), func(_ context.Context, e retry.Event) {
				mu.Lock()
				defer mu.Unlock()
				events = append(events, e)
			}),
		}
		var calls sync.WaitGroup
		start := time.Now()
		for range 300 { // they take 150 s
			calls.Go(func() {
				if err := retry.Do(t.Context(), &p, func(context.Context) error { return nil }); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		slices.SortFunc(events, func(a, b retry.Event) int { return a.RetryAt.Compare(b.RetryAt) })
		first := 0
		for i, e := range events {
			if turn := time.Duration(i+1) * time.Second / 2; e.Kind != retry.Queued || e.Reason != retry.ReasonLimit || e.Key != "s" ||
				e.Attempt != 0 || e.Delay != turn || !e.RetryAt.Equal(start.Add(turn)) {
				t.Fatalf("event %d is %+v", i, e)
			}
			if e.First {
				first++
			}
		}
		calls.Wait()
		if len(events) != 299 || first != 1 || strings.Count(log.String(), "\n") != 1 ||
			!strings.Contains(log.String(), "seconds for the rate limit of 's'\" event=queued operation=load") {
			t.Errorf("%d events of 299 waits, %d of them the first; the log:\n%s", len(events), first, log.String())
		}
	})
}

// A call that cannot wait for its turn, because of MaxElapsed or the deadline, gets the
// refusal at once, with its RetryAt.
func TestARateThatIsTooSlow(t *testing.T) {
	for name, elapsed := range map[string]time.Duration{"MaxElapsed": 5 * time.Second, "deadline": 0} {
		for _, fails := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if elapsed == 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, 5*time.Second)
					defer cancel()
				}
				var last retry.Event
				b := circuit.New("s", circuit.Config{Rate: 0.1})
				p := retry.Policy{
					MaxElapsed: elapsed, BaseDelay: time.Second, Jitter: retry.NoJitter, Breaker: b,
					Observe: func(_ context.Context, e retry.Event) { last = e },
				}
				if !fails {
					b.Allow()
				}
				start := time.Now()
				err := retry.Do(ctx, &p, down)
				limit, limited := errors.AsType[*circuit.LimitError](err)
				if !limited || limit.RetryAt.Sub(start) != 10*time.Second {
					t.Fatalf("%s: it ended with %v", name, err)
				}
				class, _ := p.ClassOf(err)
				e, made := errors.AsType[*retry.Error](err)
				switch {
				case !made && class != retry.ClassIgnored, last.Reason != retry.ReasonLimit, !last.RetryAt.Equal(limit.RetryAt):
					t.Errorf("%s: the class is %v, the last event %+v", name, class, last)
				case made != fails, made && !e.RetryAt.Equal(limit.RetryAt):
					t.Errorf("%s: the error is %#v", name, err)
				case !made && time.Since(start) != 0, made && time.Since(start) != time.Second:
					t.Errorf("%s: it took %v", name, time.Since(start))
				}
			})
		}
	}
}
