// Command workers looks up prices with 1,000 goroutines. The service gets at most 100 calls at a time and 2,000 in a second;
// a slow call is made a second time, a failed one is retried, and while the service is down the list price counts. Its
// metrics are at /metrics of the address -admin, its spans in the log.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/examples/services/internal/service"
	"github.com/seed-0f2c7998/perdure/fallback"
	"github.com/seed-0f2c7998/perdure/hedge"
	"github.com/seed-0f2c7998/perdure/retry"
)

// listPrice is the price of an item while the service is down.
const listPrice = 99

func main() {
	api := flag.String("api", "http://127.0.0.1:8080", "`URL` of the prices")
	service.Main(func(ctx context.Context, t *service.Telemetry) error {
		r, err := run(ctx, t, *api, 1000)
		fmt.Printf("sum %d, %d list prices\n", r.sum, r.replaced)
		return err
	})
}

// A result is what the workers have found.
type result struct{ sum, replaced int64 }

// run starts the workers, of which each looks up one price.
func run(ctx context.Context, t *service.Telemetry, api string, workers int) (result, error) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}

	// resilience: begin
	limits := circuit.Service()
	limits.Gate, limits.Concurrency, limits.Rate, limits.Burst = circuit.FailFast, 100, 2000, 100
	policy := retry.Service()
	policy.Name, policy.Metrics, policy.Observe = "price", t.Registry, t.Observe
	policy.Breaker = circuit.New("prices", limits)
	slow := hedge.Hedge[int64]{Name: "price", Metrics: t.Registry}
	lookup := func(ctx context.Context, item int) (int64, error, error) {
		return fallback.Replaced(ctx, nil, func(ctx context.Context) (int64, error) {
			return retry.Value(ctx, &policy, func(ctx context.Context) (int64, error) {
				return hedge.Value(ctx, &slow, func(ctx context.Context) (int64, error) {
					return price(ctx, client, api, item)
				})
			})
		}, func(context.Context, error) (int64, error) { return listPrice, nil })
	}
	// resilience: end

	var all errgroup.Group
	var sum, replaced atomic.Int64
	for item := range workers {
		all.Go(func() error {
			price, old, err := lookup(ctx, item)
			if old != nil {
				replaced.Add(1)
			}
			sum.Add(price)
			return err
		})
	}
	err := all.Wait()
	return result{sum.Load(), replaced.Load()}, err
}

// A statusError is a response that is not a price. Package retry knows its class by the method.
type statusError int

func (e statusError) Error() string       { return http.StatusText(int(e)) }
func (e statusError) HTTPStatusCode() int { return int(e) }

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
