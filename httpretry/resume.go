package httpretry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/internal/shown"
	"github.com/seed-0f2c7998/perdure/internal/stall"
	"github.com/seed-0f2c7998/perdure/internal/unwrap"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A Resumption describes a body that broke and is about to be resumed.
type Resumption struct {
	Method, URL string // of the request; the URL without secrets
	Offset      int64  // the byte of the representation from which the body is resumed
	Total       int64  // length of the representation in bytes; -1 if unknown
	Break       error  // the connection's error; its text has no secrets
}

// logResumption is the default of Options.OnResume.
func logResumption(r Resumption) {
	slog.Default().Info(fmt.Sprintf("Resuming %s %s at byte %d", r.Method, r.URL, r.Offset),
		"offset", r.Offset, "total", r.Total, "error", r.Break.Error())
}

// resume requests the rest of the body after a break: at once, then by the policy as a new operation.
func (s *stream) resume(p []byte, broken error) (int, error) {
	broken = shown.Error(broken, s.req)
	if ended(s.req) != nil || !s.reopen() {
		if unwrap.Is(broken, io.EOF) {
			broken = io.ErrUnexpectedEOF // the end of a part, not of the body
		}
		return 0, s.fail(broken)
	}
	broken = unexpected(broken)
	policy, err := s.remaining()
	if err == nil {
		err = s.tooSlow(broken)
	}
	if err == nil && s.next > s.representation.from && s.representation.validator() == "" {
		err = ErrNoValidator
	}
	if err != nil {
		return 0, s.giveUp(broken, err)
	}
	s.notify(broken)
	ctx, release := withCancel(s.req)
	defer release()
	n, err := retry.Value(ctx, policy, func(ctx context.Context) (int, error) { return s.attempt(ctx, policy, p) })
	switch {
	case err != nil:
		return n, s.giveUp(broken, err)
	case n == 0:
		return 0, s.end()
	}
	if c := series(s.policy); c != nil {
		c.Resumes.Add(1)
	}
	return n, nil
}

// giveUp ends the stream after a break.
func (s *stream) giveUp(broken, stop error) error {
	if status, ok := unwrap.As[*StatusError](stop); ok {
		status.discard()
	}
	return s.fail(&BodyError{Delivered: s.next - s.representation.from, Break: broken, Stop: stop})
}

// remaining returns the policy with MaxElapsed reduced by the time since the operation began, and without RetryOn: to
// resume a body is not to retry a request.
func (s *stream) remaining() (*retry.Policy, error) {
	p := *s.policy
	p.RetryOn, p.ObserveAll = nil, false
	if p.MaxElapsed == 0 {
		return &p, nil
	}
	p.MaxElapsed -= time.Since(s.began)
	if p.MaxElapsed <= 0 {
		return nil, retry.ErrDeadline
	}
	return &p, nil
}

// tooSlow returns an error if the body has been too slow as often as the policy allows attempts. Each resumed connection
// has delivered some bytes, so no other limit ends them.
func (s *stream) tooSlow(broken error) error {
	if !stall.IsSlow(broken) {
		return nil
	}
	if s.next-s.slowAt >= s.guard.MinRate*int64(stall.Window/time.Second) {
		s.slow = 0
	}
	s.slow, s.slowAt = s.slow+1, s.next
	if most := s.policy.Attempts(); most != retry.Unlimited && s.slow >= most {
		return &retry.Error{Operation: s.policy.Name, Attempts: s.slow, Reason: retry.ReasonExhausted, Stop: retry.ErrExhausted, Last: broken}
	}
	return nil
}

func (s *stream) notify(broken error) {
	notify := s.transport.options.OnResume
	if notify == nil {
		notify = logResumption
	}
	notify(Resumption{
		Method: method(s.req), URL: shown.URL(s.req), Offset: s.next, Total: s.representation.total, Break: redact.Error(broken),
	})
}

