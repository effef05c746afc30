package httpretry

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry/internal/upload"
	"github.com/seed-0f2c7998/perdure/internal/checksum"
	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/internal/shown"
	"github.com/seed-0f2c7998/perdure/internal/unwrap"
	"github.com/seed-0f2c7998/perdure/internal/validator"
	"github.com/seed-0f2c7998/perdure/retry"
)

// ErrNotIdempotent reports that a request is not retried, neither here nor by a [retry.Do] around the client: the server may
// have processed it and its method is not idempotent. See [Idempotent] for how to declare a request idempotent.
var ErrNotIdempotent = errors.New("request may have been processed and is not idempotent")

// ErrBody reports that a request is not retried because its body cannot be sent again: the reader can be read only once (no
// GetBody, no Seek that works), and it is longer than Options.SpoolLimit.
var ErrBody = upload.ErrGone

// The reasons why a body is not resumed, as BodyError.Stop. Test for them with [errors.Is].
var (
	// ErrNoValidator reports a response without a strong ETag, and without a Last-Modified old enough to identify the
	// representation: a later response may have other bytes.
	ErrNoValidator = errors.New("response has no usable validator (strong ETag or Last-Modified)")
	// ErrChanged reports that the resource was replaced while its body was read.
	ErrChanged = validator.ErrChanged
	// ErrWrongRange reports that the server sent a different range than was requested.
	ErrWrongRange = errors.New("server returned a different range than requested")
)

// A StatusError is a failed response: its status is 400 or above, or Options.Classify gave it a class. A [retry.Policy] gets
// it as the attempt's error: RetryOn and IgnoreOn match the status, Classify may find the StatusError with [errors.As].
// It has no header and no body, because errors are logged.
type StatusError struct {
	Method string
	URL    string // without secrets
	Status int

	class    retry.Class   // from Options.Classify; may be ClassUnknown
	hint     time.Duration // the wait that the server asks for, if hasHint
	hasHint  bool
	response *http.Response // to be drained before a retry; nil afterwards
}

// Error is like "GET https://example.org/x: 503 Service Unavailable".
func (e *StatusError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s: %d %s", e.Method, e.URL, e.Status, http.StatusText(e.Status)))
}

// HTTPStatusCode returns Status.
func (e *StatusError) HTTPStatusCode() int { return e.Status }

// RetryAfter returns the wait that the server asked for, and whether it asked for one.
func (e *StatusError) RetryAfter() (time.Duration, bool) { return e.hint, e.hasHint }

func newStatusError(res *http.Response, req *http.Request) *StatusError {
	return &StatusError{Method: method(req), URL: shown.URL(req), Status: res.StatusCode, response: res}
}

// discard frees the connection of a response that is not delivered.
func (e *StatusError) discard() {
	if e.response != nil {
		discard(e.response.Body)
		e.response = nil
	}
}

// A ProxyError reports that a proxy refused to connect to the server of an https URL. A [Transport] whose base is an
// http.Transport returns it, and so does each http.Transport that [ReportProxyErrors] was called for. By its Status:
//
//   - 408, 425, 429 and temporary failures of a gateway (500, 502, 503, 504 ...) are retried as those of a server, after the
//     wait that the proxy asks for. For the breaker they are failures: the server cannot be reached.
//   - Other statuses (407, 403 ...) are not retried, and the breaker ignores them: the server did not fail.
type ProxyError struct {
	Proxy  string // URL of the proxy, without user and password
	Target string // host:port of the server
	Status int    // of the response to CONNECT

	hint    time.Duration
	hasHint bool
}

// Error is like "proxy http://proxy:3128 refused to connect to example.org:443: 407 Proxy Authentication Required".
func (e *ProxyError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("proxy %s refused to connect to %s: %d %s", e.Proxy, e.Target, e.Status, http.StatusText(e.Status)))
}

// HTTPStatusCode returns Status.
func (e *ProxyError) HTTPStatusCode() int { return e.Status }

// RetryAfter returns the wait that the proxy asked for, and whether it asked for one.
func (e *ProxyError) RetryAfter() (time.Duration, bool) { return e.hint, e.hasHint }

