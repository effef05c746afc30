package httpretry_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/retry"
)

// An operation's events have the start of its first attempt, on the fast path too, and
// ObserveAll reports requests that succeed at once.
func TestEventsKnowTheTime(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*retry.Policy){
		"the short way": func(*retry.Policy) {},
		"all observed":  func(p *retry.Policy) { p.ObserveAll = true },
		"a timeout":     func(p *retry.Policy) { p.AttemptTimeout = time.Minute },
	} {
		requests := 0
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if requests++; requests == 1 {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		}))
		defer server.Close()
		var events []retry.Event
		p := retry.Policy{BaseDelay: time.Millisecond, MaxDelay: time.Second, Jitter: retry.NoJitter}
		p.Observe = func(_ context.Context, e retry.Event) { events = append(events, e) }
		change(&p)
		client := httpretry.Client(&p)
		for range 2 {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, http.NoBody)
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
		}
		want := "retrying 1 succeeded 2"
		if p.ObserveAll {
			want += " succeeded 1"
		}
		var got []string
		for _, e := range events {
			got = append(got, e.Kind.String(), string(rune('0'+e.Attempt)))
			if e.Elapsed <= 0 || e.Duration <= 0 || e.Elapsed < e.Duration {
				t.Errorf("%s: %+v, want to know the time", name, e)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// The record of an attempt that was cut short by its timeout names the host.
func TestTimedOutAttemptNamesTheHost(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer server.Close()
	var out strings.Builder
	p := retry.Policy{MaxAttempts: 1, AttemptTimeout: time.Second}
	p.Observe = retry.LogRecords(slog.New(slog.NewTextHandler(&out, nil)))
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, http.NoBody)
	res, err := httpretry.Client(&p).Do(req)
	if err == nil {
		res.Body.Close()
	}
	if host := strings.TrimPrefix(server.URL, "http://"); !errors.Is(err, context.DeadlineExceeded) ||
		!strings.Contains(out.String(), "no response from "+host+" within the attempt timeout of 1s") {
		t.Errorf("%v, and the record is %s", err, out.String())
	}
}
