package httpretry

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

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
