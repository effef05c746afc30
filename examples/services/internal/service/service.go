// Package service runs the work of a program with its telemetry on: metrics, and a span with its retries.
package service

import (
	"context"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"go.opentelemetry.io/otel/sdk/trace"

	"github.com/seed-0f2c7998/perdure/metrics"
	"github.com/seed-0f2c7998/perdure/otelretry"
)

// Telemetry is what the work reports to. Its Observe and ObserveTransition report to the span in their context.
type Telemetry struct {
	*otelretry.Telemetry

	Registry *metrics.Registry // of the page /metrics
}

// Main runs the work of the program once, in a span, and then only serves /metrics, until SIGTERM or an interrupt ends
// either. It exits with the code 1 if the work fails. The program's flags must be defined before; Main adds -admin, and
// calls flag.Parse.
func Main(work func(context.Context, *Telemetry) error) {
	address := flag.String("admin", "127.0.0.1:9464", "`address` of /metrics")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *address, work); err != nil {
		log.Fatal(err) //nolint:gocritic // nothing is left to stop
	}
}

func run(ctx context.Context, address string, work func(context.Context, *Telemetry) error) error {
	provider := trace.NewTracerProvider(trace.WithSyncer(logger{}))
	t := &Telemetry{Registry: new(metrics.Registry)}
	var err error
	t.Telemetry, err = otelretry.New(otelretry.Options{TracerProvider: provider, Registry: t.Registry})
	if err != nil {
		return err
	}
	defer func() { _ = t.Close() }()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", t.Registry)
	admin := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = admin.Serve(listener) }()
	defer func() { _ = admin.Close() }()
	slog.InfoContext(ctx, "metrics", "url", fmt.Sprintf("http://%s/metrics", listener.Addr()))

	within, span := provider.Tracer("service").Start(ctx, filepath.Base(os.Args[0]))
	err = work(within, t)
	span.End()
	switch {
	case ctx.Err() != nil: // the work was told to stop
		return nil
	case err == nil:
		slog.InfoContext(ctx, "done")
		<-ctx.Done()
	}
	return err
}

// A logger writes each span to the log. A program that has a collector exports to that instead, by OTLP.
type logger struct{}

// ExportSpans implements trace.SpanExporter.
func (logger) ExportSpans(ctx context.Context, spans []trace.ReadOnlySpan) error {
	for _, s := range spans {
		slog.InfoContext(ctx, "span", "name", s.Name(), "took", s.EndTime().Sub(s.StartTime()), "events", len(s.Events()), "status", s.Status().Code)
	}
	return nil
}

// Shutdown implements trace.SpanExporter.
func (logger) Shutdown(context.Context) error { return nil }
