package httpretry_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
)

func TestHedge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := map[int]time.Duration{}
		server := httptestfault.NewInMemory(func(n int, _ *http.Request) httptestfault.Response {
			step := httptestfault.Response{Body: []byte("fine"), Delay: time.Duration(10+n%10) * time.Millisecond}
			if d := slow[n]; d > 0 {
				step.Delay = d
			}
			return step
		})
		defer server.Close()
		base := server.Transport()
		defer base.CloseIdleConnections()
		transport := httpretry.NewTransport(base, httpretry.Options{Policy: quick(), Hedge: &httpretry.Hedge{Min: 25 * time.Millisecond}})
		for range 40 { // two tokens' worth
			wantFine(t, transport, server.URL)
		}
		if n := len(server.Requests()); n != 40 {
			t.Fatalf("%d requests while none was slow; want 40", n)
		}
		for call, want := range []struct {
			within   time.Duration
			requests int
		}{
			{50 * time.Millisecond, 2}, // the second request is the faster one
			{50 * time.Millisecond, 2},
			{time.Second, 1}, // the budget is spent
		} {
			before := len(server.Requests())
			slow[before+1] = time.Second
			start := time.Now()
			wantFine(t, transport, server.URL)
			if took, n := time.Since(start), len(server.Requests())-before; took > want.within || n != want.requests {
				t.Errorf("slow call %d took %v and %d requests; want %v and %d", call, took, n, want.within, want.requests)
			}
		}
		for _, method := range []string{"POST", "PUT"} {
			before := len(server.Requests())
			slow[before+1] = time.Second
			if _, _, err := (row{method: method}).do(t, server.URL, transport); err != nil || len(server.Requests()) != before+1 {
				t.Errorf("%s: %v and %d requests; want 1", method, err, len(server.Requests())-before)
			}
		}
	})
}

// A hedge whose first request fails fast leaves it to the policy; one whose two requests fail returns one of them.
func TestHedgeOfFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var steps []httptestfault.Response
		server := httptestfault.NewInMemory(func(int, *http.Request) httptestfault.Response {
			mu.Lock()
			defer mu.Unlock()
			step := httptestfault.Response{Body: []byte("fine"), Delay: 10 * time.Millisecond}
			if len(steps) > 0 {
				step, steps = steps[0], steps[1:]
			}
			return step
		})
		defer server.Close()
		base := server.Transport()
		defer base.CloseIdleConnections()
		transport := httpretry.NewTransport(base, httpretry.Options{Policy: quick(), Hedge: &httpretry.Hedge{Ratio: 1, Min: 25 * time.Millisecond}})
		for range 20 {
			wantFine(t, transport, server.URL)
		}
		next := func(of ...httptestfault.Response) (left int) {
			mu.Lock()
			defer mu.Unlock()
			left, steps = len(steps), of
			return left
		}
		reset := httptestfault.Response{Delay: 30 * time.Millisecond}.With(httptestfault.Hangup())
		for name, tt := range map[string][]httptestfault.Response{
			"fails fast":               {status(503)},
			"second fails":             {{Body: []byte("fine"), Delay: 100 * time.Millisecond}, status(503)},
			"first fails, slowly":      {{Status: 503, Delay: 30 * time.Millisecond}, {Body: []byte("fine"), Delay: 30 * time.Millisecond}},
			"first is cut":             {reset, {Body: []byte("fine"), Delay: 30 * time.Millisecond}},
			"both fail":                {{Status: 503, Delay: 30 * time.Millisecond}, {Status: 500, Delay: 30 * time.Millisecond}},
			"both fail, then it works": {reset, reset, reset},
		} {
			next(tt...)
			if _, body, err := (row{}).do(t, server.URL, transport); body != "fine" || err != nil {
				t.Errorf("%s: %q, %v", name, body, err)
			}
			if left := next(); left > 0 {
				t.Errorf("%s: %d steps left", name, left)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		next(httptestfault.Response{Delay: time.Hour}, httptestfault.Response{Delay: time.Hour})
		if _, _, err := (row{ctx: func(context.Context) context.Context { return ctx }}).do(t, server.URL, transport); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v; want the caller's deadline", err)
		}
	})
}

// What counts as slow is a percentile of the latencies. The slower of the two requests is cancelled.
func TestHedgePercentile(t *testing.T) {
	for _, tt := range []struct {
		percentile float64
		took       time.Duration
		requests   int
	}{
		{0.5, 14 * time.Millisecond, 1},
		{0.5, 17 * time.Millisecond, 2},
		{0.9, 17 * time.Millisecond, 1},
		{0.9, 20 * time.Millisecond, 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			server := httptestfault.NewInMemory(func(n int, _ *http.Request) httptestfault.Response {
				step := httptestfault.Response{Body: []byte("fine"), Delay: time.Duration(10+n%10) * time.Millisecond}
				if n == 21 {
					step.Delay = tt.took
				}
				return step
			})
			defer server.Close()
			base := server.Transport()
			defer base.CloseIdleConnections()
			transport := httpretry.NewTransport(base, httpretry.Options{
				Policy: quick(), Hedge: &httpretry.Hedge{Percentile: tt.percentile, Min: time.Millisecond, Ratio: 0.05},
			})
			for range 20 { // 10 to 19 ms, and one token
				wantFine(t, transport, server.URL)
			}
			start := time.Now()
			wantFine(t, transport, server.URL)
			took := time.Since(start)
			synctest.Wait()
			_, open := server.Connections()
			if n := len(server.Requests()) - 20; took != tt.took || n != tt.requests || open != 1 {
				t.Errorf("percentile %v: %v, %d requests, %d connections left; want %v, %d, 1", tt.percentile, took, n, open, tt.took, tt.requests)
			}
		})
	}
}
