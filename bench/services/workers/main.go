// Command workers is examples/services/workers with failsafe-go. There are no metrics.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/fallback"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"golang.org/x/sync/errgroup"
)

// listPrice is the price of an item while the service is down.
const listPrice = 99

func main() {
	api := flag.String("api", "http://127.0.0.1:8080", "`URL` of the prices")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	r, err := run(ctx, *api, 1000)
	if err != nil {
		log.Fatal(err) //nolint:gocritic // nothing is left to stop
	}
	log.Printf("sum %d, %d list prices", r.sum, r.replaced)
}

// A result is what the workers have found.
type result struct{ sum, replaced int64 }

// run starts the workers, of which each looks up one price.
func run(ctx context.Context, api string, workers int) (result, error) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}

	// resilience: begin
	failed := func(_ int64, err error) bool {
		if s, ok := errors.AsType[statusError](err); ok {
			return s >= 500 || s == http.StatusTooManyRequests
		}
		return err != nil && !errors.Is(err, context.Canceled)
	}
	var replaced atomic.Int64
	instead := fallback.NewBuilderWithFunc(func(failsafe.Execution[int64]) (int64, error) {
		replaced.Add(1)
		return listPrice, nil
	}).HandleIf(failed).Build()
	retries := retrypolicy.NewBuilder[int64]().HandleIf(failed).
		WithMaxAttempts(3).WithMaxDuration(30*time.Second).WithBackoff(50*time.Millisecond, 20*time.Second).WithJitterFactor(0.5).
		WithBudget(budget.New()).AbortOnErrors(circuitbreaker.ErrOpen).ReturnLastFailure().Build()
	breaker := circuitbreaker.NewBuilder[int64]().HandleIf(failed).
		WithFailureRateThreshold(0.5, 10, time.Second).WithDelay(500 * time.Millisecond).WithSuccessThreshold(3).Build()
	places := bulkhead.NewBuilder[int64](100).WithMaxWaitTime(30 * time.Second).Build()
	rate := ratelimiter.NewSmoothBuilder[int64](2000, time.Second).WithMaxWaitTime(30 * time.Second).Build()
	slow := hedgepolicy.NewBuilderWithDelayQuantile[int64](0.95, 256, 20).WithBudget(budget.New()).CancelIf(func(_ int64, err error) bool { return err == nil }).Build()
	executor := failsafe.With(instead, retries, places, rate, breaker, slow)
	lookup := func(ctx context.Context, item int) (int64, error) {
		return executor.WithContext(ctx).GetWithExecution(func(e failsafe.Execution[int64]) (int64, error) {
			return price(e.Context(), client, api, item)
		})
	}
	// resilience: end

	var all errgroup.Group
	var sum atomic.Int64
	for item := range workers {
		all.Go(func() error {
			price, err := lookup(ctx, item)
			sum.Add(price)
			return err
		})
	}
	err := all.Wait()
	return result{sum.Load(), replaced.Load()}, err
}

// A statusError is a response that is not a price.
type statusError int

func (e statusError) Error() string { return http.StatusText(int(e)) }

func price(ctx context.Context, client *http.Client, api string, item int) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/prices/%d", api, item), nil)
	if err != nil {
		return 0, err
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return 0, statusError(res.StatusCode)
	}
	var p struct{ Price int64 }
	err = json.NewDecoder(res.Body).Decode(&p)
	return p.Price, err
}
