package httpretry

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/seed-0f2c7998/perdure/httpretry/internal/unzip"
	"github.com/seed-0f2c7998/perdure/httpretry/internal/upload"
	"github.com/seed-0f2c7998/perdure/retry"
)

// An exchange is one request on its way through its attempts. What outlives it must not keep a pointer to it, so that it
// costs no memory of its own.
type exchange struct {
	transport  *Transport
	lane       *lane
	asked      *http.Request // the caller's, or a copy that says the same for it; not to be changed
	req        *http.Request // asked, or a copy that asks for gzip
	idempotent bool
	stream     *stream       // for the body of the answer; nil: it will not be resumed
	zipped     bool          // we asked for gzip, and the caller did not
	upload     *upload.Body  // nil: the request has no body
	trace      *atomic.Int32 // how far the attempt came, one of the values below; nil while nobody has to know
	attempts   int
	last       error // of the attempt before, as it was
	unmarked   error // with which the exchange ends, and the same marked
	marked     error
	began      time.Time // if the policy has a MaxElapsed
}

// How far an attempt came. A base that tells nothing may have sent the request.
const (
	untold     = iota
	connecting // a connection is looked for: nothing has left
	connected  // from here on the request may have reached the server
)

// body returns the request's body, as something that can be sent again; nil if there is none. That of a request which is
// repeated only if it never left need not be kept: if it was read, it may have left.
func (e *exchange) body() *upload.Body {
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

// prepare readies what the attempts share.
func (e *exchange) prepare() {
	e.upload = e.body()
	if e.lane.policy.MaxElapsed > 0 {
		e.began = time.Now()
	}
	if ctx := e.req.Context(); ctx.Value(endKey{}) != nil { // the request is that of another answer
		e.req = e.req.WithContext(context.WithValue(ctx, endKey{}, end{}))
	}
	h := e.req.Header
	if e.transport.options.IdempotencyKeys && (e.req.Method == http.MethodPost || e.req.Method == http.MethodPatch) && !e.idempotent && h != nil {
		e.idempotent = true
		e.req = withHeader(e.req, "Idempotency-Key", []string{strconv.Quote(rand.Text())})
	}
	e.asked = e.req
	if !e.transport.options.NoResume && e.upload == nil && method(e.req) == http.MethodGet {
		e.stream = new(stream)
		e.askForGzip()
	}
}

// askForGzip asks for it as the base would by itself, unless the caller has other wishes: the base would take the coding
// off below the stream, and the rest could not be asked for.
func (e *exchange) askForGzip() {
	h := e.req.Header
	if e.transport.gzip == nil || h == nil || h["Accept-Encoding"] != nil || h["Range"] != nil {
		return
	}
	e.zipped = true
	own := &e.stream.own
	*own = *e.req
	own.Header = maps.Clone(h)
	own.Header["Accept-Encoding"] = e.transport.gzip
	e.req = own
}

// withHeader returns a copy of req with another header; name is in its canonical form.
func withHeader(req *http.Request, name string, values []string) *http.Request {
	h := maps.Clone(req.Header)
	h[name] = values
	req = req.WithContext(req.Context())
	req.Header = h
	return req
}

// attempt sends the request once. A status from 400 on is an error, and comes with its answer.
func (e *exchange) attempt(ctx context.Context) (*http.Response, error) {
	req, err := e.request()
	if err != nil {
		return nil, e.final(e.gone(err))
	}
	res, err := e.send(ctx, req)
	if err != nil {
		return nil, e.failed(err)
	}
	if res.Body == nil { // only http.Transport promises that there is one
		res.Body = http.NoBody
	}
	if res.StatusCode < http.StatusBadRequest {
		return res, nil
	}
	if ended := Ended(res); ended != nil {
		res.Request = e.asked // giveUp will tell of it
		return res, ended     // a Transport further in has given up on it
	}
	return res, e.refused(res)
}

// request returns the request of one attempt: the caller's own, unless something has to be different in it.
func (e *exchange) request() (*http.Request, error) {
	e.attempts++
	req := e.req
	if name := e.transport.options.AttemptHeader; name != "" && req.Header != nil {
		req = withHeader(req, http.CanonicalHeaderKey(name), []string{strconv.Itoa(e.attempts)})
	}
	if e.upload == nil && e.idempotent {
		return req, nil
	}
	ctx := req.Context()
	if !e.idempotent {
		ctx = e.watch(ctx)
	}
	req = req.WithContext(ctx)
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

// watch returns a context that finds out whether the request leaves.
func (e *exchange) watch(ctx context.Context) context.Context {
	trace := new(atomic.Int32)
	e.trace = trace
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { trace.Store(connecting) }, // net/http comes back for another only if nothing has left
		GotConn: func(httptrace.GotConnInfo) { trace.Store(connected) },
	})
}

