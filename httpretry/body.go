package httpretry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/seed-0f2c7998/perdure/httpretry/internal/digest"
	"github.com/seed-0f2c7998/perdure/internal/stall"
	"github.com/seed-0f2c7998/perdure/internal/unwrap"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A gzipRequest is a copy of a request that asks for gzip, and the stream for the body of its response, in one allocation.
type gzipRequest struct {
	request http.Request
	stream  stream
}

// newGzipRequest returns one with a copy of req that has h as its header.
func newGzipRequest(req *http.Request, h http.Header) *gzipRequest {
	a := new(gzipRequest)
	a.request = *req
	a.request.Header = h
	return a
}

// gzipOnly is the Accept-Encoding that net/http adds by itself.
var gzipOnly = []string{"gzip"} //nolint:gochecknoglobals // shared by all requests, as it saves each of them one

// withGzip returns what is sent for a GET, and the stream for the body of its response. It asks for gzip where the base would
// by itself, unless the caller has other wishes: the base would take the coding off below the stream, and the rest could
// not be asked for. A base that would not gets the request as it is, and the caller the representation that it brings.
func (t *Transport) withGzip(req *http.Request) (*http.Request, *stream) {
	h := req.Header
	if h == nil || h["Accept-Encoding"] != nil || h["Range"] != nil || !t.gzip.Load() {
		return req, new(stream)
	}
	a := newGzipRequest(req, maps.Clone(h))
	a.request.Header["Accept-Encoding"] = gzipOnly
	return &a.request, &a.stream
}

// A stream is the body of a response to a GET that outlasts its connections: the caller reads one body, whatever
// happens below. Read is for one goroutine at a time; Close may be called by another.
type stream struct {
	transport *Transport
	policy    *retry.Policy
	req       *http.Request  // that brought the response; after the first break, with a context that cancel ends
	began     time.Time      // of the operation, if the policy has a MaxElapsed
	delivered *http.Response // the caller's
	last      *http.Response // that has the present body; nil: delivered

	representation representation
	next           int64 // offset in the representation of the next byte
	check          *digest.Check
	guard          stall.Guard
	slow           int   // breaks in a row for want of speed
	slowAt         int64 // offset of the last of them
	stop           int64 // offset from which the present body has nothing that is wanted; -1: unknown
	err            error // with which the stream has ended, unless it is broken
	broken         bool  // err came after bytes that the caller has got: the next Read is to resume
	partial        bool  // the present body may be less than what is wanted
	closed         bool  // guarded by mu, as what follows it

	mu     sync.Mutex
	body   io.ReadCloser
	cancel context.CancelCauseFunc // nil before the first break
}

// attach makes s the body of res, if it can be one that outlasts its connections. A base that took a coding off which
// nobody has asked it for, as one around an http.Transport does, shows that it asks by itself.
func (s *stream) attach(res *http.Response) (ok bool) {
	if res.Uncompressed && s.req.Header["Accept-Encoding"] == nil {
		s.transport.gzip.Store(true)
	}
	if res.Uncompressed || res.ContentLength == 0 ||
		!isFull(res.StatusCode) && res.StatusCode != http.StatusPartialContent || !s.representation.read(res) {
		return false
	}
	if s.representation.digest && !digest.IsLeftToCaller(s.req.Context()) {
		s.check = digest.For(res.Header, s.representation.full)
	}
	s.adopt(res)
	return true
}

// adopt makes s the body of res, whose representation it has read.
func (s *stream) adopt(res *http.Response) {
	s.delivered, s.next, s.stop, s.body = res, s.representation.from, s.representation.end, res.Body
	s.guard.Limits, s.guard.Pool = s.limits(), &s.transport.timers
	res.Body = s
}

// Read reads on, from the next connection if need be.
func (s *stream) Read(p []byte) (int, error) {
	if s.err != nil || s.next >= s.stop || s.check != nil || s.guard.Any() || len(p) == 0 {
		return s.readOn(p)
	}
	n, err := s.body.Read(p[:min(int64(len(p)), s.stop-s.next)])
	s.next += int64(n)
	if err == io.EOF && s.next == s.representation.end {
		return n, s.end()
	}
	return s.handleRead(p, n, err)
}

// readOn is Read where there is more to it than what comes next.
func (s *stream) readOn(p []byte) (int, error) {
	switch {
	case len(p) == 0:
		return 0, nil
	case s.broken:
		broken := s.err
		s.err, s.broken = nil, false
		return s.resume(p, broken)
	case s.err != nil:
		return 0, s.err
	}
	n, err := s.readConn(p)
	return s.handleRead(p, n, err)
}

