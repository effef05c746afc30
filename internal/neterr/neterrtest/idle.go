package neterrtest

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"testing"
)

// An IdleCloser is a transport that sends each request on an idle connection which the server closes at that moment. net/http
// repeats a GET by itself, and ends any other request with "http: server closed idle connection".
type IdleCloser struct {
	URL      string
	Requests atomic.Int64

	base   *http.Transport
	server sync.Map // the server's side of each connection, by the client's address
}

// An idleConn is a client's connection whose channel is closed with it.
type idleConn struct {
	net.Conn

	once   sync.Once
	closed chan struct{}
}

func (c *idleConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// NewIdleCloser returns an IdleCloser with a server that the end of t stops.
func NewIdleCloser(t *testing.T) *IdleCloser {
	t.Helper()
	c := new(IdleCloser)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ConnState = func(conn net.Conn, state http.ConnState) {
		if state == http.StateNew {
			c.server.Store(conn.RemoteAddr().String(), conn)
		}
	}
	server.Start()
	c.URL = server.URL
	c.base = &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &idleConn{Conn: conn, closed: make(chan struct{})}, nil
	}}
	t.Cleanup(server.Close)
	t.Cleanup(c.base.CloseIdleConnections)
	return c
}

// RoundTrip sends req on a connection that has already served a request.
func (c *IdleCloser) RoundTrip(req *http.Request) (*http.Response, error) {
	c.Requests.Add(1)
	for idle := false; !idle; { // net/http keeps no connection whose request it believes to be unsent after 50 ms
		ctx := httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{PutIdleConn: func(err error) { idle = err == nil }})
		first, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL, nil)
		if err != nil {
			return nil, err
		}
		res, err := c.base.RoundTrip(first)
		if err != nil {
			return nil, err
		}
		res.Body.Close()
	}
	ctx := httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{GotConn: c.got})
	return c.base.RoundTrip(req.WithContext(ctx))
}

// got closes the server's side of a connection, and waits until the client has closed its side.
func (c *IdleCloser) got(info httptrace.GotConnInfo) {
	stored, _ := c.server.Load(info.Conn.LocalAddr().String())
	server, ok := stored.(net.Conn)
	if mine, is := info.Conn.(*idleConn); ok && is && info.Reused {
		server.Close()
		<-mine.closed
	}
}
