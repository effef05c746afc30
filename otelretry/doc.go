// Package otelretry reports the events and metrics of retries and circuit breakers to
// OpenTelemetry.
package otelretry
