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

	"github.com/seed-0f2c7998/perdure/httpretry/internal/upload"
	"github.com/seed-0f2c7998/perdure/internal/bound"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/spool"
	"github.com/seed-0f2c7998/perdure/retry"
)

// An operation is one request with all its attempts. Nothing that outlives the operation may point to it: so the operation
// stays on the stack.
type operation struct {
	transport  *Transport
	route      *route
	original   *http.Request // the caller's request, or a copy with what every attempt has; must not be changed
	req        *http.Request // original, or a copy with Accept-Encoding: gzip
	idempotent bool
	stream     *stream      // for the body of the response; nil means that the body is not resumed
	upload     *upload.Body // nil if the request has no body
	progress   *progress    // nil if the request is not watched
	head       *headContext // nil means no limit of the time to the head
	attempts   int
	last       error // of the attempt before, unmarked
	unmarked   error // an error of the caller's request; marked is the same error, marked
	marked     error
	began      time.Time // 0 if the policy has no MaxElapsed
}

// prepare makes what the attempts share.
func (op *operation) prepare() {
	op.upload = op.body()
	if op.route.policy.MaxElapsed > 0 {
		op.began = time.Now()
	}
	if ctx := op.req.Context(); ctx.Value(endKey{}) != nil { // the caller sends the request of another response again
		op.req = op.req.WithContext(context.WithValue(ctx, endKey{}, end{}))
	}
	h := op.req.Header
	if op.transport.options.IdempotencyKeys && (op.req.Method == http.MethodPost || op.req.Method == http.MethodPatch) && !op.idempotent && h != nil {
		op.idempotent = true
		op.req = withHeader(op.req, "Idempotency-Key", []string{strconv.Quote(rand.Text())})
	}
	op.original = op.req
	if !op.transport.options.NoResume && op.upload == nil && method(op.req) == http.MethodGet {
		op.req, op.stream = op.transport.withGzip(op.req)
	}
}

// attempt sends the request once. It returns a status of 400 or above as an error together with its response.
func (op *operation) attempt(ctx context.Context) (*http.Response, error) {
	op.attempts++
	for {
		req, err := op.request(ctx)
		if err != nil {
			return nil, op.bodyGone(err)
		}
		if nested, another := breakers.Nested(req.Context(), ctx); another {
			req = req.WithContext(nested) // a base may have the same breaker
		}
		res, err := op.send(ctx, req)
		if err == nil || !op.progress.isStale() || ctx.Err() != nil {
			if res, err = op.classify(res, err); err == nil {
				op.holdPlace(ctx, res)
			}
			return res, err
		}
	}
}

// request returns the request of the attempt that ctx is for: op.req, or a copy with the attempt's header, trace and body.
func (op *operation) request(ctx context.Context) (*http.Request, error) {
	req := op.req
	if name := op.transport.options.AttemptHeader; name != "" && req.Header != nil {
		req = withHeader(req, http.CanonicalHeaderKey(name), []string{strconv.Itoa(op.attempts)})
	}
	if op.upload == nil && op.idempotent {
		return req, nil
	}
	own := req.Context()
	if !op.idempotent || op.upload.Once() {
		own = op.watch(own)
	}
	req = req.WithContext(own)
	if op.upload != nil {
		upload := op.upload
		again := func() (io.ReadCloser, error) { return upload.Next(ctx) }
		body, err := again()
		if err != nil {
			return nil, err
		}
		req.Body, req.GetBody = body, again // base may repeat a request that the server did not process
	}
	return req, nil
}

// send sends req within ctx. If there is an AttemptTimeout or a HeadTimeout, ctx limits the time to the head of the response only: the
// caller reads the body after the attempt.
func (op *operation) send(ctx context.Context, req *http.Request) (*http.Response, error) {
	if op.route.policy.AttemptTimeout == 0 && op.head == nil {
		return op.roundTrip(req)
	}
	own, cancel := context.WithCancelCause(req.Context())
	stop := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	res, err := op.roundTrip(req.WithContext(own))
	if !stop() && err == nil {
		if res.Body != nil {
			res.Body.Close()
		}
		err = context.Cause(ctx)
	}
	if err != nil && req.Context().Err() == nil && errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		err = op.late(req, err)
	}
	switch {
	case err != nil:
		cancel(err)
		return nil, err
	case res.Body == nil || res.Body == http.NoBody: // callers compare Body with NoBody, so it must not be wrapped
		cancel(nil)
	case res.StatusCode != http.StatusSwitchingProtocols: // its body is a connection, which lives as long as the caller's context
		res.Body = &ownBody{ReadCloser: res.Body, cancel: cancel}
	}
	return res, nil
}

