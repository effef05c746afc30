// Package shown keeps what a request has that is secret out of the errors of clients.
package shown

import (
	"net"
	"net/http"
	"net/url"

	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/internal/unwrap"
)

// Error returns err with a text of one line without the secrets of req, and of the requests that were redirected to it: in
// the header, the user information and the query. net/http quotes what it can't read of a response, and a server may have
// sent back what it got. A [*url.Error] stays one.
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

// URL returns the address of req without its secrets.
func URL(req *http.Request) string { return redact.String(req.URL.String()) }

// secrets returns those of req and of the requests before it.
func secrets(req *http.Request) redact.Secrets {
	var found redact.Secrets
	for range 10 { // as many redirects as net/http follows
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

// A shownError is an error of a client whose text must not be shown as it is.
type shownError struct {
	err  error
	text string
}

func (e *shownError) Error() string { return e.text }
func (e *shownError) Unwrap() error { return e.err }
func (e *shownError) Replaces()     {} // as redact.Replaces asks

// Timeout makes url.Error.Timeout tell the truth.
func (e *shownError) Timeout() bool {
	timeout, ok := unwrap.As[net.Error](e.err)
	return ok && timeout.Timeout()
}
