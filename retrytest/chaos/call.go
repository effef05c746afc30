package chaos

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"syscall"
	"time"
)

// An Error is the failure that a fault makes of a call. It unwraps to an error like the one that a real failure has:
// syscall.ECONNRESET, io.ErrUnexpectedEOF, or one with the methods HTTPStatusCode and RetryAfter. So retries and breakers
// treat both alike.
type Error struct {
	Fault Fault

	cause error
}

// Error returns the fault, and that it was injected.
func (e *Error) Error() string { return "chaos: injected " + e.Fault.String() }

// Unwrap returns the error that a real failure has.
func (e *Error) Unwrap() error { return e.cause }

// A statusError is a response with a status, for calls that are no requests.
type statusError struct {
	status int
	after  time.Duration
}

func (e *statusError) Error() string                     { return http.StatusText(e.status) }
func (e *statusError) HTTPStatusCode() int               { return e.status }
func (e *statusError) RetryAfter() (time.Duration, bool) { return e.after, e.after > 0 }

// fail returns the error of f.
func (f Fault) fail() error {
	switch f.Kind {
	case Status:
		return &Error{f, &statusError{f.Status, f.After}}
	case Hangup:
		return &Error{f, io.ErrUnexpectedEOF}
	default:
		return &Error{f, syscall.ECONNRESET}
	}
}

// begin waits for the delay of f. It returns the error of ctx if ctx ends first, or what is wrong with f.
func (f Fault) begin(ctx context.Context) error {
	if err := f.validate(); err != nil {
		return fmt.Errorf("chaos: Fault: %w", err)
	}
	if f.Kind == Hang {
		<-ctx.Done()
		return ctx.Err()
	}
	if f.Delay <= 0 {
		return nil
	}
	timer := time.NewTimer(f.Delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Call calls f with the fault: it returns the result of f, an [*Error], or the error of ctx if ctx ends during a delay.
// A Fault that is not valid is an error that names the field, the value and what is allowed, and f is not called.
func Call[T any](ctx context.Context, fault Fault, f func(context.Context) (T, error)) (v T, err error) {
	if err := fault.begin(ctx); err != nil {
		return v, err
	}
	if fault.Kind == None {
		return f(ctx)
	}
	if fault.Kind == Lost {
		if _, err := f(ctx); err != nil {
			return v, err
		}
	}
	return v, fault.fail()
}

// RoundTrip sends req by base with the fault. If base is nil, http.DefaultTransport is used. A Status is a response with
// the header Perdure-Chaos; other faults are an [*Error].
func (f Fault) RoundTrip(base http.RoundTripper, req *http.Request) (*http.Response, error) {
	if base == nil {
		base = http.DefaultTransport
	}
	err := f.begin(req.Context())
	if err == nil && (f.Kind == None || f.Kind == Lost) {
		res, err := base.RoundTrip(req)
		if err != nil || f.Kind == None {
			return res, err
		}
		res.Body.Close()
		return nil, f.fail()
	}
	if req.Body != nil {
		req.Body.Close() // as the RoundTripper must, whatever it returns
	}
	if err != nil {
		return nil, err
	}
	if f.Kind == Status {
		return f.response(req), nil
	}
	return nil, f.fail()
}
