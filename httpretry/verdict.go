package httpretry

import (
	"context"
	"net/http"
	"time"

	"github.com/seed-0f2c7998/perdure/httpretry/internal/shown"
	"github.com/seed-0f2c7998/perdure/httpretry/internal/unzip"
	"github.com/seed-0f2c7998/perdure/internal/unwrap"
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

// giveUp returns what the caller gets in the end: the last response, unread, with the reason why it is the last; or, if
// there is none or it was given up for an attempt that was then not made, that reason as the error.
func (e *operation) giveUp(res *http.Response, err error) (*http.Response, error) {
	if err == e.marked { //nolint:errorlint // as callersFault made it
		err = e.unmarked
	}
	if once, ok := err.(*notRepeatable); ok { //nolint:errorlint // a *retry.Error has the breaker itself
		once.countedBy = e.route.policy.Breaker
	}
	status, ok := unwrap.As[*StatusError](err)
	if res == nil || ok && status.response == nil {
		return nil, err
	}
	if ended(e.req) != nil {
		discard(res.Body)
		return nil, err
	}
	if err != error(status) { //nolint:errorlint // a status that is not worth a retry has nothing to tell
		res = with(res, end{err: err})
	}
	if e.req != e.original {
		unzip.Response(res)
	}
	return res, nil
}