// handleRead returns what Read does after the present connection has brought n bytes and err.
func (s *stream) handleRead(p []byte, n int, err error) (int, error) {
	switch {
	case err == nil:
		return n, nil
	case s.complete(err):
		return n, s.end()
	case n > 0:
		s.err, s.broken = err, true
		return n, nil
	}
	return s.resume(p, err)
}

// readConn reads what comes from the present connection, and no more than is wanted.
func (s *stream) readConn(p []byte) (int, error) {
	if s.stop >= 0 && s.next >= s.stop {
		_, _ = s.guard.Read(s.body, p[:1]) // its end, with which a trailer comes, and HTTP/2 knows that the stream is done
		return 0, io.EOF
	}
	if s.stop >= 0 {
		p = p[:min(int64(len(p)), s.stop-s.next)]
	}
	n, err := s.guard.Read(s.body, p)
	s.next += int64(n)
	if s.check != nil {
		_, _ = s.check.Write(p[:n]) // a hash takes everything
	}
	return n, err
}

const (
	defaultStallTimeout = 20 * time.Second
	trickle             = 1 << 10 // bytes per second that a body must exceed to go on after MaxElapsed
)

// limits returns what the body must deliver.
func (s *stream) limits() stall.Limits {
	o := &s.transport.options
	l := stall.Limits{Timeout: o.StallTimeout, MinRate: o.MinRate}
	if l.Timeout == 0 && s.representation.resumable { // else it may well be a stream of events, which cannot be resumed
		l.Timeout = defaultStallTimeout
	}
	if most := s.policy.MaxElapsed; most > 0 {
		l.Window = max(min(stall.Window, most), time.Second)
		if l.MinRate == 0 && (s.representation.resumable || s.representation.end >= 0) {
			l.MinRate, l.From = trickle, s.began.Add(most)
		}
	}
	return l
}

// complete reports whether err, after what has been read, is the end of what is wanted.
func (s *stream) complete(err error) bool {
	if s.representation.end >= 0 {
		return s.next >= s.representation.end // even if the connection broke on its last step
	}
	return !s.partial && (err == io.EOF || unwrap.Is(err, io.EOF)) //nolint:errorlint // Is sees through those that hold it
}

// end ends the stream with io.EOF, or with what is wrong with the whole.
func (s *stream) end() error {
	if s.check != nil {
		if got := s.check.Sum(nil); !bytes.Equal(got, s.check.Want) {
			return s.fail(&DigestError{Header: s.check.Header, Algorithm: s.check.Algorithm, Want: s.check.Want, Got: got})
		}
	}
	if s.last != nil {
		s.passTrailer()
	}
	s.err = io.EOF
	return s.err
}

// passTrailer gives the caller's response the trailer of the last one, where net/http would have put it. What describes
// the content of a message says nothing of a whole of which that was a part.
func (s *stream) passTrailer() {
	for name, values := range s.last.Trailer {
		if values == nil || s.partial && (name == "Content-Digest" || name == "Content-Md5") {
			continue // announced, and not sent; or of the part
		}
		if s.delivered.Trailer == nil {
			s.delivered.Trailer = make(http.Header)
		}
		s.delivered.Trailer[name] = values
	}
}

// fail ends the stream with err.
func (s *stream) fail(err error) error {
	s.err = err
	_ = s.body.Close() // err says it
	return err
}

// reopen makes the request of later attempts, unless the stream was closed: a Close ends them too.
func (s *stream) reopen() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancel == nil && !s.closed {
		ctx, cancel := context.WithCancelCause(s.req.Context())
		s.req, s.cancel = s.req.WithContext(ctx), cancel
	}
	return !s.closed
}

// replace closes the present body and takes another in its place, unless the stream was closed.
func (s *stream) replace(body io.ReadCloser) bool {
	s.mu.Lock()
	closed, old := s.closed, s.body
	if closed {
		old = body
	} else {
		s.body = body
		s.guard.Reset()
	}
	s.mu.Unlock()
	_ = old.Close() // it is broken already, or not wanted
	return !closed
}

// Close ends the stream, and a Read that waits.
func (s *stream) Close() error {
	s.mu.Lock()
	closed, body, cancel := s.closed, s.body, s.cancel
	s.closed = true
	s.mu.Unlock()
	if closed {
		return nil
	}
	err := body.Close()
	if cancel != nil {
		cancel(errClosed)
	}
	return err
}

// errClosed is what a Read gets that was waiting when its body was closed.
var errClosed = errors.New("httpretry: read on a closed body")
