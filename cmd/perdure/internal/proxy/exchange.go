package proxy

import (
	"context"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
)

// An exchange is one request of a client with all its attempts.
type exchange struct {
	upstream *Upstream
	writer   *http.ResponseController
	client   *http.Request // the client's, before its body is wrapped
	target   *url.URL      // of the request to the upstream
	attempts atomic.Int32  // sent so far, resumptions included
	unsure   atomic.Int32  // attempts that failed although the upstream may have processed them
	broken   atomic.Bool   // the response's body has ended with an error
	unread   atomic.Bool   // the request's body has ended with an error: the upstream has not got all of it
	closes   bool          // only the end of the client's connection marks the end of the response's body
}

type exchangeKey struct{}

// exchangeOf returns the exchange of a request's context.
func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// Unsure reports whether the upstream may have processed an attempt of the request with this context.
func Unsure(ctx context.Context) bool {
	x := exchangeOf(ctx)
	return x != nil && x.unsure.Load() > 0
}

// A counter counts the attempts of each exchange.
type counter struct{ base http.RoundTripper }

// RoundTrip makes one attempt.
func (c counter) RoundTrip(req *http.Request) (*http.Response, error) {
	x := exchangeOf(req.Context())
	if x == nil {
		return c.base.RoundTrip(req)
	}
	x.attempts.Add(1)
	if isSafe(req.Method) { // whether it was processed makes no difference
		return c.base.RoundTrip(req)
	}
	var left atomic.Bool
	traced := httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		WroteHeaders: func() { left.Store(true) },
	})
	res, err := c.base.RoundTrip(req.WithContext(traced))
	if err != nil && left.Load() || err == nil && mayBeProcessed(res.StatusCode) {
		x.unsure.Add(1)
	}
	if res != nil {
		res.Request = req
	}
	return res, err
}

// CloseIdleConnections closes the idle connections of the base.
func (c counter) CloseIdleConnections() {
	if base, ok := c.base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

func isSafe(method string) bool {
	switch method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, "QUERY":
		return true
	}
	return false
}

// mayBeProcessed reports whether a server that sends that status may have processed the request: a gateway sends 502 or 504
// when it has lost the response of the server behind it.
func mayBeProcessed(status int) bool {
	return status >= 500 && status != http.StatusNotImplemented || status == http.StatusRequestTimeout
}

// settle corrects a response to a repeated request that an earlier attempt may have carried out: the client would not have
// had this response without the proxy.
func (x *exchange) settle(res *http.Response) error {
	earlier := x.unsure.Load()
	if mayBeProcessed(res.StatusCode) {
		earlier-- // this very attempt
	}
	if earlier <= 0 || isSafe(x.client.Method) {
		return nil
	}
	gone := res.StatusCode == http.StatusNotFound || res.StatusCode == http.StatusGone
	switch {
	case x.client.Method == http.MethodDelete && gone:
		res.Body.Close()
		res.StatusCode, res.Status = http.StatusNoContent, ""
		res.Body, res.ContentLength = http.NoBody, 0
		for _, name := range []string{"Content-Length", "Content-Type", "Content-Encoding", "Transfer-Encoding", "Trailer"} {
			res.Header.Del(name)
		}
		res.Header.Set(HeaderSettled, "deleted by an earlier attempt")
		return nil
	case res.StatusCode == http.StatusPreconditionFailed, res.StatusCode == http.StatusConflict, gone:
		return &Failure{
			Status: http.StatusGatewayTimeout, Code: "ambiguous", Ambiguous: true,
			Message: "the response of an earlier attempt was lost, and the next one met " + res.Status +
				": the request may have been processed. Look before you repeat it",
		}
	}
	return nil
}
