package httpretry

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry/internal/upload"
	"github.com/seed-0f2c7998/perdure/internal/bound"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/calls"
	"github.com/seed-0f2c7998/perdure/retry"
)

// An operation is one request on its way through its attempts. What outlives it must not keep a pointer to it, so that it
// costs no memory of its own.
type operation struct {
	transport  *Transport
	route      *route
	original   *http.Request // the caller's, or a copy that says the same for it; not to be changed
	req        *http.Request // original, or a copy that asks for gzip
	idempotent bool
	stream     *stream      // for the body of the response; nil: it will not be resumed
	upload     *upload.Body // nil: the request has no body
	progress   *progress    // nil while nobody has to know
	attempts   int
	last       error // of the attempt before, as it was
	unmarked   error // the caller's fault, and the same marked
	marked     error
	began      time.Time // if the policy has a MaxElapsed
}

// prepare readies what the attempts share.
func (e *operation) prepare() {
	e.upload = e.body()
	if e.route.policy.MaxElapsed > 0 {
		e.began = time.Now()
	}
	if ctx := e.req.Context(); ctx.Value(endKey{}) != nil { // the request is that of another response
		e.req = e.req.WithContext(context.WithValue(ctx, endKey{}, end{}))
	}
	h := e.req.Header
	if e.transport.options.IdempotencyKeys && (e.req.Method == http.MethodPost || e.req.Method == http.MethodPatch) && !e.idempotent && h != nil {
		e.idempotent = true
		e.req = withHeader(e.req, "Idempotency-Key", []string{strconv.Quote(rand.Text())})
	}
	e.original = e.req
	if !e.transport.options.NoResume && e.upload == nil && method(e.req) == http.MethodGet {
		e.req, e.stream = e.transport.withGzip(e.req)
	}
}

// body returns the request's body, as something that can be sent again; nil if there is none. That of a request which is
// repeated only if it never left need not be kept: if it was read, it may have left.
func (e *operation) body() *upload.Body {
	if e.req.Body == nil || e.req.Body == http.NoBody {
		return nil
	}
	o := &e.transport.options
	memory, limit := o.BufferLimit, o.SpoolLimit
	if memory == 0 {
		memory = defaultBufferLimit
	}
	if limit == 0 {
		limit = defaultSpoolLimit
	}
	if !e.idempotent {
		memory, limit = 0, 0
	}
	return upload.New(e.req, max(memory, 0), max(limit, 0))
}

// withHeader returns a copy of req with another header; name is in its canonical form.
func withHeader(req *http.Request, name string, values []string) *http.Request {
	h := maps.Clone(req.Header)
	h[name] = values
	req = req.WithContext(req.Context())
	req.Header = h
	return req
}

// retryFrom makes the attempts after the first, which began at start, was made with permit, and brought res or err.
func (e *operation) retryFrom(permit circuit.Permit, start time.Time, res *http.Response, err error) (*http.Response, error) {
	res, err = e.classify(received(e.transport.base, e.req, e.original, res, err))
	ctx, release := withCancel(e.req)
	defer release()
	err = calls.Continue(ctx, e.route.policy, permit, start, err, func(ctx context.Context) (err error) {
		res, err = e.attempt(ctx) //nolint:bodyclose // the caller does
		return err
	})
	return e.outcome(res, err)
}

// attempt sends the request once. A status from 400 on is an error, and comes with its response.
func (e *operation) attempt(ctx context.Context) (*http.Response, error) {
	e.attempts++
	for {
		req, err := e.request(ctx)
		if err != nil {
			return nil, e.bodyGone(err)
		}
		if nested, another := breakers.Nested(req.Context(), ctx); another {
			req = req.WithContext(nested) // a base may have the same breaker
		}
		res, err := e.send(ctx, req)
		if err == nil || !e.progress.isStale() || ctx.Err() != nil {
			if res, err = e.classify(res, err); err == nil {
				e.holdPlace(ctx, res)
			}
			return res, err
		}
	}
}

// request returns the request of the attempt that ctx is for: the caller's own, unless something has to be different in it.
func (e *operation) request(ctx context.Context) (*http.Request, error) {
	req := e.req
	if name := e.transport.options.AttemptHeader; name != "" && req.Header != nil {
		req = withHeader(req, http.CanonicalHeaderKey(name), []string{strconv.Itoa(e.attempts)})
	}
	if e.upload == nil && e.idempotent {
		return req, nil
	}
	own := req.Context()
	if !e.idempotent || e.upload.Once() {
		own = e.watch(own)
	}
	req = req.WithContext(own)
	if e.upload != nil {
		upload := e.upload
		again := func() (io.ReadCloser, error) { return upload.Next(ctx) }
		body, err := again()
		if err != nil {
			return nil, err
		}
		req.Body, req.GetBody = body, again // base may repeat what the server has not looked at
	}
	return req, nil
}

