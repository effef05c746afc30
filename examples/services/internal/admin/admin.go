// Package admin serves what a service shows to its operators, on an address of its own.
package admin

import (
	"net"
	"net/http"
	"time"

	"github.com/seed-0f2c7998/perdure/metrics"
)

// Serve serves the counts of r as /metrics until l is closed.
func Serve(l net.Listener, r *metrics.Registry) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", r)
	return (&http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}).Serve(l)
}