// send makes the attempt within ctx. If that ends with the attempt rather than with the operation, it bounds the time
// to the answer's head only: the body is read when the attempt is long over.
func (e *exchange) send(ctx context.Context, req *http.Request) (*http.Response, error) {
	if e.lane.policy.AttemptTimeout == 0 {
		return e.roundTrip(req)
	}
	own, cancel := context.WithCancelCause(req.Context())
	stop := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	res, err := e.roundTrip(req.WithContext(own))
	if !stop() && err == nil {
		res.Body.Close()
		err = context.Cause(ctx)
	}
	switch {
	case err != nil:
		cancel(err)
		return nil, err
	case res.StatusCode != http.StatusSwitchingProtocols: // whose body is a connection, which lives as long as the caller's context
		res.Body = &ownBody{ReadCloser: res.Body, cancel: cancel}
	}
	return res, nil
}

// roundTrip has the base send req, twice if it is slow and may be hedged.
func (e *exchange) roundTrip(req *http.Request) (*http.Response, error) {
	base, asked := e.transport.base, e.asked
	if e.lane.hedger == nil || e.upload != nil || method(req) != http.MethodGet && req.Method != http.MethodHead ||
		req.Header.Get("Upgrade") != "" { // it is to bring a connection, which nothing may wrap
		return pass(base, req, asked)
	}
	return e.lane.hedger.Do(req.Context(), func(ctx context.Context) (*http.Response, error) {
		return pass(base, req.WithContext(ctx), asked)
	}, discard)
}

// pass has base send req. Its answer is one to the caller's request: who sends that again wants none of what we have put
// into a copy, and has no context that ended with the attempt.
func pass(base http.RoundTripper, req, asked *http.Request) (*http.Response, error) {
	res, err := base.RoundTrip(req)
	switch {
	case err != nil:
		return nil, err
	case res == nil:
		return nil, retry.Permanent(fmt.Errorf("httpretry: %T returned neither an answer nor an error", base))
	case res.Request == req || res.Request == nil: // only http.Transport promises that there is one
		res.Request = asked
	}
	return res, nil
}

// An ownBody ends the context that its answer was had with.
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

// failed returns the error of an attempt without an answer, marked if the request can't be or must not be repeated.
func (e *exchange) failed(err error) error {
	e.last = err
	switch {
	case e.upload.Broken() != nil || isMalformed(e.req):
		return e.final(&callersError{err})
	case !e.idempotent && e.trace.Load() != connecting && !isRefusedStream(err):
		return e.final(&onceError{err: err, why: ErrNotIdempotent})
	case errors.Is(err, context.Canceled) && e.req.Context().Err() == nil:
		// Of another request: net/http may hand out a connection that one had, and then close it as that is cancelled.
		err = retry.Transient(err)
	}
	return e.rewindable(err)
}

// refused returns the error that stands for an answer from 400 on.
func (e *exchange) refused(res *http.Response) error {
	err := newStatusError(res, e.req)
	under := res.StatusCode == http.StatusConflict && e.last != nil && e.req.Header.Get("Idempotency-Key") != ""
	e.last = err
	if under {
		return retry.Transient(err) // the request with this key whose answer we did not get is still under way
	}
	if class, _ := e.lane.policy.ClassOf(err); class != retry.ClassTransient && class != retry.ClassThrottled {
		return err
	}
	err.wait, err.asks = e.transport.hint(res, time.Now())
	if !e.idempotent {
		return e.final(&onceError{err: err, why: ErrNotIdempotent})
	}
	return e.rewindable(err)
}

// gone returns the error of an attempt that could not be made, because its body can't be had again; what was wrong
// with the attempt before is what the caller wants to know of.
func (e *exchange) gone(err error) error {
	if e.last != nil && errors.Is(err, ErrBody) {
		return &onceError{err: e.last, why: err}
	}
	return &callersError{err}
}

// rewindable returns err, marked if the request's body can't be sent again.
func (e *exchange) rewindable(err error) error {
	if e.upload.Spent() {
		return e.final(&onceError{err: err, why: ErrBody})
	}
	return err
}

// final returns err, marked so that no attempt follows. What a breaker learns is up to err's class.
func (e *exchange) final(err error) error {
	e.unmarked, e.marked = err, retry.Final(err)
	if own, ok := err.(*callersError); ok { //nolint:errorlint // as failed made it
		e.unmarked = own.err
	}
	return e.marked
}

// giveUp returns what the caller gets in the end: the last answer, unread, with the reason why it is the last; or, if
// there is none or it was given up for an attempt that was then not made, that reason as the error.
func (e *exchange) giveUp(res *http.Response, err error) (*http.Response, error) {
	if err == e.marked { //nolint:errorlint // as final made it
		err = e.unmarked
	}
	status, ok := errors.AsType[*StatusError](err)
	if res == nil || ok && status.answer == nil {
		return nil, err
	}
	if e.req.Context().Err() != nil {
		discard(res.Body)
		return nil, err
	}
	if err != error(status) { //nolint:errorlint // a status that is not worth a retry has nothing to tell
		res = with(res, end{err: err})
	}
	return e.unzipped(res), nil
}

// unzipped takes off the coding that we asked for and the caller did not.
func (e *exchange) unzipped(res *http.Response) *http.Response {
	if e.zipped {
		unzip.Response(res)
	}
	return res
}
