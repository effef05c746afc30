package retrytest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/retrytest"
)

// everywhere runs a test outside and inside a bubble. In the bubble the clock shows that nothing has waited.
func everywhere(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	t.Run("outside", test)
	t.Run("in a bubble", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			if test(t); time.Since(begin) != 0 {
				t.Errorf("waited for %v", time.Since(begin))
			}
		})
	})
}

func TestWaitsPassAtOnce(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		t.Helper()
		ctx, log := retrytest.NoWaits(t.Context())
		upload := retry.S3Upload() // as in production, with minutes of delay
		upload.MaxAttempts, upload.Jitter, upload.Observe = 8, retry.NoJitter, log.Observe
		upload.Breaker = circuit.New("bikes", circuit.Config{FailureThreshold: 100, Observe: func(context.Context, circuit.Transition) {}})
		calls := retrytest.Script("reset", "hangup", "500 x2", "lost", "429 after=50s", "ok")
		made := 0
		err := retry.Do(ctx, &upload, func(ctx context.Context) error {
			return calls.Do(ctx, func(context.Context) error { made++; return nil })
		})
		seconds := []time.Duration{1, 2, 4, 8, 16, 50}
		for i := range seconds {
			seconds[i] *= time.Second
		}
		if got := log.Delays(); err != nil || made != 2 || calls.Made() != 7 || calls.Left() != 0 || !slices.Equal(got, seconds) {
			t.Errorf("%v: %d and %d calls, delays %v; want %v", err, made, calls.Made(), got, seconds)
		}
		if err := retry.Do(ctx, &upload, func(context.Context) error { return nil }); err != nil {
			t.Errorf("another operation after the 50s that have passed at once: %v", err)
		}
		if events := log.Events(); len(events) != 7 || events[5].Hint != 50*time.Second || events[5].Class != retry.ClassThrottled ||
			events[6].Kind != retry.Succeeded || events[6].Attempt != 7 {
			t.Errorf("%v", events)
		}
	})
}

// What ends an operation of production also ends it here.
func TestOperationsEndAsInProduction(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		t.Helper()
		for name, c := range map[string]struct {
			policy   retry.Policy
			deadline time.Duration
			step     string
			calls    int
			want     error
		}{
			"attempts":                    {step: "503 x9", calls: 5, want: retry.ErrExhausted},
			"unlimited attempts":          {policy: retry.Policy{MaxAttempts: retry.Unlimited}, step: "503 x1000", calls: 1000, want: retrytest.ErrEndless},
			"permanent":                   {step: "404", calls: 1},
			"a wait beyond the deadline":  {deadline: time.Minute, step: "503 after=2m", calls: 1, want: retry.ErrRetryLater},
			"a wait beyond MaxRetryAfter": {policy: retry.Policy{MaxRetryAfter: time.Second}, step: "503 after=2s", calls: 1, want: retry.ErrRetryLater},
		} {
			ctx, log := retrytest.NoWaits(t.Context())
			if c.deadline > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, c.deadline)
				defer cancel()
			}
			c.policy.Observe = log.Observe
			calls := retrytest.Script(c.step)
			_, err := retry.Value(ctx, &c.policy, func(ctx context.Context) (int, error) {
				return retrytest.Value(ctx, calls, func(context.Context) (int, error) { return 1, nil })
			})
			if calls.Made() != c.calls || err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("%s: %v after %d calls; want %v after %d", name, err, calls.Made(), c.want, c.calls)
			}
		}
	})
}

func TestRequestsFailByTheScript(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		t.Helper()
		server := httptestfault.NewInMemory(httptestfault.Responses(httptestfault.Response{Body: []byte("42 bikes")}))
		defer server.Close()
		base := server.Transport()
		defer base.CloseIdleConnections()
		ctx, log := retrytest.NoWaits(t.Context())
		calls := retrytest.Script("503 after=2s", "reset", "lost", "ok")
		api := retry.Policy{Jitter: retry.NoJitter, Observe: log.Observe}
		client := &http.Client{Transport: httpretry.NewTransport(calls.Transport(base), httpretry.Options{Policy: &api, Breakers: &circuit.Config{}})}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/stations", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if string(body) != "42 bikes" || err != nil || len(server.Requests()) != 2 {
			t.Errorf("%q, %v, %d requests reached the server; want 2, of which one response was lost", body, err, len(server.Requests()))
		}
		if got := log.Delays(); len(got) != 3 || got[0] < 2*time.Second {
			t.Errorf("delays %v", got)
		}
	})
}

// What NoWaits does not pass takes no time in a bubble, as the package's documentation says.
func TestLimitsAndGatesInABubble(t *testing.T) {
	unseen := func(context.Context, circuit.Transition) {}
	for name, c := range map[string]circuit.Config{"rate": {Rate: 1, FailureThreshold: 1000, Observe: unseen}, "gate": {Gate: circuit.Wait, Observe: unseen}} {
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			calls := retrytest.Script("ok x20", "503 x60", "ok")
			p := retry.Policy{Breaker: circuit.New(name, c), Observe: func(context.Context, retry.Event) {}, MaxAttempts: 100}
			call := func() {
				if err := retry.Do(t.Context(), &p, func(ctx context.Context) error {
					return calls.Do(ctx, func(context.Context) error { return nil })
				}); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			for range 20 {
				call() // so that a gate knows the service
			}
			var all sync.WaitGroup
			for range 20 {
				all.Go(call)
			}
			all.Wait()
			if waited := time.Since(begin); waited < 20*time.Second || p.Breaker.Metrics().Waits == 0 {
				t.Errorf("%s: the clock advanced by %v, with %d waits", name, waited, p.Breaker.Metrics().Waits)
			}
		})
	}
}

func TestBadScripts(t *testing.T) {
	for _, step := range []string{"", "503 in=2s", "600", "reset after=2s", "ok delay=soon", "ok delay=-1s", "nothing", "503 x0", "503 x1001", "x2"} {
		func() {
			defer func() {
				if v := fmt.Sprint(recover()); !strings.Contains(v, "fault") || !strings.Contains(v, "must be ok, reset") {
					t.Errorf("Script(%q): %v", step, v)
				}
			}()
			retrytest.Script(step)
		}()
	}
}

func ExampleNoWaits() {
	ctx, log := retrytest.NoWaits(context.Background())
	calls := retrytest.Script("503 after=20s", "reset", "ok")
	p := retry.Policy{Jitter: retry.NoJitter, Observe: log.Observe}

	err := retry.Do(ctx, &p, func(ctx context.Context) error {
		return calls.Do(ctx, func(context.Context) error { return nil }) // the call of the real code
	})
	fmt.Println(err, calls.Made(), log.Delays())
	// Output: <nil> 3 [20s 2s]
}
