// Command consumer is a program of a user of the library: the release check builds and runs it.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"sync/atomic"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/retry"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run needs three attempts of a function, then three of a request, and checks that it got them.
func run(ctx context.Context) error {
	policy := retry.Default()
	policy.Name = "consumer"
	policy.BaseDelay, policy.Jitter = time.Millisecond, retry.NoJitter
	policy.Breaker = circuit.New("consumer", circuit.Config{FailureThreshold: 5})

	calls := 0
	err := retry.Do(ctx, &policy, func(context.Context) error {
		if calls++; calls < 3 {
			return retry.Transient(errors.New("not yet"))
		}
		return nil
	})
	if err != nil || calls != 3 {
		return fmt.Errorf("retry.Do: %d calls, want 3: %w", calls, err)
	}

	var requests atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if requests.Add(1) < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
	if err != nil {
		return err
	}
	res, err := httpretry.Client(&policy).Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK || requests.Load() != 3 {
		return fmt.Errorf("httpretry: status %d after %d requests, want 200 after 3", res.StatusCode, requests.Load())
	}
	fmt.Println("3 calls, 3 requests, breaker", policy.Breaker.State())
	return nil
}
