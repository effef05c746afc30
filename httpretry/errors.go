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
	"github.com/seed-0f2c7998/perdure/httpretry/internal/shown"
	"github.com/seed-0f2c7998/perdure/httpretry/internal/upload"
	"github.com/seed-0f2c7998/perdure/internal/checksum"
	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/internal/unwrap"
	"github.com/seed-0f2c7998/perdure/internal/validator"
	"github.com/seed-0f2c7998/perdure/retry"
)

// ErrNotIdempotent is why a request that may have been processed is not retried, neither here nor by a [retry.Do] around
// the client: its method is not idempotent. See [Idempotent] for how to say that the request is.
var ErrNotIdempotent = errors.New("request may have been processed and is not idempotent")

// ErrBody is why a request whose body is gone is not repeated: its reader can be read once only (there is no GetBody,
// and no Seek that works), and more of it was read than Options.SpoolLimit allows to keep.
var ErrBody = upload.ErrGone

// The reasons why a body is not resumed, as BodyError.Stop. Test for them with [errors.Is].
var (
	// ErrNoValidator reports a response without a strong ETag, and without a Last-Modified old enough to identify its
	// representation: a later response can't be known to have the same bytes.
	ErrNoValidator = errors.New("response has no usable validator (strong ETag or Last-Modified)")
	// ErrChanged reports that the resource was replaced while its body was read.
	ErrChanged = validator.ErrChanged
	// ErrWrongRange reports that the server sent a different range than was requested.
	ErrWrongRange = errors.New("server returned a different range than requested")
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

// discard frees the connection of a response that nobody will read.
func (e *StatusError) discard() {
	if e.response != nil {
		discard(e.response.Body)
		e.response = nil
	}
}

// A ProxyError is the refusal of a proxy to connect to the server of an https URL. A [Transport] whose base is an
// http.Transport returns one, and so does any http.Transport that [ReportProxyErrors] was called for. What the status means:
//
//   - 408, 425, 429 and the statuses of a gateway that may pass (500, 502, 503, 504 ...) are retried as those of a server
//     are, after the wait that the proxy asks for. They are failures for the breaker: the server can't be reached.
//   - Any other (407, 403 ...) is not retried, and nothing for the breaker: it says nothing of the server.
type ProxyError struct {
	Proxy  string // URL of the proxy, without user and password
	Target string // host:port of the server
	Status int    // of the response to CONNECT

	wait time.Duration
	asks bool
}

// Error is like "proxy http://proxy:3128 refused to connect to example.org:443: 407 Proxy Authentication Required".
func (e *ProxyError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("proxy %s refused to connect to %s: %d %s", e.Proxy, e.Target, e.Status, http.StatusText(e.Status)))
}

// HTTPStatusCode returns Status.
func (e *ProxyError) HTTPStatusCode() int { return e.Status }

// RetryAfter returns the wait that the proxy asked for, and whether it did.
func (e *ProxyError) RetryAfter() (time.Duration, bool) { return e.wait, e.asks }

// ReportProxyErrors makes t return a [*ProxyError] when a proxy refuses to connect to a server. By itself t returns the
// text of the proxy's status line and nothing else, which looks like any other failure of a connection.
//
// The base of a [Transport] and the HTTP client of an aws.Config that package awsretry is applied to need no call: it is for an
// http.Transport within another RoundTripper, and for one that is used without this package.
//
// Call ReportProxyErrors before t is used. It sets t.OnProxyConnectResponse; a function that is already there is called first.
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
		e.wait, e.asks = RetryAfter(res.Header, time.Now())
		return e
	}
}

// A BodyError is a body that broke, and that could not be resumed. The caller has got Delivered bytes of it, all of
// them of one representation. [errors.Is] and [errors.As] see Break and Stop.
type BodyError struct {
	Delivered int64
	Break     error // what the connection said
	Stop      error // why there is no more: ErrNoValidator, ErrChanged, ErrWrongRange, a *retry.Error, a *StatusError ...
}

// Error tells all three.
func (e *BodyError) Error() string {
	return redact.Line(redact.String(fmt.Sprintf("body broke after %d bytes: %v; not resumed: %v", e.Delivered, e.Break, e.Stop)))
}

// Unwrap returns Stop and Break.
func (e *BodyError) Unwrap() []error { return []error{e.Stop, e.Break} }

// A DigestError is a body that has another digest than a header of its response says.
type DigestError struct {
	Header    string // such as Repr-Digest
	Algorithm string // such as sha-256
	Want, Got []byte
}

// Error tells header, algorithm and both digests, in base 64 as the headers have them.
func (e *DigestError) Error() string {
	return fmt.Sprintf("the body is corrupt: its %s is %s, but %s says %s", e.Algorithm,
		base64.StdEncoding.EncodeToString(e.Got), e.Header, base64.StdEncoding.EncodeToString(e.Want))
}

// Unwrap returns what package download has as its ErrChecksum.
func (e *DigestError) Unwrap() error { return checksum.ErrMismatch }

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

// A notRepeatable is a failure that is not retried, be it by a retry around the client, although its class may be one
// that is retried.
type notRepeatable struct {
	err       error            // of the attempt, marked as final
	why       error            // ErrNotIdempotent or ErrBody
	countedBy *circuit.Breaker // nil: it is not counted yet
}

func (e *notRepeatable) Error() string { return fmt.Sprintf("%v (not repeated: %v)", e.err, e.why) }

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
