package httpretry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry/internal/shown"
	"github.com/seed-0f2c7998/perdure/httpretry/internal/upload"
	"github.com/seed-0f2c7998/perdure/internal/neterr"
	"github.com/seed-0f2c7998/perdure/internal/unwrap"
	"github.com/seed-0f2c7998/perdure/internal/viaproxy"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A StatusError is a response whose status says that the request failed, 400 and above, or of which Options.Classify
// says so. It is what a [retry.Policy] sees of such a response: its RetryOn and IgnoreOn find the status by
// HTTPStatusCode, and its Classify may ask for it.
// It holds no header and no body, for it may end in a log.
type StatusError struct {
	Method string
	URL    string // without its secrets
	Status int

	class    retry.Class   // that Options.Classify gave; ClassUnknown: none
	wait     time.Duration // that the response asks for
	asks     bool
	response *http.Response // to be drained before a retry; nil once that is done
}

// Error is like "GET https://example.org/x: 503 Service Unavailable".
func (e *StatusError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s: %d %s", e.Method, e.URL, e.Status, http.StatusText(e.Status)))
}

// HTTPStatusCode returns Status.
func (e *StatusError) HTTPStatusCode() int { return e.Status }

// RetryAfter returns the wait that the response asked for, and whether it did.
func (e *StatusError) RetryAfter() (time.Duration, bool) { return e.wait, e.asks }

func newStatusError(res *http.Response, req *http.Request) *StatusError {
	return &StatusError{Method: method(req), URL: shown.URL(req), Status: res.StatusCode, response: res}
}

// A LimitError reports a response of which a part is larger than is accepted from any server.
type LimitError struct {
	What  string // such as "response header"
	Limit int64
	Unit  string // of Limit; "" means bytes
}

// Error is like "response header exceeds 1048576 bytes".
func (e *LimitError) Error() string {
	return fmt.Sprintf("%s exceeds %d %s", e.What, e.Limit, cmp.Or(e.Unit, "bytes"))
}

// How much of an unwanted response is read to keep its connection, and for how long: beyond that, another connection is
// the better bargain.
const (
	drainBytes = 64 << 10
	drainTime  = 50 * time.Millisecond
)

// discard frees the connection of a response that nobody will read.
func (e *StatusError) discard() {
	if e.response != nil {
		discard(e.response.Body)
		e.response = nil
	}
}

func discard(body io.ReadCloser) {
	timer := time.AfterFunc(drainTime, func() { body.Close() })
	defer timer.Stop()
	defer body.Close()
	_, _ = io.CopyN(io.Discard, body, drainBytes+1) // an error means that the connection is of no use, which Close sees too
}

// ErrNotIdempotent is why a request that may have been processed is not retried, neither here nor by a [retry.Do] around
// the client: its method is not idempotent. See [Idempotent] for how to say that the request is.
var ErrNotIdempotent = errors.New("request may have been processed and is not idempotent")

// ErrBody is why a request whose body is gone is not repeated: its reader can be read once only (there is no GetBody,
// and no Seek that works), and more of it was read than Options.SpoolLimit allows to keep.
var ErrBody = upload.ErrGone

// A notRepeatable is a failure that is not retried, be it by a retry around the client, although its class may be one
// that is retried.
type notRepeatable struct {
	err       error            // of the attempt, marked as final
	why       error            // ErrNotIdempotent or ErrBody
	countedBy *circuit.Breaker // nil: it is not counted yet
}

func (e *notRepeatable) Error() string   { return fmt.Sprintf("%v (not repeated: %v)", e.err, e.why) }
func (e *notRepeatable) Unwrap() []error { return []error{e.err, e.why} }

// Breaker returns the breaker that has counted the failure, for one around the client, which need not count it again.
func (e *notRepeatable) Breaker() *circuit.Breaker { return e.countedBy }

// Timeout makes url.Error.Timeout tell the truth.
func (e *notRepeatable) Timeout() bool {
	timeout, ok := unwrap.As[net.Error](e.err)
	return ok && timeout.Timeout()
}

// A requestError is what the caller's request or its body did wrong: it says nothing of the service.
type requestError struct{ err error }

func (e *requestError) Error() string { return e.err.Error() }
func (e *requestError) Unwrap() error { return e.err }

type idempotentKey struct{}

// Idempotent returns a context whose requests may be repeated whatever their method is: the caller promises that twice
// does no more than once.
func Idempotent(ctx context.Context) context.Context {
	return context.WithValue(ctx, idempotentKey{}, true)
}

// isIdempotent reports whether req may be repeated although it may have been processed.
func isIdempotent(req *http.Request) bool {
	switch req.Method {
	case "", "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY":
		return true
	}
	if req.Header.Get("Idempotency-Key") != "" || req.Header.Get("X-Idempotency-Key") != "" {
		return true
	}
	promised, _ := req.Context().Value(idempotentKey{}).(bool)
	return promised
}

func method(req *http.Request) string {
	if req.Method == "" {
		return http.MethodGet
	}
	return req.Method
}

// classOf returns what a transport's error means for an idempotent request that is well formed: whatever is not known
// to be there the next time may pass. ClassUnknown leaves statuses, timeouts and the caller's own end to package retry.
func classOf(err error) retry.Class {
	if status, ok := unwrap.As[*StatusError](err); ok {
		if status.Status == http.StatusProxyAuthRequired { // to an http URL; says nothing of the server
			return retry.ClassIgnored
		}
		return retry.ClassUnknown
	}
	if _, ok := unwrap.As[*retry.Error](err); ok {
		return retry.ClassUnknown
	}
	if proxy, ok := unwrap.As[*ProxyError](err); ok {
		return retry.Class(viaproxy.Class(proxy.Status))
	}
	switch {
	case is[*requestError](err):
		return retry.ClassIgnored
	case unwrap.Is(err, context.Canceled), unwrap.Is(err, context.DeadlineExceeded):
		return retry.ClassUnknown
	case neterr.IsPermanent(err), unwrap.Is(err, http.ErrSchemeMismatch), is[*LimitError](err):
		return retry.ClassPermanent
	}
	return retry.ClassTransient
}

func is[E error](err error) bool {
	_, ok := unwrap.As[E](err)
	return ok
}

// A streamError is the bundled http2.StreamError of net/http, which lets itself be had as any type with these fields.
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (e streamError) Error() string { return fmt.Sprintf("http2: stream error %d", e.Code) }

// isRefusedStream reports whether an HTTP/2 server has said that it has not looked at the request (RFC 9113, 8.7).
func isRefusedStream(err error) bool {
	const refusedStream = 7
	e, ok := unwrap.As[streamError](err)
	return ok && e.Code == refusedStream
}

// isMalformed reports whether no transport can send req, so that another attempt has no sense either.
func isMalformed(req *http.Request) bool {
	return req.URL == nil || req.Header == nil || req.URL.Host == "" ||
		req.URL.Scheme != "http" && req.URL.Scheme != "https" ||
		strings.ContainsFunc(req.Method, notToken) || hasBadField(req.Header) || hasBadField(req.Trailer)
}

func hasBadField(h http.Header) bool {
	for name, values := range h {
		if name == "" || strings.ContainsFunc(name, notToken) {
			return true
		}
		for _, value := range values {
			if strings.ContainsFunc(value, isControl) {
				return true
			}
		}
	}
	return false
}

// notToken reports whether r may not be in a token (RFC 9110, section 5.6.2).
func notToken(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
}

// isControl reports whether r may not be in the value of a field.
func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }
