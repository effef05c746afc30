package redisstore_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/hoststore"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/redisstore"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A failing service that sends Retry-After gets no calls until then from any process
// that shares the breaker, even if the breaker's own open time is shorter. A Retry-After
// that is shorter than the open time does not shorten it.
func TestRetryAfterLengthensOpening(t *testing.T) {
	stores := map[string]func(*testing.T) (a, b circuit.Store){
		"memory": func(*testing.T) (a, b circuit.Store) { m := new(circuit.Memory); return m, m },
		"host file": func(t *testing.T) (a, b circuit.Store) {
			t.Helper()
			dir := t.TempDir()
			one, other := hoststore.Open(dir), hoststore.Open(dir)
			t.Cleanup(one.Close)
			t.Cleanup(other.Close)
			return one, other
		},
		"Redis": func(t *testing.T) (a, b circuit.Store) {
			t.Helper()
			o := redisstore.Options{URL: startServer(t).url(), Quorum: 1, Node: "a"}
			one := open(t, o)
			o.Node = "b"
			return one, open(t, o)
		},
	}
	for name, pair := range stores {
		t.Run(name, func(t *testing.T) {
			for _, row := range []struct {
				status     int
				header     string
				limit      time.Duration // MaxRetryAfter
				own, lasts time.Duration
			}{
				{503, "3000", time.Hour, time.Minute, 3000 * time.Second},
				{503, "3000", time.Hour, 2 * time.Hour, 2 * time.Hour},
				{503, "3000", time.Minute, time.Minute, time.Minute}, // a process does not impose a wait that it would not accept
				{503, "86401", 30 * time.Hour, time.Minute, time.Minute},
				{503, "", time.Hour, time.Minute, time.Minute},
				{500, "3000", time.Hour, time.Minute, 3000 * time.Second},
				{429, "3000", time.Hour, time.Minute, 3000 * time.Second},
			} {
				service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					if row.header != "" {
						w.Header().Set("Retry-After", row.header)
					}
					w.WriteHeader(row.status)
				}))
				one, other := pair(t)
				c := circuit.Config{FailureThreshold: 3, RecoveryTimeout: row.own, Observe: func(context.Context, circuit.Transition) {}}
				c.Store = one
				mine := circuit.New("service", c)
				c.Store = other
				theirs := circuit.New("service", c)
				client := httpretry.Client(&retry.Policy{
					MaxAttempts: 1, MaxRetryAfter: row.limit, Breaker: mine, Observe: func(context.Context, retry.Event) {},
				})
				before := time.Now()
				for range 5 {
					req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, service.URL, nil)
					if err != nil {
						t.Fatal(err)
					}
					if res, err := client.Do(req); err == nil {
						res.Body.Close()
					}
				}
				eventually(t, func() bool { return theirs.State() == circuit.Open }, "%+v: the others open", row)
				earliest, latest := before.Add(row.lasts-2*time.Millisecond), time.Now().Add(row.lasts+2*time.Millisecond)
				for who, b := range map[string]*circuit.Breaker{"the process itself": mine, "the others": theirs} {
					if at := b.Metrics().RetryAt; at.Before(earliest) || at.After(latest) {
						t.Errorf("%+v: %s come back at %v, want from %v to %v", row, who, at, earliest, latest)
					}
				}
				service.Close()
			}
		})
	}
}
