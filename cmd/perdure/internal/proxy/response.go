package proxy

import (
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/seed-0f2c7998/perdure/httpretry"
)

// Fields that the proxy adds to responses.
const (
	HeaderAttempts  = "Perdure-Attempts"   // attempts up to the head of the response
	HeaderAmbiguous = "Perdure-Ambiguous"  // true: an earlier attempt may have been processed
	HeaderSettled   = "Perdure-Settled"    // what an earlier attempt, whose response was lost, has done
	HeaderUnbounded = "Perdure-Unverified" // why a cut of the upstream's connection cannot be told from the end of the body
)

// clientStall is how long a client may take none of a response, or send none of a request.
const clientStall = 2 * time.Minute

// modify prepares a response for the client.
func (p *Proxy) modify(res *http.Response) error {
	x := exchangeOf(res.Request.Context())
	if x == nil {
		return nil
	}
	if res.StatusCode < http.StatusContinue {
		return &Failure{Status: http.StatusBadGateway, Code: "upstream_failed", Message: "the upstream's status is none of HTTP: " + res.Status}
	}
	dropOwn(res.Header)
	dropOwn(res.Trailer)
	settle := p.config.Settle
	if settle == nil {
		settle = x.settle
	}
	if err := settle(res); err != nil {
		return err
	}
	if err := x.attach(res); err != nil {
		return err
	}
	res.Header.Set(HeaderAttempts, strconv.Itoa(int(x.attempts.Load())))
	p.count(x, res.StatusCode)
	p.redirect(x.upstream, res.Header, x.target)
	return nil
}

// attach makes a responseBody the body of res, or returns why the client must not have res.
func (x *exchange) attach(res *http.Response) error {
	if res.StatusCode == http.StatusSwitchingProtocols || res.Body == nil || res.Body == http.NoBody || x.client.Method == http.MethodHead {
		return nil
	}
	if res.ContentLength == 0 { // there is no last byte to hold back, if a digest does not match
		if _, err := res.Body.Read(make([]byte, 1)); err != io.EOF {
			return err
		}
	}
	unbounded := httpretry.MayBeTruncated(res)
	if unbounded {
		// The client must see what the upstream sends: a body that ends with the connection, not the clean end of a chunked one.
		res.Header.Set("Transfer-Encoding", "identity")
		res.Header.Set(HeaderUnbounded, "only the end of the connection marks the end of the body")
	}
	x.closes = res.ContentLength < 0 && (unbounded || !x.client.ProtoAtLeast(1, 1))
	if x.closes && connOf(x.client.Context()) == nil {
		return &Failure{
			Status: http.StatusBadGateway, Code: "unverifiable",
			Message: "the end of the response cannot be told from a cut on this connection: use HTTP/1.1 over TCP",
		}
	}
	res.Body = &responseBody{ReadCloser: res.Body, exchange: x, response: res, holds: res.ContentLength > 0, left: -1}
	return nil
}

// A head is the ResponseWriter of an exchange. It treats informational responses of the upstream, such as 103, as modify does
// the final one.
type head struct {
	http.ResponseWriter

	proxy    *Proxy
	exchange *exchange
}

// Unwrap returns the server's ResponseWriter.
func (h *head) Unwrap() http.ResponseWriter { return h.ResponseWriter }

// WriteHeader writes the head of a response.
func (h *head) WriteHeader(status int) {
	header := h.Header()
	if status < http.StatusOK && status != http.StatusSwitchingProtocols {
		dropOwn(header)
		h.proxy.redirect(h.exchange.upstream, header, h.exchange.target)
	} else if _, ok := header["Content-Type"]; !ok {
		header["Content-Type"] = nil // the server guesses none for a response of the upstream that has none
	}
	h.ResponseWriter.WriteHeader(status)
}

// A responseBody is the body of a response for the client. If the response has a Content-Length, the last byte is held back
// until the body has ended well, so that a digest that does not match reaches the client as an incomplete response. Without a
// length an incomplete response has no end of its own.
type responseBody struct {
	io.ReadCloser

	exchange *exchange
	response *http.Response // its trailer is complete at the end of the body
	holds    bool
	held     [1]byte
	left     int // 0 or 1: whether a byte is held; -1 before the first
}

// Read reads the body, all but its last byte before its end.
func (b *responseBody) Read(p []byte) (int, error) {
	n, err := b.read(p)
	switch {
	case err == io.EOF: //nolint:errorlint // the body of httpretry ends with io.EOF itself
		dropOwn(b.response.Trailer)
	case err != nil:
		b.exchange.broken.Store(true)
	}
	_ = b.exchange.writer.SetWriteDeadline(time.Now().Add(clientStall))
	return n, err
}

func (b *responseBody) read(p []byte) (int, error) {
	if !b.holds || len(p) < 2 {
		return b.ReadCloser.Read(p)
	}
	kept := copy(p, b.held[:max(b.left, 0)])
	n, err := b.ReadCloser.Read(p[kept:])
	n += kept
	switch {
	case err == io.EOF:
		b.left = 0
		return n, err
	case err != nil:
		return 0, err
	case n == 0:
		return 0, nil
	}
	b.held[0], b.left = p[n-1], 1
	return n - 1, nil
}

// aborted makes sure that the client of a broken response notices: the panic of the ReverseProxy closes the connection
// without the end of the body, and where only the end of the connection marks that, it is reset.
func (p *Proxy) aborted(x *exchange) {
	cause := recover()
	if x.broken.Load() {
		p.counts.aborted.Add(1)
		p.config.Log.Warn("Response cut short: its body broke and could not be resumed", "event", "aborted", "method", x.client.Method)
		p.repeats.fail(x.client)
		if c := connOf(x.client.Context()); c != nil && x.closes {
			_ = c.SetLinger(0)
		}
	}
	if cause != nil {
		panic(cause)
	}
}

// A requestBody is the body of a client's request. A client that sends nothing for too long is given up.
type requestBody struct {
	io.ReadCloser

	exchange *exchange
}

// Read reads the body.
func (b *requestBody) Read(p []byte) (int, error) {
	_ = b.exchange.writer.SetReadDeadline(time.Now().Add(clientStall))
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == io.EOF: // the server keeps reading the connection, to see that the client has gone
		dropOwn(b.exchange.client.Trailer)
		_ = b.exchange.writer.SetReadDeadline(time.Time{})
	case err != nil: // the deadline stays: the server reads the rest of the body before it closes the connection
		b.exchange.unread.Store(true)
	}
	return n, err
}

// connOf returns the client's connection, or nil if it is not one of TCP.
func connOf(ctx interface{ Value(any) any }) *net.TCPConn {
	c, _ := ctx.Value(connKey{}).(*net.TCPConn)
	return c
}

type connKey struct{}
