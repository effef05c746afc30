package request

import (
	"errors"
	"net"
	"net/http"
)

// Base returns next without the secrets of r in its errors: net/http quotes a malformed response, which may repeat a request.
// It is for the transport that sends each attempt, so that no event has them either.
func (r *Request) Base(next http.RoundTripper) http.RoundTripper {
	if r.Header == nil && r.Body == nil {
		return next // package httpretry knows the fields of a user and of cookies
	}
	return quiet{r, next}
}

type quiet struct {
	request *Request
	next    http.RoundTripper
}

func (t quiet) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := t.next.RoundTrip(req)
	if err == nil {
		return res, nil
	}
	if text := t.request.secrets(req).Redact(err.Error()); text != err.Error() {
		err = &quietError{err, text}
	}
	return res, err
}

// A quietError is an error with another text.
type quietError struct {
	err  error
	text string
}

func (e *quietError) Error() string { return e.text }

// Unwrap returns the error.
func (e *quietError) Unwrap() error { return e.err }

// Replaces says that the texts of the errors within must not be shown, as package redact asks.
func (e *quietError) Replaces() {}

// Timeout is for url.Error.Timeout.
func (e *quietError) Timeout() bool {
	timeout, ok := errors.AsType[net.Error](e.err)
	return ok && timeout.Timeout()
}