// ReportProxyErrors makes t return a [*ProxyError] when a proxy refuses to connect to a server. Without it, t returns the text
// of the proxy's status line only, which looks like any other connection failure.
//
// Call it for an http.Transport inside another RoundTripper, and for one that is used without this package. The base of a
// [Transport] and the HTTP client of an aws.Config with package awsretry need no call.
//
// Call ReportProxyErrors before the first use of t. It sets t.OnProxyConnectResponse; a function that is already set is called
// first.
func ReportProxyErrors(t *http.Transport) {
	before := t.OnProxyConnectResponse
	t.OnProxyConnectResponse = func(ctx context.Context, proxy *url.URL, req *http.Request, res *http.Response) error {
		if before != nil {
			if err := before(ctx, proxy, req, res); err != nil {
				return err
			}
		}
		if res.StatusCode == http.StatusOK {
			return nil
		}
		address := url.URL{Scheme: proxy.Scheme, Host: proxy.Host}
		e := &ProxyError{Proxy: address.String(), Target: req.Host, Status: res.StatusCode}
		e.hint, e.hasHint = RetryAfter(res.Header, time.Now())
		return e
	}
}

// A BodyError reports a body that broke and could not be resumed. [errors.Is] and [errors.As] see Break and Stop.
type BodyError struct {
	Delivered int64 // bytes that the caller has read, all of one representation
	Break     error // the connection's error
	Stop      error // why the body was not resumed: ErrNoValidator, ErrChanged, ErrWrongRange, a *retry.Error, a *StatusError ...
}

// Error is like "body broke after 7 bytes: unexpected EOF; not resumed: resource changed during transfer".
func (e *BodyError) Error() string {
	return redact.Line(redact.Message(fmt.Sprintf("body broke after %d bytes: %v; not resumed: %v", e.Delivered, e.Break, e.Stop)))
}

// Unwrap returns Stop and Break.
func (e *BodyError) Unwrap() []error { return []error{e.Stop, e.Break} }

// A DigestError reports a body whose digest differs from the digest in a header of the response.
type DigestError struct {
	Header    string // such as Repr-Digest
	Algorithm string // such as sha-256
	Want, Got []byte // the digest in the header, and that of the body
}

// Error names the header, the algorithm and both digests, in base 64 as in the header.
func (e *DigestError) Error() string {
	return fmt.Sprintf("the body is corrupt: its %s is %s, but %s says %s", e.Algorithm,
		base64.StdEncoding.EncodeToString(e.Got), e.Header, base64.StdEncoding.EncodeToString(e.Want))
}

// Unwrap returns the ErrChecksum of package download.
func (e *DigestError) Unwrap() error { return checksum.ErrMismatch }

// A LimitError reports a response with a part that is larger than this package accepts from any server.
type LimitError struct {
	What  string // the part, such as "response header"
	Limit int64  // the largest accepted size
	Unit  string // of Limit; "" means bytes
}

// Error is like "response header exceeds 1048576 bytes".
func (e *LimitError) Error() string {
	return fmt.Sprintf("%s exceeds %d %s", e.What, e.Limit, cmp.Or(e.Unit, "bytes"))
}

// A notRepeatable is a failure that must not be retried, not even by a retry around the client, although its class may be
// retried.
type notRepeatable struct {
	err       error            // of the attempt, marked as final
	why       error            // ErrNotIdempotent or ErrBody
	countedBy *circuit.Breaker // nil before the failure is counted
}

func (e *notRepeatable) Error() string { return fmt.Sprintf("%v (not repeated: %v)", e.err, e.why) }

func (e *notRepeatable) Unwrap() []error { return []error{e.err, e.why} }

// Breaker returns the breaker that has counted the failure: a retry around the client with the same breaker does not count again.
func (e *notRepeatable) Breaker() *circuit.Breaker { return e.countedBy }

// Timeout is for url.Error.Timeout.
func (e *notRepeatable) Timeout() bool {
	timeout, ok := unwrap.As[net.Error](e.err)
	return ok && timeout.Timeout()
}

// A requestError is a failure of the caller's request or its body: the breaker ignores it.
type requestError struct{ err error }

func (e *requestError) Error() string { return e.err.Error() }

func (e *requestError) Unwrap() error { return e.err }
