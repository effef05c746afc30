package httpretry

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/httpretry/internal/shown"
	"github.com/seed-0f2c7998/perdure/internal/neterr"
	"github.com/seed-0f2c7998/perdure/internal/unwrap"
	"github.com/seed-0f2c7998/perdure/internal/viaproxy"
	"github.com/seed-0f2c7998/perdure/retry"
)

// classify returns what an attempt has brought, as attempt does.
func (e *operation) classify(res *http.Response, err error) (*http.Response, error) {
	if err != nil {
		return nil, e.failed(err)
	}
	if res.Body == nil { // only http.Transport promises that there is one
		res.Body = http.NoBody
	}
	if reason := GaveUp(res); reason != nil {
		res.Request = e.original // giveUp will tell of it
		return res, reason       // a Transport further in has given up on it
	}
	class := e.transport.classify(res)
	if res.StatusCode < http.StatusBadRequest && class == retry.ClassUnknown {
		return res, nil
	}
	return res, e.statusError(res, class)
}

// failed returns the error of an attempt without a response, marked if the request can't be or must not be repeated.
func (e *operation) failed(err error) error {
	err = shown.Error(err, e.req)
	e.last = err
	switch {
	case e.upload.Broken() != nil || isMalformed(e.req):
		return e.callersFault(err)
	case !e.idempotent && e.mayHaveLeft() && !isRefusedStream(err):
		return e.notRepeatable(err, ErrNotIdempotent)
	case unwrap.Is(err, context.Canceled) && ended(e.req) == nil:
		// Of another request: net/http may hand out a connection that one had, and then close it as that is cancelled.
		err = retry.Transient(err)
	}
	return e.rewindable(err)
}

// statusError returns the error that stands for a response from 400 on, or one that Options.Classify has given a class.
func (e *operation) statusError(res *http.Response, class retry.Class) error {
	err := newStatusError(res, e.req)
	err.class = class
	under := class == retry.ClassUnknown && res.StatusCode == http.StatusConflict && e.last != nil && e.req.Header.Get("Idempotency-Key") != ""
	e.last = err
	if under {
		return retry.Transient(err) // the request with this key whose response we did not get is still under way
	}
	if class, _ = e.route.policy.ClassOf(err); class == retry.ClassPermanent || class == retry.ClassIgnored || class == retry.ClassUnknown {
		return err
	}
	err.wait, err.asks = e.transport.hint(res, time.Now())
	if !e.idempotent {
		return e.notRepeatable(err, ErrNotIdempotent)
	}
	return e.rewindable(err)
}

// bodyGone returns the error of an attempt that could not be made, because its body can't be had again; what was wrong
// with the attempt before is what the caller wants to know of.
func (e *operation) bodyGone(err error) error {
	if e.last != nil && unwrap.Is(err, ErrBody) {
		return e.notRepeatable(e.last, err)
	}
	return e.callersFault(err)
}

// rewindable returns err, marked if the request's body can't be sent again.
func (e *operation) rewindable(err error) error {
	if e.upload.Spent() {
		return e.notRepeatable(err, ErrBody)
	}
	return err
}

// notRepeatable returns err, marked so that no attempt follows. What a breaker learns is up to err's class.
func (e *operation) notRepeatable(err, why error) error {
	return &notRepeatable{err: retry.Final(err), why: why}
}

// callersFault returns err, marked so that no attempt follows and no breaker learns of it. The caller gets err itself.
func (e *operation) callersFault(err error) error {
	e.unmarked, e.marked = err, retry.Final(&requestError{err})
	return e.marked
}

// classify returns what the Options say of res.
func (t *Transport) classify(res *http.Response) retry.Class {
	if t.options.Classify == nil {
		return retry.ClassUnknown
	}
	defer hideBody(res)()
	return t.options.Classify(res)
}

// hint returns the wait that a response asks for.
func (t *Transport) hint(res *http.Response, received time.Time) (time.Duration, bool) {
	if ask := t.options.RetryAfter; ask != nil {
		restore := hideBody(res)
		d, ok := ask(res)
		restore()
		if ok {
			return d, true
		}
	}
	if d, ok := RetryAfter(res.Header, received); ok {
		return d, true
	}
	if res.StatusCode != http.StatusTooManyRequests && res.StatusCode != http.StatusServiceUnavailable {
		return 0, false
	}
	return RateLimit(res.Header, received)
}

// hideBody takes the body off res, for a hook that must not read what the caller is to get, until restore is called.
func hideBody(res *http.Response) (restore func()) {
	body := res.Body
	res.Body = http.NoBody
	return func() { res.Body = body }
}

// classifier returns the Classify that asks the Options', the user's own and then ours.
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

// classOf returns what a transport's error means for an idempotent request that is well formed: whatever is not known
// to be there the next time may pass. ClassUnknown leaves statuses, timeouts and the caller's own end to package retry.
func classOf(err error) retry.Class {
	if status, ok := unwrap.As[*StatusError](err); ok {
		if status.Status == http.StatusProxyAuthRequired { // to an http URL; says nothing of the server
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

// Idempotent returns a context whose requests may be repeated whatever their method is: the caller promises that twice
// does no more than once.
func Idempotent(ctx context.Context) context.Context {
	return context.WithValue(ctx, idempotentKey{}, true)
}

// isIdempotent reports whether req may be repeated although it may have been processed.
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

// A streamError is the bundled http2.StreamError of net/http, which lets itself be had as any type with these fields.
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (e streamError) Error() string { return fmt.Sprintf("http2: stream error %d", e.Code) }

// isRefusedStream reports whether an HTTP/2 server has said that it has not looked at the request (RFC 9113, 8.7).
func isRefusedStream(err error) bool {
	const refusedStream = 7
	e, ok := unwrap.As[streamError](err)
	return ok && e.Code == refusedStream
}

// isMalformed reports whether no transport can send req, so that another attempt has no sense either.
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

// notToken reports whether r may not be in a token (RFC 9110, section 5.6.2).
func notToken(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
}

// isControl reports whether r may not be in the value of a field.
func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }
