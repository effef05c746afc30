package objects_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/seed-0f2c7998/perdure/awsretry"
	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/hoststore"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A service is an HTTP service that is up or down, as a transport.
type service struct {
	down     bool
	requests int
}

func (s *service) RoundTrip(r *http.Request) (*http.Response, error) {
	s.requests++
	status := http.StatusOK
	if s.down {
		status = http.StatusServiceUnavailable
	}
	return &http.Response{
		StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Etag": {`"v1"`}, "Content-Length": {"0"}}, Body: io.NopCloser(strings.NewReader("")),
	}, nil
}

// policyOf returns a policy of one attempt, so that a failed operation is one failure.
func policyOf(b *circuit.Breaker) *retry.Policy {
	return &retry.Policy{MaxAttempts: 1, Breaker: b, Observe: func(context.Context, retry.Event) {}}
}

// outside returns the layers that can be around another call.
func outside() map[string]func(context.Context, *circuit.Breaker, func(context.Context) error) error {
	return map[string]func(context.Context, *circuit.Breaker, func(context.Context) error) error{
		"retry.Do": func(ctx context.Context, b *circuit.Breaker, f func(context.Context) error) error {
			return retry.Do(ctx, policyOf(b), f)
		},
		"Breaker.Do": func(ctx context.Context, b *circuit.Breaker, f func(context.Context) error) error {
			return b.Do(ctx, f)
		},
		"circuit.Do": func(ctx context.Context, b *circuit.Breaker, f func(context.Context) error) error {
			_, err := circuit.Do(ctx, b, func(ctx context.Context) (int, error) { return 0, f(ctx) })
			return err
		},
	}
}

// get returns a GET by that transport, which returns the error that its user sees.
func get(transport http.RoundTripper) func(context.Context) error {
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://service.test/x", nil)
		if err != nil {
			return err
		}
		res, err := (&http.Client{Transport: transport}).Do(req)
		if err != nil {
			return err
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if res.StatusCode >= 400 {
			return errors.New("status " + res.Status) // of the step's own making
		}
		return nil
	}
}

// inside returns the layers that make the call to s, each with the breaker.
func inside(t *testing.T, b *circuit.Breaker, s *service) map[string]func(context.Context) error {
	t.Helper()
	bare := func(context.Context) error {
		if s.requests++; s.down {
			return errors.New("the service is down")
		}
		return nil
	}
	client := httpretry.NewTransport(s, httpretry.Options{Policy: policyOf(b)})
	cfg := aws.Config{
		Region: region, BaseEndpoint: aws.String("http://service.test"), HTTPClient: &http.Client{Transport: s},
		Credentials: credentials.NewStaticCredentialsProvider("access", "secret", ""),
	}
	store, err := objects.New(cfg, objects.Options{Policy: policyOf(b)})
	if err != nil {
		t.Fatal(err)
	}
	head := func(httpClient aws.HTTPClient) func(context.Context) error {
		own := cfg.Copy()
		own.HTTPClient = httpClient
		awsretry.Apply(&own, policyOf(b))
		api := s3.NewFromConfig(own, func(o *s3.Options) { o.UsePathStyle = true })
		return func(ctx context.Context) error {
			_, err := api.HeadObject(ctx, &s3.HeadObjectInput{Bucket: aws.String(bucket), Key: aws.String("k")})
			return err
		}
	}
	layers := map[string]func(context.Context) error{
		"httpretry":                get(client),
		"httpretry over httpretry": get(httpretry.NewTransport(client, httpretry.Options{Policy: policyOf(b)})),
		"awsretry":                 head(cfg.HTTPClient),
		"awsretry over httpretry":  head(&http.Client{Transport: client}),
		"objects":                  func(ctx context.Context) error { _, err := store.Stat(ctx, bucket, "k"); return err },
	}
	for name, do := range outside() {
		layers[name] = func(ctx context.Context) error { return do(ctx, b, bare) }
	}
	return layers
}

// ends returns what the step between two layers may make of the inner error.
func ends() map[string]func(error) error {
	return map[string]func(error) error{
		"its error": func(err error) error { return err },
		"wrapped":   func(err error) error { return wrapped(err) },
		"its own": func(err error) error {
			if err != nil {
				return errors.New("the step failed")
			}
			return nil
		},
		"permanent": func(err error) error { return retry.Permanent(err) },
		"swallowed": func(error) error { return nil },
	}
}

func wrapped(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("step: %w", err)
}

