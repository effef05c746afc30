package httpretry_test

import (
	"bytes"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/metrics"
)

// counted returns the value of a series of r by the name, and the value of its last label.
func counted(r *metrics.Registry, name, last string) (n float64) {
	if r == nil {
		return 0
	}
	for _, f := range r.Snapshot().Families {
		for _, s := range f.Samples {
			if l := s.Labels; f.Name == name && (last == "" || len(l) > 0 && l[len(l)-1].Value == last) {
				n += s.Value
			}
		}
	}
	return n
}

// Requests count the same whatever way they take: the fast path of a GET, that with a
// breaker, a request with a body, one that is retried or refused.
func TestRequestsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fails atomic.Int64
		server := httptestfault.NewInMemory(func(int, *http.Request) httptestfault.Response {
			if fails.Add(-1) >= 0 {
				return status(503)
			}
			return httptestfault.Response{Body: []byte("fine")}
		})
		defer server.Close()
		base := server.Transport()
		defer base.CloseIdleConnections()
		for name, breakers := range map[string]*circuit.Config{"no breaker": nil, "breakers": {RecoveryTimeout: time.Hour}} {
			var r metrics.Registry
			p := quick()
			p.Metrics = &r
			transport := httpretry.NewTransport(base, httpretry.Options{Policy: p, Breakers: breakers})
			for range 7 {
				wantFine(t, transport, server.URL)
			}
			if _, _, err := (row{method: "PUT"}).do(t, server.URL, transport); err != nil {
				t.Error(err)
			}
			fails.Store(1)
			wantFine(t, transport, server.URL)
			if got := counted(&r, "perdure_calls", ""); got != 9 {
				t.Errorf("%s: %v requests, want 9", name, got)
			}
			if first, later := counted(&r, "perdure_attempts", "success"), counted(&r, "perdure_attempts", "transient"); first != 9 || later != 1 {
				t.Errorf("%s: %v attempts succeeded and %v failed, want 9 and 1", name, first, later)
			}
		}
	})
}

func TestHedgesAndResumesAreCounted(t *testing.T) {
	t.Run("counted", func(t *testing.T) { hedgesAndResumes(t, new(metrics.Registry)) })
	t.Run("a nil Registry counts nothing", func(t *testing.T) { hedgesAndResumes(t, nil) })
}

func hedgesAndResumes(t *testing.T, r *metrics.Registry) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		body := bytes.Repeat([]byte("0123456789"), 1000)
		resource := httptestfault.Resource{Body: body, ETag: `"v1"`}
		mode := atomic.Int64{} // 1: slow, once; 2: cut, twice
		server := httptestfault.NewInMemory(func(_ int, req *http.Request) httptestfault.Response {
			step := resource.Respond(req)
			step.Delay = 10 * time.Millisecond
			switch {
			case mode.CompareAndSwap(1, 0):
				step.Delay = time.Second
			case mode.CompareAndSwap(2, 3), mode.CompareAndSwap(3, 0):
				step.Fault = httptestfault.Fault{Kind: httptestfault.Cut, Bytes: 2500}
			}
			return step
		})
		defer server.Close()
		base := server.Transport()
		defer base.CloseIdleConnections()
		p := quick()
		p.Metrics = r
		client := http.Client{Transport: httpretry.NewTransport(base, httpretry.Options{Policy: p, Hedge: &httpretry.Hedge{Min: 25 * time.Millisecond}})}
		fetch := func() {
			t.Helper()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if got, err := io.ReadAll(res.Body); err != nil || !bytes.Equal(got, body) {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
		}
		for range 40 {
			fetch()
		}
		mode.Store(1)
		fetch()
		if sent, won := counted(r, "perdure_hedges", "sent"), counted(r, "perdure_hedges", "won"); r != nil && (sent != 1 || won != 1) {
			t.Errorf("%v hedges sent and %v won, want one of each", sent, won)
		}
		mode.Store(2)
		fetch()
		if n, bytes := counted(r, "perdure_resumes", ""), counted(r, "perdure_resumed_bytes", ""); r != nil && (n != 2 || bytes != 7500) {
			t.Errorf("%v resumes and %v bytes, want 2 and 7500", n, bytes)
		}
		if n := counted(r, "perdure_calls", ""); r != nil && n != 42+2 {
			t.Errorf("%v operations, want 42 requests and 2 resumes", n)
		}
	})
}
