// Command http is examples/services/http with failsafe-go. All hosts share a breaker, a POST is repeated as a GET is, a
// Retry-After that is a date is not read, broken bodies are not resumed, and there are no metrics.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/failsafehttp"
	"github.com/failsafe-go/failsafe-go/timeout"
)

func main() {
	api := flag.String("api", "http://127.0.0.1:8080", "`URL` of the stations")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *api, 100, os.Stdout); err != nil {
		log.Fatal(err) //nolint:gocritic // nothing is left to stop
	}
}

// run prints the names of n stations.
func run(ctx context.Context, api string, n int, out io.Writer) error {
	// resilience: begin
	//nolint:bodyclose // a builder has no body
	retries := failsafehttp.NewRetryPolicyBuilder().
		WithMaxAttempts(3).WithMaxDuration(30*time.Second).WithBackoff(50*time.Millisecond, 20*time.Second).WithJitterFactor(0.5).
		WithBudget(budget.New()).AbortOnErrors(circuitbreaker.ErrOpen).ReturnLastFailure().Build()
	//nolint:bodyclose // a builder has no body
	breaker := circuitbreaker.NewBuilder[*http.Response]().
		HandleIf(func(res *http.Response, err error) bool {
			return err != nil && !errors.Is(err, context.Canceled) ||
				res != nil && (res.StatusCode >= 500 || res.StatusCode == http.StatusTooManyRequests)
		}).
		WithFailureRateThreshold(0.5, 10, time.Second).WithDelay(500 * time.Millisecond).WithSuccessThreshold(3).Build()
	limit := timeout.New[*http.Response](2 * time.Second) //nolint:bodyclose // a policy has no body
	client := &http.Client{Transport: failsafehttp.NewRoundTripper(nil, retries, breaker, limit)}
	// resilience: end

	for id := range n {
		name, err := fetch(ctx, client, fmt.Sprintf("%s/stations/%d", api, id))
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(out, name); err != nil {
			return err
		}
	}
	return nil
}

func fetch(ctx context.Context, client *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("GET %s: %s", url, res.Status)
	}
	var station struct{ Name string }
	err = json.NewDecoder(res.Body).Decode(&station)
	return station.Name, err
}
