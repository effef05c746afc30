package httpretry_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/internal/servertest"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A slow reader returns a byte after each pause.
type slow struct {
	left  int
	pause func()
}

func (s *slow) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	s.pause()
	s.left--
	p[0] = 'x'
	return 1, nil
}

// HeadTimeout limits all attempts and waits until the head, but neither the body of the response nor the time in which the
// caller sends the request.
func TestHeadTimeout(t *testing.T) {
	const limit = 25 * time.Second
	hang := httptestfault.Response{Fault: httptestfault.Fault{Kind: httptestfault.Hang}}
	busy := status(503)
	busy.Header = http.Header{"Retry-After": {"120"}}
	soon := status(503)
	soon.Header = http.Header{"Retry-After": {"10"}}
	for _, tt := range []struct {
		name    string
		steps   []httptestfault.Response
		upload  int           // bytes, one each 9 s
		attempt time.Duration // the policy's AttemptTimeout
		timeout bool          // the request ends with an error about the time
		status  int
		sent    int
		took    time.Duration // to the end of the body
	}{
		{name: "no response", steps: []httptestfault.Response{hang}, timeout: true, sent: 1, took: limit},
		{name: "attempts that time out", steps: []httptestfault.Response{hang}, attempt: 10 * time.Second, timeout: true, sent: 3, took: limit},
		{name: "Retry-After beyond it", steps: []httptestfault.Response{busy}, status: 503, sent: 1},
		{name: "Retry-After within it, once", steps: []httptestfault.Response{soon, ok}, status: 200, sent: 2, took: 10 * time.Second},
		{name: "Retry-After within it, too often", steps: []httptestfault.Response{soon}, status: 503, sent: 3, took: 20 * time.Second},
		{name: "a slow body", steps: []httptestfault.Response{{Body: []byte("0123456789"), Slice: 1, Gap: 9 * time.Second}}, status: 200, sent: 1, took: 81 * time.Second},
		{name: "a slow request", steps: []httptestfault.Response{ok}, upload: 10, status: 200, sent: 1, took: 90 * time.Second},
		{name: "no response to a slow request", steps: []httptestfault.Response{hang}, upload: 10, timeout: true, sent: 1, took: 90*time.Second + limit},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := httptestfault.NewInMemory(httptestfault.Responses(tt.steps...))
				defer server.Close()
				base := server.Transport()
				defer base.CloseIdleConnections()
				policy := quick()
				policy.MaxAttempts, policy.AttemptTimeout, policy.MaxRetryAfter = 9, tt.attempt, 5*time.Minute
				transport := httpretry.NewTransport(base, httpretry.Options{Policy: policy, HeadTimeout: limit, StallTimeout: -1})
				method, body := http.MethodGet, io.Reader(http.NoBody)
				if tt.upload > 0 {
					method, body = http.MethodPut, &slow{tt.upload, func() { <-time.NewTimer(9 * time.Second).C }}
				}
				req, err := http.NewRequestWithContext(t.Context(), method, server.URL, body)
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				res, err := transport.RoundTrip(req)
				code := 0
				if err == nil {
					code = res.StatusCode
					if _, err := io.Copy(io.Discard, res.Body); err != nil {
						t.Error(err)
					}
					res.Body.Close()
				}
				if took := time.Since(start).Round(time.Second); took != tt.took || code != tt.status || len(server.Requests()) != tt.sent {
					t.Errorf("status %d (%v) after %v and %d requests; want %d after %v and %d", code, err, took, len(server.Requests()), tt.status, tt.took, tt.sent)
				}
				if errors.Is(err, context.DeadlineExceeded) != tt.timeout {
					t.Error(err)
				}
			})
		})
	}
}

// The caller's own end is no timeout: it keeps its cause, and no breaker counts it.
func TestHeadTimeoutAndTheCallersEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := httptestfault.NewInMemory(httptestfault.Responses(httptestfault.Response{Fault: httptestfault.Fault{Kind: httptestfault.Hang}}))
		defer server.Close()
		base := server.Transport()
		defer base.CloseIdleConnections()
		policy := quick()
		policy.Breaker = circuit.New("head", circuit.Config{})
		why := errors.New("the user has left")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(why) })
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		_, err = httpretry.NewTransport(base, httpretry.Options{Policy: policy, HeadTimeout: time.Minute}).RoundTrip(req)
		if !errors.Is(err, context.Canceled) || !errors.Is(err, why) || policy.Breaker.Metrics().Failures != 0 {
			t.Error(err, policy.Breaker.Metrics())
		}
	})
}

// SpoolTotal limits what all requests together keep: a body for which there is no room is sent once, and room that is free
// again is used.
func TestSpoolTotal(t *testing.T) {
	server := httptestfault.New(httptestfault.Responses(status(503)))
	defer server.Close()
	base := server.Transport()
	defer base.CloseIdleConnections()
	transport := httpretry.NewTransport(base, httpretry.Options{Policy: quick(), SpoolTotal: 150})
	put := func(n int) error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, server.URL, io.NopCloser(strings.NewReader(strings.Repeat("x", n))))
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = int64(n)
		res, err := transport.RoundTrip(req)
		if err != nil {
			return err
		}
		res.Body.Close()
		return httpretry.GaveUp(res)
	}
	for range 3 {
		servertest.Until(t, "there is room for a body again", func() bool { return errors.Is(put(100), retry.ErrExhausted) })
		before := len(server.Requests())
		if err := put(200); !errors.Is(err, httpretry.ErrBody) || len(server.Requests()) != before+1 {
			t.Errorf("%v after %d requests; want ErrBody after one", err, len(server.Requests())-before)
		}
	}
}
