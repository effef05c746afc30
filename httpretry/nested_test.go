package httpretry_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A request that must not be repeated is not repeated by a retry around the client either, and a breaker of both counts the
// failure once.
func TestNotRepeatedByRetriesAround(t *testing.T) {
	around := map[string]func(context.Context, *circuit.Breaker, func(context.Context) error) error{
		"retry.Do":    withPolicy(func(*retry.Policy) {}),
		"Always":      withPolicy(func(p *retry.Policy) { p.Classify = retry.Always }),
		"RetryNested": withPolicy(func(p *retry.Policy) { p.RetryNested = true }),
		"RetryOn":     withPolicy(func(p *retry.Policy) { p.RetryOn = []string{"5xx", "connection"} }),
		"Breaker.Do": func(ctx context.Context, b *circuit.Breaker, f func(context.Context) error) error {
			return b.Do(ctx, f)
		},
	}
	opaque := func() io.Reader { return io.MultiReader(strings.NewReader("data")) }
	for _, request := range []struct {
		name, method string
		step         httptestfault.Response
		upload       func() io.Reader
		why          error
	}{
		{"POST 503", http.MethodPost, status(503), nil, httpretry.ErrNotIdempotent},
		{"POST reset", http.MethodPost, httptestfault.Response{Fault: httptestfault.Reset()}, nil, httpretry.ErrNotIdempotent},
		{"PUT of a body that is gone", http.MethodPut, status(503), opaque, httpretry.ErrBody},
	} {
		for name, do := range around {
			t.Run(request.name+" in "+name, func(t *testing.T) {
				server := httptestfault.New(httptestfault.Responses(request.step))
				defer server.Close()
				base := server.Transport()
				defer base.CloseIdleConnections()
				policy := quick()
				policy.Breaker = circuit.New("b", circuit.Config{})
				client := &http.Client{Transport: httpretry.NewTransport(base, httpretry.Options{Policy: policy, BufferLimit: -1, SpoolLimit: -1})}
				err := do(t.Context(), policy.Breaker, func(ctx context.Context) error {
					var body io.Reader
					if request.upload != nil {
						body = request.upload()
					}
					req, err := http.NewRequestWithContext(ctx, request.method, server.URL, body)
					if err != nil {
						return err
					}
					res, err := client.Do(req)
					if err != nil {
						return err
					}
					defer res.Body.Close()
					return httpretry.GaveUp(res)
				})
				if n := len(server.Requests()); n != 1 || !errors.Is(err, request.why) {
					t.Errorf("%d requests, want 1: %v", n, err)
				}
				if n := policy.Breaker.Metrics().Failures; n != 1 {
					t.Errorf("%d failures counted, want 1", n)
				}
			})
		}
	}
}

// withPolicy returns a retry of three attempts with the given breaker.
func withPolicy(change func(*retry.Policy)) func(context.Context, *circuit.Breaker, func(context.Context) error) error {
	return func(ctx context.Context, b *circuit.Breaker, f func(context.Context) error) error {
		policy := quick()
		policy.Breaker = b
		change(policy)
		return retry.Do(ctx, policy, f)
	}
}
