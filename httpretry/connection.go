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

// How far an attempt came. A base that does not report it may have sent the request.
const (
	unknown    = iota
	connecting // a connection is looked for: nothing has left
	connected  // from here on the request may have reached the server
	stale      // the connection was given up before anything was sent
)

const (
	// maxIdle is how long a connection may have been idle for a request that is sent once. Servers close idle connections
	// after 2 s and more; a request that meets the end of its connection on the way is lost.
	maxIdle = time.Second

	maxStale = 100 // connections that are given up for one request
)

// A progress is how far an attempt came.
type progress struct {
	came  atomic.Int32 // one of the values above
	stale int          // connections given up so far, in all attempts
}

// isStale reports whether the attempt ended because its connection was given up, before anything was sent.
func (p *progress) isStale() bool { return p != nil && p.came.Load() == stale }

// watch returns a context that finds out whether the request leaves, and gives up the connection for which another is
// the better one.
func (e *operation) watch(ctx context.Context) context.Context {
	p, upload, plain := new(progress), e.upload, e.transport.plain
	if e.progress != nil {
		p.stale = e.progress.stale
	}
	e.progress = p
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { p.came.Store(connecting) }, // net/http comes back for another only if nothing has left
		GotConn: func(info httptrace.GotConnInfo) {
			if !info.WasIdle || p.stale >= maxStale || !isAlone(info.Conn, plain) || info.IdleTime <= maxIdle && !idle.Ended(info.Conn) {
				p.came.Store(connected)
				upload.Hold(false) // net/http may come here by itself after the connection before
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
func (e *operation) mayHaveLeft() bool {
	came := e.progress.came.Load()
	return came == unknown || came == connected
}

// isAlone reports whether one request at a time has conn, which is not HTTP/2.
func isAlone(conn net.Conn, plain bool) bool {
	if coded, ok := conn.(*tls.Conn); ok {
		return coded.ConnectionState().NegotiatedProtocol != "h2"
	}
	return plain
}

// isPlainHTTP1 reports whether what base sends without TLS is HTTP/1.
func isPlainHTTP1(base http.RoundTripper) bool {
	t, ok := base.(*http.Transport)
	return ok && (t.Protocols == nil || !t.Protocols.UnencryptedHTTP2())
}
