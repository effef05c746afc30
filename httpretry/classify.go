package httpretry

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/neterr"
	"github.com/seed-0f2c7998/perdure/internal/shown"
	"github.com/seed-0f2c7998/perdure/internal/unwrap"
	"github.com/seed-0f2c7998/perdure/internal/viaproxy"
	"github.com/seed-0f2c7998/perdure/retry"
)

// classify returns the result of an attempt, as attempt does: a response without an error is a success.
func (op *operation) classify(res *http.Response, err error) (*http.Response, error) {
	if err != nil {
		return nil, op.failed(err)
	}
	if res.Body == nil { // only http.Transport promises to set Body
		res.Body = http.NoBody
	}
	if reason := GaveUp(res); reason != nil {
		res.Request = op.original // giveUp will mark it
		return res, reason        // an inner Transport has given up
	}
	class := op.transport.classify(res)
	if res.StatusCode < http.StatusBadRequest && class == retry.ClassUnknown {
		return res, nil
	}
	return res, op.statusError(res, class)
}

// failed returns the error of an attempt without a response, marked if the request cannot or must not be repeated.
func (op *operation) failed(err error) error {
	err = shown.Error(err, op.req)
	op.last = err
	switch {
	case op.upload.Broken() != nil || isMalformed(op.req):
		return op.requestFailed(err)
	case !op.idempotent && op.mayHaveLeft() && !isRefusedStream(err):
		return op.notRepeatable(err, ErrNotIdempotent)
	case unwrap.Is(err, context.Canceled) && ended(op.req) == nil:
		// Another request was canceled: net/http may reuse its connection here, and then close it.
		err = retry.Transient(err)
	}
	return op.rewindable(err)
}

// statusError returns the error of a response with a status of 400 or above, or with a class from Options.Classify.
func (op *operation) statusError(res *http.Response, class retry.Class) error {
	err := newStatusError(res, op.req)
	err.class = class
	pending := class == retry.ClassUnknown && res.StatusCode == http.StatusConflict && op.last != nil && op.req.Header.Get("Idempotency-Key") != ""
	op.last = err
	if pending {
		return retry.Transient(err) // an earlier attempt with this Idempotency-Key, whose response was lost, is still being processed
	}
	if class, _ = op.route.policy.ClassOf(err); class == retry.ClassPermanent || class == retry.ClassIgnored || class == retry.ClassUnknown {
		return err
	}
	err.hint, err.hasHint = op.transport.hint(res, time.Now())
	if !op.idempotent {
		return op.notRepeatable(err, ErrNotIdempotent)
	}
	return op.rewindable(err)
}

// bodyGone returns the error of an attempt whose request body cannot be sent again. If an earlier attempt failed, that
// failure is the error.
func (op *operation) bodyGone(err error) error {
	if op.last != nil && unwrap.Is(err, ErrBody) {
		return op.notRepeatable(op.last, err)
	}
	return op.requestFailed(err)
}

// rewindable returns err, marked if the request's body cannot be sent again.
func (op *operation) rewindable(err error) error {
	if op.upload.Spent() {
		return op.notRepeatable(err, ErrBody)
	}
	return err
}

// notRepeatable returns err, marked so that no attempt follows. The breaker counts err by its class.
func (op *operation) notRepeatable(err, why error) error {
	return &notRepeatable{err: retry.Final(err), why: why}
}

// requestFailed returns err, marked so that no attempt follows and no breaker counts it. The caller gets err itself.
func (op *operation) requestFailed(err error) error {
	op.unmarked, op.marked = err, retry.Final(&requestError{err})
	return op.marked
}

// classify returns the class that Options.Classify gives to res.
func (t *Transport) classify(res *http.Response) retry.Class {
	if t.options.Classify == nil {
		return retry.ClassUnknown
	}
	defer hideBody(res)()
	return t.options.Classify(res)
}

// hint returns the wait that the server asks for in res, and whether it asks for one.
func (t *Transport) hint(res *http.Response, received time.Time) (time.Duration, bool) {
	if hint := t.options.RetryAfter; hint != nil {
		restore := hideBody(res)
		d, ok := hint(res)
		restore()
		if ok {
			return d, true
		}
	}
	if d, ok := RetryAfter(res.Header, received); ok {
		return d, true
	}
	if retry.StatusClass(res.StatusCode) != retry.ClassThrottled && res.StatusCode != http.StatusServiceUnavailable {
		return 0, false
	}
	return RateLimit(res.Header, received)
}