// Every pair of layers with one breaker, or with two on one cell, counts a failed operation once, except perhaps the
// first; acquires one permit, so that a probe passes both; and recovers with the first call. They used to refuse each
// other, or to stay closed, for ever.
func TestNestedLayers(t *testing.T) {
	quiet := circuit.Config{RecoveryTimeout: time.Minute, Observe: func(context.Context, circuit.Transition) {}}
	n, dir := 0, t.TempDir()
	for cells, pair := range map[string]func(t *testing.T) (outer, inner *circuit.Breaker){
		"one breaker": func(*testing.T) (outer, inner *circuit.Breaker) {
			b := circuit.New("service", quiet)
			return b, b
		},
		"two in one memory": func(*testing.T) (outer, inner *circuit.Breaker) {
			c := quiet
			c.Store = new(circuit.Memory)
			return circuit.New("service", c), circuit.New("service", c)
		},
		"two on one host file": func(t *testing.T) (outer, inner *circuit.Breaker) {
			t.Helper()
			on := func(key string) *circuit.Breaker {
				store, c := hoststore.Open(dir), quiet
				t.Cleanup(store.Close)
				c.Store = store
				return circuit.New(key, c)
			}
			key := fmt.Sprint("service ", n)
			return on(key), on(key)
		},
	} {
		for outer, do := range outside() {
			for inner := range inside(t, nil, new(service)) {
				for how, end := range ends() {
					n++
					synctest.Test(t, func(t *testing.T) {
						a, b := pair(t)
						s := &service{down: true}
						call := inside(t, b, s)[inner]
						try := func(ctx context.Context) error {
							return do(ctx, a, func(ctx context.Context) error { return end(call(ctx)) })
						}
						nest{t, fmt.Sprintf("%s, %s around %s, %s", cells, outer, inner, how), a, s, try}.check()
					})
				}
			}
		}
	}
}

type nest struct {
	t       *testing.T
	name    string
	breaker *circuit.Breaker
	service *service
	try     func(context.Context) error
}

func (n nest) check() {
	operations := 0
	for n.breaker.State() == circuit.Closed && operations < 40 {
		operations++
		_ = n.try(n.t.Context())
	}
	least := 4
	if strings.Contains(n.name, " over ") { // a third layer's first failure counts once more
		least = 3
	}
	if operations < least || operations > 5 {
		n.t.Errorf("%s: open after %d operations that fail", n.name, operations)
		return
	}
	made := n.service.requests
	for range 3 {
		<-time.After(time.Minute)
		_ = n.try(n.t.Context()) // a probe that fails
		if made++; n.breaker.State() != circuit.Open || n.service.requests != made {
			n.t.Errorf("%s: after a probe that fails it is %v, and %d requests came, want %d", n.name, n.breaker.State(), n.service.requests, made)
			return
		}
	}
	n.service.down = false
	<-time.After(time.Minute)
	for i := range 3 {
		err := n.try(n.t.Context())
		if err != nil || n.breaker.State() != circuit.Closed || n.breaker.Metrics().Failures != 0 {
			n.t.Errorf("%s: call %d after recovery: %v, the breaker is %v", n.name, i+1, err, n.breaker.State())
			return
		}
	}
}

// A step that fails on a good response is a failure: the success of the inner layer does not hide it.
func TestInnerSuccessHidesNoOuterFailure(t *testing.T) {
	for outer, do := range outside() {
		for inner := range inside(t, nil, new(service)) {
			synctest.Test(t, func(t *testing.T) {
				b := circuit.New("service", circuit.Config{Observe: func(context.Context, circuit.Transition) {}})
				call := inside(t, b, new(service))[inner]
				operations := 0
				for b.State() == circuit.Closed && operations < 40 {
					operations++
					_ = do(t.Context(), b, func(ctx context.Context) error {
						if err := call(ctx); err != nil {
							t.Error(err)
						}
						return errors.New("the response is empty")
					})
				}
				if operations != 5 {
					t.Errorf("%s around %s: open after %d operations", outer, inner, operations)
				}
			})
		}
	}
}

// Each of many inner calls of one layer counts, and their successes are not delayed.
func TestManyCallsWithinOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := circuit.New("service", circuit.Config{Observe: func(context.Context, circuit.Transition) {}})
		s := new(service)
		call := get(httpretry.NewTransport(s, httpretry.Options{Policy: policyOf(b)}))
		b.RecordFailure() // not in full health
		err := retry.Do(t.Context(), policyOf(b), func(ctx context.Context) error {
			for range 30 { // never two failures in a row
				s.down = !s.down
				_ = call(ctx)
			}
			if b.State() != circuit.Closed {
				t.Error("failures that are not in a row open it")
			}
			for s.down = true; b.State() == circuit.Closed; {
				_ = call(ctx)
			}
			before := s.requests
			if _ = call(ctx); s.requests != before {
				t.Error("a request passes an open breaker")
			}
			return nil
		})
		if err != nil || b.State() != circuit.Open {
			t.Errorf("%v, and the breaker is %v", err, b.State())
		}
	})
}