// attempt requests the rest of the body. It succeeds with at least one new byte, or at the end of the body.
func (s *stream) attempt(ctx context.Context, policy *retry.Policy, p []byte) (int, error) {
	res, err := s.fetch(ctx, policy, s.next) //nolint:bodyclose // replace and discard do
	if res != nil && res.StatusCode >= http.StatusBadRequest {
		return s.statusError(ctx, policy, res, err)
	}
	if err != nil {
		return 0, unexpected(err)
	}
	if !s.replace(res.Body) {
		return 0, retry.Permanent(errClosed)
	}
	skip, stop, err := s.representation.accept(res, s.next)
	if err != nil {
		return 0, retry.Permanent(err)
	}
	s.last, s.stop, s.partial = res, stop, res.StatusCode == http.StatusPartialContent
	if err := s.skip(skip); err != nil {
		return 0, err
	}
	return s.first(p)
}

// fetch requests the representation from the offset next on.
func (s *stream) fetch(ctx context.Context, policy *retry.Policy, next int64) (*http.Response, error) {
	op := operation{transport: s.transport, route: &route{policy: policy}, idempotent: true}
	op.req = s.representation.request(s.req, next)
	op.original = op.req
	return op.attempt(ctx)
}

// statusError handles a status of 400 or above.
func (s *stream) statusError(ctx context.Context, policy *retry.Policy, res *http.Response, err error) (int, error) {
	switch {
	case res.StatusCode == http.StatusRequestedRangeNotSatisfiable && s.representation.ended(res, s.next):
		discard(res.Body)
		s.fetchTrailer(ctx, policy)
		s.representation.end = s.next
		return 0, nil
	case res.StatusCode == http.StatusRequestedRangeNotSatisfiable, res.StatusCode == http.StatusPreconditionFailed:
		discard(res.Body)
		return 0, retry.Permanent(ErrChanged)
	}
	return 0, err
}

// fetchTrailer requests the last byte again if the caller's response has announced a trailer: a trailer comes with the end
// of a body, and this body has ended with a 416. If that fails, the trailer stays empty.
func (s *stream) fetchTrailer(ctx context.Context, policy *retry.Policy) {
	if len(s.delivered.Trailer) == 0 || s.next == s.representation.from {
		return
	}
	res, err := s.fetch(ctx, policy, s.next-1)
	if err != nil {
		if res != nil {
			discard(res.Body)
		}
		return
	}
	defer res.Body.Close()
	skip, _, err := s.representation.accept(res, s.next-1)
	if err != nil || skip > drainBytes { // a server without ranges sends the whole body: too much to read for a trailer
		return
	}
	body := stall.NewReader(res.Body, s.limits(), nil)
	if n, err := io.Copy(io.Discard, io.LimitReader(body, skip+2)); n == skip+1 && err == nil {
		s.last, s.partial = res, res.StatusCode == http.StatusPartialContent
	}
}

// skip reads and drops n bytes that precede the next wanted byte.
func (s *stream) skip(n int64) error {
	scratch := make([]byte, min(n, 32<<10))
	for n > 0 {
		got, err := s.guard.Read(s.body, scratch[:min(n, int64(len(scratch)))])
		n -= int64(got)
		if err != nil && n > 0 {
			return unexpected(err)
		}
	}
	return nil
}

// first reads the first new bytes into p.
func (s *stream) first(p []byte) (int, error) {
	n, err := 0, error(nil)
	for range 100 { // a Reader may return 0, nil, but not endlessly
		if n, err = s.readConn(p); n > 0 || err != nil {
			break
		}
	}
	switch {
	case n == 0 && err == nil:
		return 0, io.ErrNoProgress
	case n > 0 && err != nil && !s.complete(err):
		s.err, s.broken = err, true
		return n, nil
	case n > 0 || s.complete(err):
		return n, nil
	}
	return 0, unexpected(err)
}

// unexpected returns err, or io.ErrUnexpectedEOF for an io.EOF, which would look like the end of the body, and for the
// cancellation of another request, which would look like the caller's.
func unexpected(err error) error {
	if unwrap.Is(err, io.EOF) || unwrap.Is(err, context.Canceled) {
		return io.ErrUnexpectedEOF
	}
	return err
}
