// Command http reads stations from an HTTP API, with retries, a circuit breaker and a retry budget for the host, metrics
// on the address -admin, and spans and metrics for OpenTelemetry.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/examples/services/internal/admin"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/metrics"
	"github.com/seed-0f2c7998/perdure/otelretry"
	"github.com/seed-0f2c7998/perdure/retry"
)

func main() {
	address := flag.String("admin", "127.0.0.1:9464", "`address` of /metrics")
	api := flag.String("api", "http://127.0.0.1:8080", "`URL` of the stations")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", *address)
	if err == nil {
		err = run(ctx, listener, *api, 100, os.Stdout)
	}
	if err != nil {
		log.Fatal(err) //nolint:gocritic // nothing is left to stop
	}
}

// run prints the names of n stations.
func run(ctx context.Context, listener net.Listener, api string, n int, out io.Writer) error {
	registry := new(metrics.Registry)
	go func() { _ = admin.Serve(listener, registry) }()
	telemetry, err := otelretry.New(otelretry.Options{Registry: registry})
	if err != nil {
		return err
	}
	defer func() { _ = telemetry.Close() }()

	// resilience: begin
	policy, breaker := retry.Service(), circuit.Service()
	policy.Name, policy.AttemptTimeout = "fetch_station", 2*time.Second
	policy.Metrics, policy.Observe = registry, telemetry.Observe
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
