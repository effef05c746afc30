// Package httptestfault runs an HTTP server that fails as a script says, for tests of clients that must survive failures.
//
// The server is a real one on a real listener (or, for a testing/synctest bubble, on pipes in memory), and does what a broken
// network or server does: it resets connections, stalls, cuts bodies at a given byte, sends wrong ranges, responds before it has
// read the request. The server records the requests and counts the connections, so a test can check not only what the client
// returned but also what the client sent.
//
//	server := httptestfault.New(httptestfault.Responses(
//		httptestfault.Response{Status: 503, Header: http.Header{"Retry-After": {"1"}}},
//		httptestfault.Response{Body: page, Fault: httptestfault.CutBody(5)},
//		httptestfault.Response{Body: page},
//	))
//	defer server.Close()
//
// The terms are those of the S3 server s3test: a [Fault] is what happens to one request, a [Script] decides on each request,
// and Reset, Hangup, CutBody, ResetBody and StallBody have the same effect, with one difference: httptestfault reads the
// request before a Reset, unless the response is Unread. A server of httptestfault has no content of its own: a Script
// returns the whole [Response], which contains the Fault. There are no rules and no seeded faults.
package httptestfault

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// A Server responds by its script. Make one with [New], [NewInMemory] or [NewH2], and close it; the zero Server is not
// usable. All methods may be called at any time from any goroutine.
type Server struct {
	URL string // http://127.0.0.1:port, or http://in.memory

	listener net.Listener // nil in memory
	script   Script
	h2       bool
	serving  sync.WaitGroup // the accepting goroutine and one for each connection

	scriptMu sync.Mutex // held while script runs, so that it may keep state

	mu       sync.Mutex
	closed   bool
	conns    map[net.Conn]bool // open ones
	accepted int
	requests []Request
}

// A Request is a request as far as the server has read it.
type Request struct {
	Method string
	Target string // path and query, as in the request line
	Host   string
	Header http.Header
	Body   []byte    // as far as the server read it; nil if the response was Unread
	Conn   int       // the number of the connection, from 1
	At     time.Time // when the server had read the header
	Err    error     // why the server could not read the whole body; nil if it could
}

// New starts a server on a free port of 127.0.0.1. It panics if there is no free port, as httptest does.
func New(script Script) *Server {
	return start(script, false)
}

func start(script Script, h2 bool) *Server {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0") //nolint:forbidigo // as httptest: a server outlives the call that starts it
	if err != nil {
		panic(fmt.Sprintf("httptestfault: no port to listen on: %v", err))
	}
	s := &Server{URL: "http://" + listener.Addr().String(), listener: listener, script: script, h2: h2, conns: map[net.Conn]bool{}}
	s.serving.Go(s.accept)
	return s
}

// NewInMemory starts a server that is reached through [Server.Dial] only, over [net.Pipe]. In a testing/synctest
// bubble its goroutines block durably, so time can pass. A reset looks like an orderly close there.
func NewInMemory(script Script) *Server {
	return &Server{URL: "http://in.memory", script: script, conns: map[net.Conn]bool{}}
}

// Dial connects to the server, regardless of the address. It is for the DialContext field of an [http.Transport].
func (s *Server) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if s.listener != nil {
		address := s.listener.Addr()
		if s.isClosed() { // another server may have the port by now
			return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: address, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
		}
		return new(net.Dialer).DialContext(ctx, "tcp", address.String())
	}
	ours, theirs := net.Pipe()
	if !s.track(ours) {
		return nil, &net.OpError{Op: "dial", Net: "pipe", Err: errors.New("the server is closed")}
	}
	return theirs, nil
}

// Transport returns a new transport that connects to this server only. [Server.Close] ends its connections.
func (s *Server) Transport() *http.Transport {
	t := &http.Transport{DialContext: s.Dial}
	if s.h2 {
		t.Protocols = new(http.Protocols)
		t.Protocols.SetUnencryptedHTTP2(true)
	}
	return t
}

// Requests returns the requests since the start, in the order in which the server read them. Do not change their headers.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Connections returns how many connections clients have opened since the start, and how many of them are still open.
func (s *Server) Connections() (opened, open int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accepted, len(s.conns)
}

// Close ends every connection, stalled ones too, stops listening, and waits until all the server's goroutines have ended.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	for conn := range s.conns {
		conn.Close() // ends its goroutine
	}
	s.mu.Unlock()
	if s.listener != nil {
		s.listener.Close() // ends accept
	}
	s.serving.Wait()
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

func (s *Server) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return // closed
		}
		s.track(conn)
	}
}

// track serves conn, unless the server is closed.
func (s *Server) track(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		conn.Close()
		return false
	}
	s.accepted++
	s.conns[conn] = true
	number := s.accepted
	s.serving.Go(func() {
		if s.h2 {
			s.serveH2(conn, number)
		} else {
			s.serve(conn, number)
		}
		conn.Close()
		s.mu.Lock()
		delete(s.conns, conn)
		s.mu.Unlock()
	})
	return true
}

// serve responds to the requests on one connection until a response or the client ends it.
func (s *Server) serve(conn net.Conn, number int) {
	in := bufio.NewReader(conn)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			if !errors.Is(err, io.EOF) { // a client that does not speak HTTP
				_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n") // the client may have left
			}
			return
		}
		if !s.respond(conn, in, r, number) {
			return
		}
	}
}

// respond plays the script's response to r. It reports whether the connection stays open.
func (s *Server) respond(conn net.Conn, in *bufio.Reader, r *http.Request, number int) bool {
	body := r.Body
	index, res := s.next(r, number)
	res.Last = res.Last || res.Unread && r.ContentLength != 0
	w := writer{conn: conn, in: in, res: res}
	if res.Unread {
		return w.play(r)
	}
	if r.Header.Get("Expect") == "100-continue" && !w.write([]byte("HTTP/1.1 100 Continue\r\n\r\n")) {
		return false
	}
	content, err := io.ReadAll(body)
	s.mu.Lock()
	s.requests[index].Body, s.requests[index].Err = content, err
	s.mu.Unlock()
	return err == nil && w.play(r)
}

// next records a request (nil in HTTP/2), and returns its index and the script's response.
func (s *Server) next(r *http.Request, conn int) (index int, res Response) {
	record := Request{Conn: conn, At: time.Now()}
	if r != nil {
		record.Method, record.Target, record.Host, record.Header = r.Method, r.RequestURI, r.Host, r.Header.Clone()
	}
	s.mu.Lock()
	index = len(s.requests)
	s.requests = append(s.requests, record)
	s.mu.Unlock()
	s.scriptMu.Lock()
	defer s.scriptMu.Unlock()
	return index, s.script(index+1, r)
}
