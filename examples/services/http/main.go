// Command http reads stations from an HTTP API, with retries, a circuit breaker and a retry budget for the host. Its
// metrics are at /metrics of the address -admin, its spans in the log.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/examples/services/internal/service"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/retry"
)

func main() {
	api := flag.String("api", "http://127.0.0.1:8080", "`URL` of the stations")
	service.Main(func(ctx context.Context, t *service.Telemetry) error { return run(ctx, t, *api, 50, os.Stdout) })
}

// run prints the names of n stations.
func run(ctx context.Context, t *service.Telemetry, api string, n int, out io.Writer) error {
	// resilience: begin
	policy, breaker := retry.Service(), circuit.Service()
	policy.Name, policy.AttemptTimeout = "fetch_station", 2*time.Second
	policy.Metrics, policy.Observe = t.Registry, t.Observe
	client := &http.Client{Transport: httpretry.NewTransport(nil, httpretry.Options{Policy: &policy, Breakers: &breaker})}
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