// send makes the attempt within ctx. If that ends with the attempt rather than with the operation, it bounds the time
// to the response's head only: the body is read when the attempt is long over.
func (e *operation) send(ctx context.Context, req *http.Request) (*http.Response, error) {
	if e.route.policy.AttemptTimeout == 0 {
		return e.roundTrip(req)
	}
	own, cancel := context.WithCancelCause(req.Context())
	stop := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	res, err := e.roundTrip(req.WithContext(own))
	if !stop() && err == nil {
		if res.Body != nil {
			res.Body.Close()
		}
		err = context.Cause(ctx)
	}
	if err != nil && req.Context().Err() == nil && errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		err = fmt.Errorf("no response from %s within the attempt's %v: %w", req.URL.Host, e.route.policy.AttemptTimeout, err)
	}
	switch {
	case err != nil:
		cancel(err)
		return nil, err
	case res.Body == nil || res.Body == http.NoBody: // callers compare it; the attempt is over
		cancel(nil)
	case res.StatusCode != http.StatusSwitchingProtocols: // whose body is a connection, which lives as long as the caller's context
		res.Body = &ownBody{ReadCloser: res.Body, cancel: cancel}
	}
	return res, nil
}

// roundTrip has the base send req, twice if it is slow and may be hedged.
func (e *operation) roundTrip(req *http.Request) (*http.Response, error) {
	base, original := e.transport.base, e.original
	if e.route.hedger == nil || e.upload != nil || method(req) != http.MethodGet && req.Method != http.MethodHead ||
		req.Header.Get("Upgrade") != "" { // it is to bring a connection, which nothing may wrap
		return pass(base, req, original)
	}
	return e.route.hedger.Do(req.Context(), func(ctx context.Context) (*http.Response, error) {
		return pass(base, req.WithContext(ctx), original)
	}, discard)
}

// pass has base send req. Its response is one to the caller's request: who sends that again wants none of what we have put
// into a copy, and has no context that ended with the attempt.
func pass(base http.RoundTripper, req, original *http.Request) (*http.Response, error) {
	res, err := base.RoundTrip(req)
	return received(base, req, original, res, err)
}

// received returns what base has brought for req, as pass does.
func received(base http.RoundTripper, req, original *http.Request, res *http.Response, err error) (*http.Response, error) {
	switch {
	case err != nil:
		return nil, err
	case res == nil:
		return nil, retry.Permanent(fmt.Errorf("httpretry: %T returned neither a response nor an error", base))
	case bound.HeaderSize(res.Header) > bound.Header:
		if res.Body != nil {
			res.Body.Close()
		}
		return nil, &LimitError{What: "response header", Limit: bound.Header}
	case res.Request == nil, res.Request == req, isCopy(res, req): // only http.Transport promises that there is one
		res.Request = original
	}
	return res, nil
}

// isCopy reports whether the request of res is what a base has made of req to send it: no redirected one, and none that a
// Transport further in has something to tell with.
func isCopy(res *http.Response, req *http.Request) bool {
	r, e := res.Request, endOf(res)
	return e.err == nil && !e.unverifiable && r.Method == req.Method && r.URL != nil && req.URL != nil &&
		(r.URL == req.URL || r.URL.String() == req.URL.String())
}

// An ownBody ends the context that its response was had with.
type ownBody struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

// Close closes the body, then ends its context.
func (b *ownBody) Close() error {
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}

// ended returns why the caller of req waits no longer: its context has ended, or its Cancel channel is closed, with which
// an http.Client has a transport that it does not know observe its Timeout, beside a deadline. It returns nil if neither
// is the case.
func ended(req *http.Request) error {
	ctx := req.Context()
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-req.Cancel: //nolint:staticcheck // deprecated, and still honored by net/http
	default:
		return nil
	}
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return context.Canceled
}

// withCancel returns a context that ends as ended says. The caller calls release when it is no longer needed.
func withCancel(req *http.Request) (ctx context.Context, release func()) {
	if req.Cancel == nil { //nolint:staticcheck // as above
		return req.Context(), func() {}
	}
	c := &cancelContext{Context: req.Context(), req: req}
	return c, c.release
}

// A cancelContext is the context of a request with a Cancel channel. It costs a goroutine once someone waits for its end.
type cancelContext struct {
	context.Context //nolint:containedctx // it is one

	req  *http.Request
	once sync.Once
	both context.Context //nolint:containedctx // ends with the first of the two; nil before someone waits
	stop context.CancelFunc
	over atomic.Bool // released
}

// Err returns what ended does, and never nil once Done is closed.
func (c *cancelContext) Err() error {
	if err := ended(c.req); err != nil || !c.over.Load() {
		return err
	}
	return context.Canceled
}

// Done returns a channel that is closed when the context or the channel ends.
func (c *cancelContext) Done() <-chan struct{} {
	c.once.Do(func() {
		c.both, c.stop = context.WithCancel(c.Context)
		go func() {
			select {
			case <-c.req.Cancel: //nolint:staticcheck // as above
				c.stop()
			case <-c.both.Done():
			}
		}()
	})
	return c.both.Done()
}

func (c *cancelContext) release() {
	c.over.Store(true)
	c.once.Do(func() { c.both, c.stop = c.Context, func() {} })
	c.stop()
}
