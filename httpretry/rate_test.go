package httpretry_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/retry"
)

// Requests and their retries reach the server at most at the rate of the breaker,
// regardless of how many are made at once.
func TestRequestsKeepToARate(t *testing.T) {
	t.Parallel()
	const calls, interval = 10, 20 * time.Millisecond
	var mu sync.Mutex
	var arrived []time.Time
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if arrived = append(arrived, time.Now()); len(arrived)%2 == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	p := retry.Policy{MaxAttempts: 20, BaseDelay: time.Millisecond, MaxElapsed: time.Minute, Observe: func(context.Context, retry.Event) {}}
	client := &http.Client{Transport: httpretry.NewTransport(nil, httpretry.Options{
		Policy: &p, Breakers: &circuit.Config{Rate: 50, FailureThreshold: circuit.Off},
	})}
	begin := time.Now()
	var all sync.WaitGroup
	for range calls {
		all.Go(func() {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, http.NoBody)
			if err != nil {
				t.Error(err)
				return
			}
			res, err := client.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			_ = res.Body.Close()
		})
	}
	all.Wait()
	if len(arrived) < calls*3/2 {
		t.Errorf("%d requests, want the retries as well", len(arrived))
	}
	for i, at := range arrived {
		if earliest := time.Duration(i-1) * interval; at.Sub(begin) < earliest {
			t.Errorf("request %d came after %v, want %v at least", i+1, at.Sub(begin), earliest)
		}
	}
}
