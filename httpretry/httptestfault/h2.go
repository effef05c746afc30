package httptestfault

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
)

// An H2Step is what an [H2Server] does with one request. The zero H2Step is an empty 200.
type H2Step struct {
	Status int         // 0 means 200
	Header http.Header // of the answer
	Body   []byte      // less than 64 KiB, before any cut
	Cut    H2Cut
	At     int // bytes of the body to send before Cut; BeforeHead: not even the headers
}

// An H2Cut is a way to break off in HTTP/2.
type H2Cut uint8

// The cuts.
const (
	H2None    H2Cut = iota
	H2Refused       // RST_STREAM with REFUSED_STREAM: the request was not looked at
	H2Failed        // RST_STREAM with INTERNAL_ERROR
	H2GoAway        // GOAWAY with the number of the stream before: the request was not looked at, nor will any other here
	H2Close         // the connection ends
)

// An H2Server is an HTTP/2 server without TLS that does what net/http's own never would: it refuses streams, and goes
// away from requests that it has not read. It counts requests but does not decode them. A client reaches it by prior
// knowledge: see [H2Server.Transport]. Make one with [NewH2], and close it.
type H2Server struct {
	URL string

	listener net.Listener
	script   func(n int) H2Step
	serving  sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	conns    map[net.Conn]bool
	requests int
	opened   int
}

// NewH2 starts a server that answers its nth request, the first being 1, by script(n); that is called by one goroutine
// at a time. It panics if there is no port to listen on.
func NewH2(script func(n int) H2Step) *H2Server {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0") //nolint:forbidigo // as New
	if err != nil {
		panic(fmt.Sprintf("httptestfault: no port to listen on: %v", err))
	}
	s := &H2Server{URL: "http://" + listener.Addr().String(), listener: listener, script: script, conns: map[net.Conn]bool{}}
	s.serving.Go(s.accept)
	return s
}

// Transport returns a new transport that speaks HTTP/2 only, without TLS.
func (s *H2Server) Transport() *http.Transport {
	t := &http.Transport{Protocols: new(http.Protocols)}
	t.Protocols.SetUnencryptedHTTP2(true)
	return t
}

// Requests returns how many requests have come so far, and on how many connections.
func (s *H2Server) Requests() (requests, connections int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests, s.opened
}

// Close ends every connection and waits until all the server's goroutines are gone.
func (s *H2Server) Close() {
	s.mu.Lock()
	s.closed = true
	for conn := range s.conns {
		conn.Close()
	}
	s.mu.Unlock()
	s.listener.Close()
	s.serving.Wait()
}

func (s *H2Server) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return // closed
		}
		s.mu.Lock()
		if s.closed {
			conn.Close()
		}
		s.conns[conn] = true
		s.opened++
		s.mu.Unlock()
		s.serving.Go(func() { s.serve(conn) })
	}
}

// The frames of RFC 9113, section 6, that are used here.
const (
	frameData      = 0
	frameHeaders   = 1
	frameReset     = 3
	frameSettings  = 4
	framePing      = 6
	frameGoAway    = 7
	flagEndStream  = 1 // of data and headers
	flagAck        = 1 // of settings and pings
	flagEndHeaders = 4
)

// serve reads frames until the client or a step ends the connection.
func (s *H2Server) serve(conn net.Conn) {
	defer func() {
		conn.Close()
		s.mu.Lock()
		delete(s.conns, conn)
		s.mu.Unlock()
	}()
	preface := make([]byte, len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
	if _, err := io.ReadFull(conn, preface); err != nil {
		return
	}
	w := h2Writer{conn}
	ok := w.frame(frameSettings, 0, 0, nil)
	for ok {
		var head [9]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return
		}
		payload := make([]byte, binary.BigEndian.Uint32(head[:4])>>8)
		if _, err := io.ReadFull(conn, payload); err != nil {
			return
		}
		kind, flags, stream := head[3], head[4], binary.BigEndian.Uint32(head[5:])
		switch {
		case (kind == frameSettings || kind == framePing) && flags&flagAck == 0:
			if kind == frameSettings {
				payload = nil
			}
			ok = w.frame(kind, flagAck, 0, payload)
		case kind == frameHeaders:
			ok = s.answer(w, stream)
		}
	}
}

// answer plays the script's step for a request. It reports whether the connection goes on.
func (s *H2Server) answer(w h2Writer, stream uint32) bool {
	s.mu.Lock()
	s.requests++
	step := s.script(s.requests)
	s.mu.Unlock()
	if step.Status == 0 {
		step.Status = http.StatusOK
	}
	body := step.Body
	if step.Cut != H2None {
		body = body[:max(min(step.At, len(body)), 0)]
	}
	if step.Cut == H2None || step.At >= 0 && step.Cut != H2Refused && step.Cut != H2GoAway {
		ok := w.frame(frameHeaders, flagEndHeaders, stream, h2Block(step)) && w.frame(frameData, 0, stream, body)
		if step.Cut == H2None {
			return ok && w.frame(frameData, flagEndStream, stream, nil)
		}
	}
	switch step.Cut {
	case H2Refused:
		return w.frame(frameReset, 0, stream, []byte{0, 0, 0, 7})
	case H2Failed:
		return w.frame(frameReset, 0, stream, []byte{0, 0, 0, 2})
	case H2GoAway:
		return w.frame(frameGoAway, 0, 0, binary.BigEndian.AppendUint64(nil, uint64(max(stream, 2)-2)<<32))
	default:
		return false
	}
}

// h2Block returns the headers of an answer as literals without an index (RFC 7541, section 6.2.2).
func h2Block(step H2Step) []byte {
	var block bytes.Buffer
	literal := func(name, value string) {
		block.WriteByte(0)
		for _, s := range []string{name, value} {
			if len(s) > 126 {
				panic(fmt.Sprintf("httptestfault: header %q is longer than 126 bytes", s))
			}
			block.WriteByte(byte(len(s)))
			block.WriteString(s)
		}
	}
	literal(":status", fmt.Sprint(step.Status))
	for name, values := range step.Header {
		for _, value := range values {
			literal(string(bytes.ToLower([]byte(name))), value)
		}
	}
	return block.Bytes()
}

type h2Writer struct{ conn net.Conn }

// frame sends a frame and reports whether it could.
func (w h2Writer) frame(kind, flags byte, stream uint32, payload []byte) bool {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
	head = binary.BigEndian.AppendUint32(append(head, flags), stream)
	_, err := w.conn.Write(append(head, payload...))
	return err == nil
}