// late returns the error of an attempt that had no response within the AttemptTimeout or the HeadTimeout.
func (op *operation) late(req *http.Request, err error) error {
	what, limit := "attempt timeout", op.route.policy.AttemptTimeout
	if op.head.expired() {
		what, limit = "HeadTimeout", op.head.limit
	}
	return fmt.Errorf("no response from %s within the %s of %v: %w", req.URL.Host, what, limit, err)
}

// roundTrip sends req by the base, and a second time if the response is late and req may be hedged.
func (op *operation) roundTrip(req *http.Request) (*http.Response, error) {
	base, original := op.transport.base, op.original
	if op.route.hedger == nil || op.upload != nil || method(req) != http.MethodGet && req.Method != http.MethodHead ||
		req.Header.Get("Upgrade") != "" { // its response is a connection, which must not be wrapped
		return pass(base, req, original)
	}
	return op.route.hedger.Do(req.Context(), func(ctx context.Context) (*http.Response, error) {
		return pass(base, req.WithContext(ctx), original)
	}, discard, op.route.series())
}

// pass sends req by base. The Request of the response is the caller's: a caller may send that again, without the headers
// and the attempt's context of our copy.
func pass(base http.RoundTripper, req, original *http.Request) (*http.Response, error) {
	res, err := base.RoundTrip(req)
	return received(base, req, original, res, err)
}

// received returns what base returned for req, as pass does.
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
	case res.Request == nil, res.Request == req, isCopy(res, req): // only http.Transport promises to set Request
		res.Request = original
	}
	return res, nil
}

// isCopy reports whether the request of res is a base's copy of req: neither a redirected request nor one with the mark of
// an inner Transport.
func isCopy(res *http.Response, req *http.Request) bool {
	r, e := res.Request, endOf(res)
	return e.err == nil && !e.unverifiable && r.Method == req.Method && r.URL != nil && req.URL != nil &&
		(r.URL == req.URL || r.URL.String() == req.URL.String())
}

// body returns the request's body in a form that can be sent again, or nil without a body. The body of a request that is
// not idempotent is not kept: once the body was read, the request may have left and is not repeated.
func (op *operation) body() *upload.Body {
	if op.req.Body == nil || op.req.Body == http.NoBody {
		return nil
	}
	o := &op.transport.options
	memory, limit := o.BufferLimit, o.SpoolLimit
	if memory == 0 {
		memory = defaultBufferLimit
	}
	if limit == 0 {
		limit = defaultSpoolLimit
	}
	if !op.idempotent {
		memory, limit = 0, 0
	}
	u := upload.New(op.req, spool.Spool{Memory: max(memory, 0), Limit: max(limit, 0), Quota: op.transport.spooled})
	if op.head != nil {
		u.OnNew = op.head.extend
	}
	return u
}

// withHeader returns a copy of req with one more header; name must be in its canonical form.
func withHeader(req *http.Request, name string, values []string) *http.Request {
	h := maps.Clone(req.Header)
	h[name] = values
	req = req.WithContext(req.Context())
	req.Header = h
	return req
}

// An ownBody ends the context of its response when it is closed.
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

// ended returns why the caller of req has stopped waiting: its context has ended, or its Cancel channel is closed. An
// http.Client closes that channel at its Timeout, beside setting a deadline. If neither has happened, ended returns nil.
func ended(req *http.Request) error {
	ctx := req.Context()
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-req.Cancel: //nolint:staticcheck // deprecated, but net/http still honors it
	default:
		return nil
	}
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return context.Canceled
}

// withCancel returns a context that ends when ended is not nil. The caller must call release.
func withCancel(req *http.Request) (ctx context.Context, release func()) {
	if req.Cancel == nil { //nolint:staticcheck // as above
		return req.Context(), func() {}
	}
	c := &cancelContext{Context: req.Context(), req: req}
	return c, c.release
}

// A cancelContext is the context of a request with a Cancel channel. The first call of Done starts a goroutine.
type cancelContext struct {
	context.Context //nolint:containedctx // it is a context

	req  *http.Request
	once sync.Once
	both context.Context //nolint:containedctx // ends with the first of the two; nil before Done
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
