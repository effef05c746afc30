package httpretry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/seed-0f2c7998/perdure/httpretry/internal/digest"
	"github.com/seed-0f2c7998/perdure/httpretry/internal/watchdog"
)

// A stream is the body of an answer to a GET that outlasts its connections: the caller reads one body, whatever
// happens below. Read is for one goroutine at a time; Close may be called by another.
type stream struct {
	exchange *exchange
	entity   entity
	next     int64 // offset in the entity of the next byte
	part     part  // that is being read now
	check    *digest.Check
	dog      *watchdog.Dog // nil until the first read that is watched
	broken   error         // what came after bytes that the caller has got
	err      error         // with which the stream has ended

	mu     sync.Mutex
	body   io.ReadCloser
	req    *http.Request           // of the exchange, with a context that cancel ends; nil before the first break
	cancel context.CancelCauseFunc // as req
	closed bool
}

// sustain makes res's body one that outlasts its connections, if that can be.
func (e *exchange) sustain(res *http.Response) {
	if e.transport.options.NoResume || method(e.req) != http.MethodGet || e.upload != nil || res.Uncompressed ||
		res.ContentLength == 0 || res.StatusCode != http.StatusOK && res.StatusCode != http.StatusPartialContent {
		return
	}
	entity, ok := entityOf(res)
	if !ok {
		return
	}
	s := &e.stream
	s.exchange, s.entity, s.next, s.body = e, entity, entity.from, res.Body
	s.part = part{end: entity.end}
	s.check = digest.For(res.Header, entity.whole())
	res.Body = s
}

// Read reads on, from the next connection if need be.
func (s *stream) Read(p []byte) (int, error) {
	if s.err != nil || len(p) == 0 {
		return 0, s.err
	}
	if broken := s.broken; broken != nil {
		s.broken = nil
		return s.resume(p, broken)
	}
	n, err := s.pull(p)
	switch {
	case err == nil:
		return n, nil
	case s.complete(err):
		return n, s.finish(s.verdict())
	case n > 0:
		s.broken = err
		return n, nil
	}
	return s.resume(p, err)
}

// pull reads what comes from the present connection, and no more than is wanted.
func (s *stream) pull(p []byte) (int, error) {
	for _, end := range [...]int64{s.entity.end, s.part.end} {
		if end >= 0 {
			p = p[:min(int64(len(p)), end-s.next)]
		}
	}
	if len(p) == 0 {
		return 0, io.EOF
	}
	n, err := s.read(p)
	s.next += int64(n)
	if s.check != nil {
		_, _ = s.check.Write(p[:n]) // a hash takes everything
	}
	return n, err
}

// read reads from the present connection, which it ends if nothing comes for too long.
func (s *stream) read(p []byte) (int, error) {
	limit := s.patience()
	if limit <= 0 {
		return s.body.Read(p)
	}
	if s.dog == nil {
		s.dog = s.exchange.transport.dogs.Get()
	}
	s.dog.Watch(s.body, limit)
	n, err := s.body.Read(p)
	if s.dog.Leave() {
		err = errStalled
	}
	return n, err
}

const defaultStallTimeout = 20 * time.Second

// patience returns how long nothing may come; 0 means for ever.
func (s *stream) patience() time.Duration {
	switch limit := s.exchange.transport.options.StallTimeout; {
	case limit != 0:
		return limit
	case s.entity.validator() != "":
		return defaultStallTimeout
	default:
		return 0 // it may well be a stream of events, which nobody could take up again
	}
}

// complete reports whether err, after what has been read, is the end of what is wanted.
func (s *stream) complete(err error) bool {
	if s.entity.end >= 0 {
		return s.next >= s.entity.end // even if the connection broke on its last step
	}
	return errors.Is(err, io.EOF) && !s.part.partial
}

// verdict returns io.EOF, or what is wrong with the whole.
func (s *stream) verdict() error {
	if s.check != nil {
		if err := s.check.Verify(); err != nil {
			return err
		}
	}
	return io.EOF
}

// finish ends the stream with err.
func (s *stream) finish(err error) error {
	s.err = err
	if !errors.Is(err, io.EOF) {
		_ = s.body.Close() // err says it
	}
	if s.dog != nil {
		s.exchange.transport.dogs.Put(s.dog)
		s.dog = nil
	}
	return err
}

// reopen makes the request of later attempts, unless the stream was closed: a Close ends them too.
func (s *stream) reopen() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.req == nil && !s.closed {
		ctx, cancel := context.WithCancelCause(s.exchange.req.Context())
		s.req, s.cancel = s.exchange.req.WithContext(ctx), cancel
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

// errStalled is the break of a body of which nothing has come for the stall timeout.
var errStalled error = stalledError{}

// errClosed is what a Read gets that was waiting when its body was closed.
var errClosed = errors.New("httpretry: read on a closed body")

type stalledError struct{}

func (stalledError) Error() string   { return "httpretry: nothing came for the stall timeout" }
func (stalledError) Timeout() bool   { return true }
func (stalledError) Temporary() bool { return true }
