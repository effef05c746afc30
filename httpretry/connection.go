package httpretry

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/seed-0f2c7998/perdure/httpretry/internal/idle"
)

// How far an attempt came. A base without httptrace leaves it unknown.
const (
	unknown    = iota
	connecting // waiting for a connection: the request has not left
	connected  // the request may have reached the server
	stale      // the connection was closed before anything was sent
)

const (
	// maxIdle is the maximum idle time of a connection for a request that is sent only once. Servers close idle connections
	// after 2 s or more; a request sent at that moment is lost.
	maxIdle = time.Second

	maxStale = 100 // the maximum number of connections closed for one request
)

// A progress records how far an attempt came.
type progress struct {
	came  atomic.Int32 // one of the values above
	stale int          // connections closed so far, in all attempts
}

// isStale reports whether the attempt ended because its connection was closed before anything was sent.
func (p *progress) isStale() bool { return p != nil && p.came.Load() == stale }

// watch returns a context that records whether the request leaves, and closes an idle connection that the server may be
// closing too.
func (op *operation) watch(ctx context.Context) context.Context {
	p, upload, plain := new(progress), op.upload, op.transport.plain
	if op.progress != nil {
		p.stale = op.progress.stale
	}
	op.progress = p
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { p.came.Store(connecting) }, // net/http takes another connection only if nothing has left
		GotConn: func(info httptrace.GotConnInfo) {
			if !info.WasIdle || p.stale >= maxStale || !isAlone(info.Conn, plain) || info.IdleTime <= maxIdle && !idle.Ended(info.Conn) {
				p.came.Store(connected)
				upload.Hold(false) // net/http may have retried by itself after the connection before
				return
			}
			p.stale++
			p.came.Store(stale)
			upload.Hold(true)
			info.Conn.Close()
		},
	})
}

// mayHaveLeft reports whether the last attempt may have reached the server.
func (op *operation) mayHaveLeft() bool {
	came := op.progress.came.Load()
	return came == unknown || came == connected
}

// isAlone reports whether conn carries one request at a time: HTTP/1.
func isAlone(conn net.Conn, plain bool) bool {
	if coded, ok := conn.(*tls.Conn); ok {
		return coded.ConnectionState().NegotiatedProtocol != "h2"
	}
	return plain
}

// isPlainHTTP1 reports whether base speaks HTTP/1 without TLS.
func isPlainHTTP1(base http.RoundTripper) bool {
	t, ok := base.(*http.Transport)
	return ok && (t.Protocols == nil || !t.Protocols.UnencryptedHTTP2())
}
