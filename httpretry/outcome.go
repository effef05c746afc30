package httpretry

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/seed-0f2c7998/perdure/httpretry/internal/unzip"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/unwrap"
	"github.com/seed-0f2c7998/perdure/retry"
)

// outcome returns what the caller gets of what the last attempt brought.
func (e *operation) outcome(res *http.Response, err error) (*http.Response, error) {
	if err != nil {
		return e.giveUp(res, err)
	}
	if s := e.stream; s != nil {
		s.transport, s.policy, s.req, s.began = e.transport, e.route.policy, e.req, e.began
	}
	return deliver(res, e.stream, e.req != e.original), nil
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

// deliver returns res as the caller gets it: with a body that s carries on if it breaks, if that can be, and without the
// coding that we have asked for and the caller has not. A nil s carries nothing.
func deliver(res *http.Response, s *stream, zipped bool) *http.Response {
	carried := s != nil && s.attach(res)
	if endsAnywhere(res) && (!carried || s.check == nil) {
		res = with(res, end{unverifiable: true})
	}
	if zipped && (!carried || s.representation.encoding != "") {
		unzip.Response(res)
	}
	return res
}

// An end is what GaveUp and MayBeTruncated return for a response. It is in the context of its request, under endKey,
// where it survives whatever wraps the body.
type end struct {
	err          error
	unverifiable bool
}

type endKey struct{}

// with returns res with what is to be told of it.
func with(res *http.Response, e end) *http.Response {
	if res.Request != nil {
		res.Request = res.Request.WithContext(context.WithValue(res.Request.Context(), endKey{}, e))
	}
	return res
}

func endOf(res *http.Response) end {
	if res == nil || res.Request == nil {
		return end{}
	}
	e, _ := res.Request.Context().Value(endKey{}).(end)
	return e
}

// GaveUp returns why res is the last response to its request although its status is one that is retried: a
// [*retry.Error] with the attempts and, as its RetryAt, when to come back; or an error that is [ErrNotIdempotent] or
// [ErrBody]. Its [StatusError] is that of res. GaveUp returns nil if res is the server's own verdict: a success, or a
// status that is not retried.
//
//	res, err := client.Get(url)
//	if err == nil {
//		err = httpretry.GaveUp(res)
//	}
func GaveUp(res *http.Response) error { return endOf(res).err }

// MayBeTruncated reports whether res's body may be cut without an error from Read: the server marks its end by closing the
// connection only, as HTTP/1.0 does, and sends no digest either.
func MayBeTruncated(res *http.Response) bool { return endOf(res).unverifiable }

// endsAnywhere reports whether nothing but the end of the connection marks that of the body.
func endsAnywhere(res *http.Response) bool {
	return res.ContentLength < 0 && res.ProtoMajor == 1 && len(res.TransferEncoding) == 0 && !res.Uncompressed &&
		res.Body != http.NoBody && res.StatusCode != http.StatusSwitchingProtocols
}

// observer returns the Observe that frees the connection of an unwanted response before the wait, and then calls the user's.
func observer(user func(context.Context, retry.Event)) func(context.Context, retry.Event) {
	return func(ctx context.Context, e retry.Event) {
		if e.Kind == retry.Retrying {
			if status, ok := unwrap.As[*StatusError](e.Err); ok {
				status.discard()
			}
		}
		if user != nil {
			user(ctx, e)
			return
		}
		retry.LogTo(slog.Default())(ctx, e)
	}
}

// How much of an unwanted response is read to keep its connection, and for how long: beyond that, another connection is
// the better bargain.
const (
	drainBytes = 64 << 10
	drainTime  = 50 * time.Millisecond
)

func discard(body io.ReadCloser) {
	timer := time.AfterFunc(drainTime, func() { body.Close() })
	defer timer.Stop()
	defer body.Close()
	_, _ = io.CopyN(io.Discard, body, drainBytes+1) // an error means that the connection is of no use, which Close sees too
}

// holdPlace has the body of res hold the place of the attempt that ctx is for, if its breaker limits the calls in flight: the
// call is in flight until its body has ended or is closed, or the context of the caller's request ends.
func (e *operation) holdPlace(ctx context.Context, res *http.Response) {
	if res.Body == nil || res.Body == http.NoBody || res.StatusCode == http.StatusSwitchingProtocols {
		return
	}
	if free := breakers.KeepPlace(ctx, e.original.Context(), e.route.policy.Breaker); free != nil {
		res.Body = &placedBody{ReadCloser: res.Body, free: free}
	}
}

// A placedBody frees a place when it ends, breaks or is closed.
type placedBody struct {
	io.ReadCloser
	free func() // may be called more than once
}

// Read reads the body.
func (b *placedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.free()
	}
	return n, err
}

// Close closes the body.
func (b *placedBody) Close() error {
	defer b.free()
	return b.ReadCloser.Close()
}
