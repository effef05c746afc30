package httpretry_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/retry"
)

// byHeader is a user's Classify: this service throttles with a 403, reports in a header that a 200 is a failure, and has new
// items only a moment after their creation.
func byHeader(res *http.Response) retry.Class {
	switch {
	case res.StatusCode == http.StatusForbidden && res.Header.Get("Retry-After") != "":
		return retry.ClassThrottled
	case res.Header.Get("X-Failed") != "":
		return retry.ClassTransient
	case res.StatusCode == http.StatusNotFound:
		return retry.ClassTransient
	case res.StatusCode == http.StatusServiceUnavailable:
		return retry.ClassPermanent
	case res.StatusCode == http.StatusTooManyRequests:
		return retry.ClassIgnored
	}
	return retry.ClassUnknown
}

// The class from Options.Classify counts for the retry and for the breaker, and the caller gets the body.
func TestClassifyAResponse(t *testing.T) {
	in := func(code int, name, value string) httptestfault.Response {
		step := status(code)
		step.Header = http.Header{name: {value}}
		return step
	}
	for _, tt := range []struct {
		name   string
		step   httptestfault.Response
		method string
		change func(*retry.Policy)

		requests int
		waited   time.Duration // at least
		ended    error
		open     bool // the breaker is, which three failures open
	}{
		{name: "200", step: status(200), requests: 1},
		{name: "403", step: status(403), requests: 1},
		{name: "403 with Retry-After", step: in(403, "Retry-After", "3"), requests: 3, waited: 6 * time.Second, ended: retry.ErrExhausted, open: true},
		{name: "403 with Retry-After to a POST", method: "POST", step: in(403, "Retry-After", "3"), requests: 1, ended: httpretry.ErrNotIdempotent},
		{name: "200 that is none", step: in(200, "X-Failed", "yes"), requests: 3, ended: retry.ErrExhausted, open: true},
		{name: "404", step: status(404), requests: 3, ended: retry.ErrExhausted, open: true},
		{name: "500, which the hook leaves", step: status(500), requests: 3, ended: retry.ErrExhausted, open: true},
		{name: "503", step: status(503), requests: 1},
		{name: "429", step: status(429), requests: 1},
		{name: "404 that the policy ignores", step: status(404), requests: 1, change: func(p *retry.Policy) { p.IgnoreOn = []string{"404"} }},
		{
			name: "before the policy's own", step: status(404), requests: 3, ended: retry.ErrExhausted, open: true,
			change: func(p *retry.Policy) { p.Classify = func(error) retry.Class { return retry.ClassPermanent } },
		},
		{
			name: "the policy's own for the rest", step: status(500), requests: 1,
			change: func(p *retry.Policy) { p.Classify = func(error) retry.Class { return retry.ClassPermanent } },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := httptestfault.NewInMemory(httptestfault.Responses(tt.step))
				defer server.Close()
				base := server.Transport()
				defer base.CloseIdleConnections()
				policy := quick()
				policy.Breaker = circuit.New("test", circuit.Config{FailureThreshold: 3, Observe: func(context.Context, circuit.Transition) {}})
				if tt.change != nil {
					tt.change(policy)
				}
				began := time.Now()
				transport := httpretry.NewTransport(base, httpretry.Options{Policy: policy, Classify: byHeader})
				res, body, err := row{method: tt.method}.do(t, server.URL, transport)
				if err != nil || res.StatusCode != tt.step.Status || body != string(tt.step.Body) || !errors.Is(httpretry.GaveUp(res), tt.ended) {
					t.Errorf("%v, %q, %v, ended with %v; want the last response, ended with %v", res, body, err, httpretry.GaveUp(res), tt.ended)
				}
				if n := len(server.Requests()); n != tt.requests || time.Since(began) < tt.waited {
					t.Errorf("%d requests in %v; want %d in %v at least", n, time.Since(began), tt.requests, tt.waited)
				}
				if open := policy.Breaker.State() == circuit.Open; open != tt.open {
					t.Errorf("the breaker is open: %t; want %t", open, tt.open)
				}
			})
		})
	}
}

// The hooks see the head of a response, and cannot take the body from the caller.
func TestHooksSeeNoBody(t *testing.T) {
	server := httptestfault.New(httptestfault.Responses(status(503), status(200)))
	defer server.Close()
	base := server.Transport()
	defer base.CloseIdleConnections()
	seen := 0
	read := func(res *http.Response) {
		seen++
		if body, err := io.ReadAll(res.Body); len(body) != 0 || err != nil || res.Header.Get("Content-Length") == "" || res.Request == nil {
			t.Errorf("a hook got %+v with body %q, %v; want the head", res, body, err)
		}
		res.Body.Close()
	}
	transport := httpretry.NewTransport(base, httpretry.Options{
		Policy:     quick(),
		Classify:   func(res *http.Response) retry.Class { read(res); return retry.ClassUnknown },
		RetryAfter: func(res *http.Response) (time.Duration, bool) { read(res); return 0, false },
	})
	if _, body, err := (row{}).do(t, server.URL, transport); body != "status 200" || err != nil || seen != 3 {
		t.Errorf("%q, %v after %d calls; want the body, and two responses classified and one asked for its wait", body, err, seen)
	}
}
