package httpretry_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A request ends at once when its Cancel channel is closed, in every phase, and the breaker counts no failure. Such an end
// used to be retried.
func TestRequestCancel(t *testing.T) {
	silent := httptestfault.Response{Fault: httptestfault.Fault{Kind: httptestfault.Hang}}
	busy := status(503)
	busy.Header = http.Header{"Retry-After": {"30"}}
	half := httptestfault.Resource{Body: []byte(text), ETag: `"v1"`}.Respond(&http.Request{Method: "GET", Header: http.Header{}})
	half.Fault = httptestfault.CutBody(7)
	slow := half
	slow.Fault = httptestfault.StallBody(7)
	for _, tt := range []struct {
		name     string
		method   string
		upload   func() io.Reader
		steps    []httptestfault.Response
		change   func(*retry.Policy)
		requests int
		failures int // that the breaker knows of
		body     string
	}{
		{name: "during an attempt", steps: []httptestfault.Response{silent}, requests: 1},
		{name: "during an attempt with a timeout", steps: []httptestfault.Response{silent}, requests: 1, change: func(p *retry.Policy) { p.AttemptTimeout = time.Hour }},
		{name: "during a later attempt", steps: []httptestfault.Response{status(503), silent}, requests: 2, failures: 1},
		{name: "during a wait", steps: []httptestfault.Response{busy}, requests: 1, failures: 1},
		{name: "during the wait of a PUT", method: "PUT", upload: func() io.Reader { return strings.NewReader("data") }, steps: []httptestfault.Response{busy}, requests: 1, failures: 1},
		{name: "during a POST", method: "POST", upload: func() io.Reader { return io.MultiReader(strings.NewReader("data")) }, steps: []httptestfault.Response{silent}, requests: 1},
		{name: "during the body", steps: []httptestfault.Response{slow}, requests: 1, body: text[:7]},
		{name: "during the resume of the body", steps: []httptestfault.Response{half, silent}, requests: 2, body: text[:7]},
		{name: "during the wait of a resume", steps: []httptestfault.Response{half, busy}, requests: 2, failures: 1, body: text[:7]},
	} {
		for _, client := range []*http.Client{{}, {Timeout: time.Hour}} {
			name := tt.name
			if client.Timeout > 0 {
				name += ", in a client with a timeout"
			}
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					server := httptestfault.NewInMemory(httptestfault.Responses(tt.steps...))
					defer server.Close()
					base := server.Transport()
					defer base.CloseIdleConnections()
					policy := quick()
					policy.Breaker = circuit.New("test", circuit.Config{FailureThreshold: 3, Observe: func(context.Context, circuit.Transition) {}})
					if tt.change != nil {
						tt.change(policy)
					}
					client.Transport = httpretry.NewTransport(base, httpretry.Options{
						Policy: policy, StallTimeout: -1, OnResume: func(httpretry.Resumption) {},
					})
					var upload io.Reader
					if tt.upload != nil {
						upload = tt.upload()
					}
					req, err := http.NewRequestWithContext(t.Context(), tt.method, server.URL, upload)
					if err != nil {
						t.Fatal(err)
					}
					cancel := make(chan struct{})
					req.Cancel = cancel //nolint:staticcheck // what is tested
					time.AfterFunc(10*time.Second, func() { close(cancel) })
					began := time.Now()
					res, err := client.Do(req)
					var body []byte
					if err == nil {
						body, err = io.ReadAll(res.Body)
						res.Body.Close()
					}
					if err == nil || string(body) != tt.body || time.Since(began) != 10*time.Second || len(server.Requests()) != tt.requests {
						t.Errorf("%q, %v after %v and %d requests; want %q and an error after 10s and %d",
							body, err, time.Since(began), len(server.Requests()), tt.body, tt.requests)
					}
					if res == nil && !errors.Is(err, context.Canceled) {
						t.Errorf("%v is not context.Canceled", err)
					}
					if f := policy.Breaker.Metrics().Failures; f != tt.failures {
						t.Errorf("the breaker counts %d failures; want %d: a canceled request is none", f, tt.failures)
					}
				})
			})
		}
	}
}

// The Timeout of a client, which closes Cancel as well, stays a timeout.
func TestTimeoutIsNoCancel(t *testing.T) {
	for _, steps := range [][]httptestfault.Response{
		{httptestfault.Response{Fault: httptestfault.Fault{Kind: httptestfault.Hang}}},
		{status(503), httptestfault.Response{Fault: httptestfault.Fault{Kind: httptestfault.Hang}}},
	} {
		for range 50 { // the deadline and the channel race
			synctest.Test(t, func(t *testing.T) {
				server := httptestfault.NewInMemory(httptestfault.Responses(steps...))
				defer server.Close()
				base := server.Transport()
				defer base.CloseIdleConnections()
				var last retry.Event
				policy := quick()
				policy.Observe = func(_ context.Context, e retry.Event) { last = e }
				client := &http.Client{Transport: httpretry.NewTransport(base, httpretry.Options{Policy: policy}), Timeout: time.Minute}
				req, err := http.NewRequestWithContext(t.Context(), "GET", server.URL, nil)
				if err != nil {
					t.Fatal(err)
				}
				res, err := client.Do(req)
				if err == nil {
					res.Body.Close()
				}
				if !os.IsTimeout(err) || !errors.Is(err, context.DeadlineExceeded) || last.Class == retry.ClassIgnored {
					t.Errorf("%v, class %v; want a timeout", err, last.Class)
				}
			})
		}
	}
}

// A request with a Cancel channel that is never closed is like any other, also with a timeout for each attempt.
func TestUnusedCancel(t *testing.T) {
	server := httptestfault.New(httptestfault.Responses(status(503), ok))
	defer server.Close()
	base := server.Transport()
	defer base.CloseIdleConnections()
	policy := quick()
	policy.AttemptTimeout = time.Hour
	transport := httpretry.NewTransport(base, httpretry.Options{Policy: policy})
	for range 200 {
		req, err := http.NewRequestWithContext(t.Context(), "GET", server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Cancel = make(chan struct{}) //nolint:staticcheck // what is tested
		res, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(res.Body); string(body) != "fine" || err != nil {
			t.Errorf("%q, %v", body, err)
		}
		res.Body.Close()
	}
}
