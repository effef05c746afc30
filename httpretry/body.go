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

// A gzipRequest is a copy of a request with Accept-Encoding: gzip, and the stream for the body of its response, in one
// allocation.
type gzipRequest struct {
	request http.Request
	stream  stream
}

// newGzipRequest returns a gzipRequest with a copy of req that has the header h.
func newGzipRequest(req *http.Request, h http.Header) *gzipRequest {
	a := new(gzipRequest)
	a.request = *req
	a.request.Header = h
	return a
}

// gzipOnly is the Accept-Encoding that net/http adds.
var gzipOnly = []string{"gzip"} //nolint:gochecknoglobals // saves each request an allocation

// withGzip returns the request to send for a GET, and the stream for the body of its response. The request asks for gzip if
// the base would add that and the caller sets neither Accept-Encoding nor Range: the base would decode the body below the
// stream, whose offsets could not be requested then. Otherwise the request is req.
func (t *Transport) withGzip(req *http.Request) (*http.Request, *stream) {
	h := req.Header
	if h == nil || h["Accept-Encoding"] != nil || h["Range"] != nil || !t.gzip.Load() {
		return req, new(stream)
	}
	a := newGzipRequest(req, maps.Clone(h))
	a.request.Header["Accept-Encoding"] = gzipOnly
	return &a.request, &a.stream
}

// A stream is the body of a response to a GET, resumed on other connections: the caller reads one body. Read is for one
// goroutine at a time; another may call Close.
type stream struct {
	transport *Transport
	policy    *retry.Policy
	req       *http.Request  // the request of the response; after the first break with a context that cancel ends
	began     time.Time      // of the operation; 0 if the policy has no MaxElapsed
	delivered *http.Response // the caller's response
	last      *http.Response // the response of the current body; nil means delivered

	representation representation
	next           int64 // offset of the next byte in the representation
	check          *digest.Check
	guard          stall.Guard
	slow           int   // breaks in a row because the body was too slow
	slowAt         int64 // offset of the last such break
	stop           int64 // offset at which the current body has no more wanted bytes; -1 if unknown
	err            error // the end of the stream, or, if broken, of the connection
	broken         bool  // err came together with bytes: the next Read resumes
	partial        bool  // the current body may have less than the wanted bytes
	closed         bool  // guarded by mu, as body and cancel are

	mu     sync.Mutex
	body   io.ReadCloser
	cancel context.CancelCauseFunc // nil before the first break
}

// attach makes s the body of res, if a stream can resume it. If the base has decoded gzip that was not requested, as a wrapper
// of an http.Transport does, then later requests ask for gzip.
func (s *stream) attach(res *http.Response) (ok bool) {
	if res.Uncompressed && s.req.Header["Accept-Encoding"] == nil {
		s.transport.gzip.Store(true)
	}
	if res.Uncompressed || !isFull(res.StatusCode) && res.StatusCode != http.StatusPartialContent || !s.representation.read(res) {
		return false
	}
	if s.representation.digest && !digest.IsLeftToCaller(s.req.Context()) {
		s.check = digest.For(res.Header, s.representation.full)
	}
	if res.ContentLength == 0 && (s.check == nil || bytes.Equal(s.check.Sum(nil), s.check.Want)) {
		return false // nothing can break, and callers compare Body with http.NoBody
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

// Read reads from the current connection, and from another one after a break.
func (s *stream) Read(p []byte) (int, error) {
	if s.err != nil || s.next >= s.stop || s.check != nil || s.guard.Any() || len(p) == 0 {
		return s.readOn(p)
	}
	n, err := s.body.Read(p[:min(int64(len(p)), s.stop-s.next)])
	s.count(n)
	if err == io.EOF && s.next == s.representation.end {
		return n, s.end()
	}
	return s.handleRead(p, n, err)
}

// readOn is Read with a digest, a limit, or after a break.
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

// handleRead returns the result of Read after the current connection has returned n bytes and err.
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

// readConn reads from the current connection, and no more than the wanted bytes.
func (s *stream) readConn(p []byte) (int, error) {
	if s.stop >= 0 && s.next >= s.stop {
		_, _ = s.guard.Read(s.body, p[:1]) // reads the end: a trailer comes with it, and HTTP/2 ends the stream
		return 0, io.EOF
	}
	if s.stop >= 0 {
		p = p[:min(int64(len(p)), s.stop-s.next)]
	}
	n, err := s.guard.Read(s.body, p)
	s.count(n)
	if s.check != nil {
		_, _ = s.check.Write(p[:n]) // a hash never fails
	}
	return n, err
}

// count counts n bytes of the wanted ones.
func (s *stream) count(n int) {
	s.next += int64(n)
	if c := series(s.policy); c != nil && s.last != nil {
		c.ResumedBytes.Add(uint64(n)) //nolint:gosec // not negative
	}
}

const (
	defaultStallTimeout = 20 * time.Second
	trickle             = 1 << 10 // bytes per second that a body must exceed after MaxElapsed
)

// limits returns the rate and the timeout of the body.
func (s *stream) limits() stall.Limits {
	o := &s.transport.options
	l := stall.Limits{Timeout: o.StallTimeout, MinRate: o.MinRate}
	if l.Timeout == 0 && s.representation.resumable { // otherwise the body may be a stream of events
		l.Timeout = defaultStallTimeout
	}
	most := s.policy.MaxElapsed
	if most > 0 && l.MinRate == 0 && (s.representation.resumable || s.representation.end >= 0) {
		l.MinRate, l.From = trickle, s.began.Add(most)
	}
	return l.Within(most)
}

// complete reports whether err is the end of the wanted bytes.
func (s *stream) complete(err error) bool {
	if s.representation.end >= 0 {
		return s.next >= s.representation.end // even if the connection broke after the last byte
	}
	return !s.partial && (err == io.EOF || unwrap.Is(err, io.EOF)) //nolint:errorlint // Is finds a wrapped EOF
}

// end ends the stream with io.EOF, or with a DigestError.
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

// passTrailer copies the trailer of the last response to the caller's response. A digest of a part's content is not copied:
// it is not the digest of the whole body.
func (s *stream) passTrailer() {
	for name, values := range s.last.Trailer {
		if values == nil || s.partial && (name == "Content-Digest" || name == "Content-Md5") {
			continue // announced and not sent, or of the part
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
	_ = s.body.Close() // err is the error
	return err
}

// reopen gives later attempts a request that Close cancels. It reports whether the stream is still open.
func (s *stream) reopen() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancel == nil && !s.closed {
		ctx, cancel := context.WithCancelCause(s.req.Context())
		s.req, s.cancel = s.req.WithContext(ctx), cancel
	}
	return !s.closed
}

// replace closes the current body and uses body in its place. It reports whether the stream is still open; if not, it closes
// body.
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
	_ = old.Close() // broken, or not needed
	return !closed
}

// Close ends the stream, and a Read that is waiting.
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

// errClosed is the error of a Read during which the body was closed.
var errClosed = errors.New("httpretry: read on a closed body")
