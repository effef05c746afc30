// Package httptestfault is an HTTP server that fails as a script tells it to, for tests of code that has to survive it.
//
// It is a real server on a real listener (or, for a testing/synctest bubble, on pipes in memory), and what it does is
// what a broken network does: it resets connections, stalls, cuts bodies at a given byte, lies about ranges, answers
// before it has read. It records the requests and counts the connections, so that a test can say not only what the
// client returned but what it sent.
//
//	server := httptestfault.New(httptestfault.Steps(
//		httptestfault.Step{Status: 503, Header: http.Header{"Retry-After": {"1"}}},
//		httptestfault.Step{Body: []byte("at last")},
//	))
//	defer server.Close()
package httptestfault

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// A Server answers HTTP/1 requests by its script. Make one with [New] or [NewInMemory], and close it.
// All its methods may be called at any time from any goroutine.
type Server struct {
	URL string // http://127.0.0.1:port, or http://in.memory

	listener net.Listener // nil in memory
	script   Script
	serving  sync.WaitGroup // the accepting goroutine and one for each connection

	scriptMu sync.Mutex // held while script runs, so that it may keep state

	mu       sync.Mutex
	closed   bool
	conns    map[net.Conn]bool // open ones
	accepted int
	requests []Request
}

// A Request is what the server read of one request.
type Request struct {
	Method string
	Target string // path and query, as in the request line
	Host   string
	Header http.Header
	Body   []byte // as far as it was read; nil if the step was Unread
	Conn   int    // the connection it came on, 1 for the first
	At     time.Time
	Err    error // why the body could not be read to its end, if it couldn't
}

// New starts a server on a port of 127.0.0.1 that the system chooses. It panics if there is none, as httptest does.
func New(script Script) *Server {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0") //nolint:forbidigo // as httptest: a server outlives the call that starts it
	if err != nil {
		panic(fmt.Sprintf("httptestfault: no port to listen on: %v", err))
	}
	s := &Server{URL: "http://" + listener.Addr().String(), listener: listener, script: script, conns: map[net.Conn]bool{}}
	s.serving.Go(s.accept)
	return s
}

// NewInMemory starts a server that is reached through [Server.Dial] only, over [net.Pipe]. In a testing/synctest
// bubble its goroutines block durably, so time can pass; there, RST looks like FIN.
func NewInMemory(script Script) *Server {
	return &Server{URL: "http://in.memory", script: script, conns: map[net.Conn]bool{}}
}

// Dial connects to the server whatever the address is: it is made for the DialContext field of an [http.Transport].
func (s *Server) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if s.listener != nil {
		return new(net.Dialer).DialContext(ctx, "tcp", s.listener.Addr().String())
	}
	ours, theirs := net.Pipe()
	if !s.track(ours) {
		return nil, &net.OpError{Op: "dial", Net: "pipe", Err: errors.New("the server is closed")}
	}
	return theirs, nil
}

// Transport returns a new transport of which every connection leads to the server.
// [Server.Close] closes its connections' other ends.
func (s *Server) Transport() *http.Transport {
	return &http.Transport{DialContext: s.Dial}
}

// Requests returns the requests so far, in the order in which the server read them.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Connections returns how many connections were opened so far, and how many of them are open.
func (s *Server) Connections() (opened, open int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accepted, len(s.conns)
}

// Close ends every connection, stalled ones too, stops listening, and waits until all the server's goroutines are gone.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	for conn := range s.conns {
		conn.Close() // its goroutine sees this
	}
	s.mu.Unlock()
	if s.listener != nil {
		s.listener.Close() // so does the accepting one
	}
	s.serving.Wait()
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
	s.serving.Go(func() { s.serve(conn, number) })
	return true
}

// serve answers the requests on one connection until a step or the client ends it.
func (s *Server) serve(conn net.Conn, number int) {
	defer func() {
		conn.Close()
		s.mu.Lock()
		delete(s.conns, conn)
		s.mu.Unlock()
	}()
	in := bufio.NewReader(conn)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			if !errors.Is(err, io.EOF) { // it is there, but does not speak HTTP
				_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n") // nobody may be reading
			}
			return
		}
		if !s.answer(conn, in, r, number) {
			return
		}
	}
}

// answer plays the script's step for r. It reports whether the connection stays open.
func (s *Server) answer(conn net.Conn, in *bufio.Reader, r *http.Request, number int) bool {
	body := r.Body
	index := s.record(r, number)
	s.scriptMu.Lock()
	step := s.script(index+1, r)
	s.scriptMu.Unlock()
	step.Last = step.Last || step.Unread && r.ContentLength != 0
	w := writer{conn: conn, in: in, step: step}
	if step.Unread {
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

// record keeps r, and returns its index.
func (s *Server) record(r *http.Request, conn int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, Request{
		Method: r.Method, Target: r.RequestURI, Host: r.Host, Header: r.Header.Clone(), Conn: conn, At: time.Now(),
	})
	return len(s.requests) - 1
}
