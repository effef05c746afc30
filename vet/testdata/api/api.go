// Package api is what another package retries.
package api

import (
	"context"
	"net/http"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/retry"
)

// Shared retries.
var Shared = New()

// An API has a client that retries.
type API struct{ HTTP *http.Client }

// New returns a client that retries.
func New() *http.Client {
	c := httpretry.Client(nil)
	return c
}

// Plain returns a client that does not.
func Plain() *http.Client { return &http.Client{} }

// Open returns an API.
func Open() *API { return &API{HTTP: New()} }

// Get retries by the client.
func (a *API) Get(req *http.Request) error { return a.send(req) }

func (a *API) send(req *http.Request) error {
	_, err := a.HTTP.Do(req)
	return err
}

// Once marks its error as one that no caller must retry.
func (a *API) Once(req *http.Request) error { return retry.Permanent(a.send(req)) }

// Later starts what retries.
func Later(ctx context.Context, p *retry.Policy, f func(context.Context) error) func() error {
	go retry.Do(ctx, p, f)
	return func() error { return retry.Do(ctx, p, f) }
}

// Generic retries.
func Generic[T any](ctx context.Context, p *retry.Policy, f func(context.Context) (T, error)) (T, error) {
	return retry.Value(ctx, p, f)
}
