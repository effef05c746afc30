// Package shown removes a request's secrets from the errors of clients.
package shown

import (
	"net"
	"net/http"
	"net/url"

	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/internal/unwrap"
)

// Error returns err with a text of one line and without the secrets in the header, the user information and the query of req
// and of the requests that were redirected to req. net/http quotes a malformed response, which may echo the request. A
// [*url.Error] remains a [*url.Error].
func Error(err error, req *http.Request) error {
	if e, ok := err.(*url.Error); ok { //nolint:errorlint // the outermost
		return &url.Error{Op: e.Op, URL: secrets(req).Redact(e.URL), Err: Error(e.Err, req)}
	}
	text := err.Error()
	if clean := redact.Line(secrets(req).Redact(text)); clean != text {
		return &shownError{err, clean}
	}
	return err
}

// URL returns the URL of req without secrets.
func URL(req *http.Request) string { return redact.String(req.URL.String()) }

// secrets returns the secrets of req and of the requests that were redirected to it.
func secrets(req *http.Request) redact.Secrets {
	var found redact.Secrets
	for range 10 { // net/http follows at most 10 redirects
		if found = found.Header(req.Header); req.URL != nil {
			found = found.URL(req.URL)
		}
		if req.Response == nil || req.Response.Request == nil {
			break
		}
		req = req.Response.Request
	}
	return found
}

// A shownError is a client's error with another text.
type shownError struct {
	err  error
	text string
}

func (e *shownError) Error() string { return e.text }
func (e *shownError) Unwrap() error { return e.err }
func (e *shownError) Replaces()     {} // as redact.Replaces asks

// Timeout is for url.Error.Timeout.
func (e *shownError) Timeout() bool {
	timeout, ok := unwrap.As[net.Error](e.err)
	return ok && timeout.Timeout()
}