// hideBody replaces the body of res by an empty one until restore is called: a hook must not read the caller's body.
func hideBody(res *http.Response) (restore func()) {
	body := res.Body
	res.Body = http.NoBody
	return func() { res.Body = body }
}

// classifier returns a Classify that uses the class from Options.Classify, else user's, else this package's.
func classifier(user func(error) retry.Class) func(error) retry.Class {
	return func(err error) retry.Class {
		if status, ok := unwrap.As[*StatusError](err); ok && status.class != retry.ClassUnknown {
			return status.class
		}
		if user != nil {
			if c := user(err); c != retry.ClassUnknown {
				return c
			}
		}
		return classOf(err)
	}
}

// classOf returns the class of a transport's error for an idempotent, well-formed request: Transient, unless the error is
// known to be permanent. ClassUnknown leaves statuses, timeouts and the caller's cancellation to package retry.
func classOf(err error) retry.Class {
	if status, ok := unwrap.As[*StatusError](err); ok {
		if status.Status == http.StatusProxyAuthRequired { // from a proxy for an http URL: not the server's
			return retry.ClassIgnored
		}
		return retry.ClassUnknown
	}
	if _, ok := unwrap.As[*retry.Error](err); ok {
		return retry.ClassUnknown
	}
	if proxy, ok := unwrap.As[*ProxyError](err); ok {
		return retry.Class(viaproxy.Class(proxy.Status))
	}
	switch {
	case is[*requestError](err):
		return retry.ClassIgnored
	case unwrap.Is(err, context.Canceled), unwrap.Is(err, context.DeadlineExceeded):
		return retry.ClassUnknown
	case neterr.IsPermanent(err), unwrap.Is(err, http.ErrSchemeMismatch), is[*LimitError](err):
		return retry.ClassPermanent
	}
	return retry.ClassTransient
}

func is[E error](err error) bool {
	_, ok := unwrap.As[E](err)
	return ok
}

type idempotentKey struct{}

// Idempotent returns a context whose requests may be repeated regardless of their method: the caller promises that a request
// processed twice has the effect of one.
func Idempotent(ctx context.Context) context.Context {
	return context.WithValue(ctx, idempotentKey{}, true)
}

// isIdempotent reports whether req may be repeated after the server may have processed it.
func isIdempotent(req *http.Request) bool {
	switch req.Method {
	case "", "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY":
		return true
	}
	if req.Header.Get("Idempotency-Key") != "" || req.Header.Get("X-Idempotency-Key") != "" {
		return true
	}
	promised, _ := req.Context().Value(idempotentKey{}).(bool)
	return promised
}

func method(req *http.Request) string {
	if req.Method == "" {
		return http.MethodGet
	}
	return req.Method
}

// A streamError has the fields of the http2.StreamError in net/http, whose As method sets any struct with these fields.
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (e streamError) Error() string { return fmt.Sprintf("http2: stream error %d", e.Code) }

// isRefusedStream reports whether an HTTP/2 server has refused the request without processing it (RFC 9113, 8.7).
func isRefusedStream(err error) bool {
	const refusedStream = 7
	e, ok := unwrap.As[streamError](err)
	return ok && e.Code == refusedStream
}

// isMalformed reports whether no transport can send req, so another attempt is useless.
func isMalformed(req *http.Request) bool {
	return req.URL == nil || req.Header == nil || req.URL.Host == "" ||
		req.URL.Scheme != "http" && req.URL.Scheme != "https" ||
		strings.ContainsFunc(req.Method, notToken) || hasBadField(req.Header) || hasBadField(req.Trailer)
}

func hasBadField(h http.Header) bool {
	for name, values := range h {
		if name == "" || strings.ContainsFunc(name, notToken) {
			return true
		}
		for _, value := range values {
			if strings.ContainsFunc(value, isControl) {
				return true
			}
		}
	}
	return false
}

// notToken reports whether r is not allowed in a token (RFC 9110, section 5.6.2).
func notToken(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
}

// isControl reports whether r is not allowed in the value of a field.
func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }
