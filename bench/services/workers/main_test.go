package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

// Each worker gets a price, and the service never gets more than 100 calls, and their hedges, at once.
func TestWorkers(t *testing.T) {
	const workers = 1000
	for _, row := range []struct {
		name string
		fail func(n int64) bool
		down bool
	}{
		{"three of ten requests fail", func(n int64) bool { return n%10 == 1 || n%10 == 4 || n%10 == 7 }, false},
		{"the service is down", func(int64) bool { return true }, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			var requests, inFlight, most atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				defer inFlight.Add(-1)
				for now := inFlight.Add(1); ; {
					if old := most.Load(); now <= old || most.CompareAndSwap(old, now) {
						break
					}
				}
				if row.fail(requests.Add(1)) {
					w.WriteHeader(http.StatusServiceUnavailable)
					return
				}
				_, _ = fmt.Fprint(w, `{"price": 100}`)
			}))
			defer server.Close()
			got, err := run(t.Context(), server.URL, workers)
			if err != nil {
				t.Fatal(err)
			}
			if want := 100*(workers-got.replaced) + listPrice*got.replaced; got.sum != want {
				t.Errorf("the prices are %d, want %d", got.sum, want)
			}
			if row.down != (got.replaced == workers) {
				t.Errorf("%d list prices", got.replaced)
			}
			if row.down && requests.Load() > workers/2 {
				t.Errorf("%d requests to a service that is down", requests.Load())
			}
			if most.Load() > 160 {
				t.Errorf("%d requests at once, want at most 100 and 60 hedges", most.Load())
			}
			t.Logf("%d requests, %d list prices", requests.Load(), got.replaced)
		})
	}
}
