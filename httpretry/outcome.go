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

// outcome returns what the caller gets of the last attempt's result.
func (op *operation) outcome(res *http.Response, err error) (*http.Response, error) {
	if err != nil {
		return op.giveUp(res, err)
	}
	if s := op.stream; s != nil {
		s.transport, s.policy, s.req, s.began = op.transport, op.route.policy, op.req, op.began
	}
	return deliver(res, op.stream, op.req != op.original), nil
}

// giveUp returns what the caller gets after the last attempt: its response, unread, marked with the reason why no attempt
// followed; or that reason as the error, if there is no response or its body was discarded for an attempt that was not made.
func (op *operation) giveUp(res *http.Response, err error) (*http.Response, error) {
	if err == op.marked { //nolint:errorlint // the very error that requestFailed made
		err = op.unmarked
	}
	if once, ok := err.(*notRepeatable); ok { //nolint:errorlint // a *retry.Error has the breaker itself
		once.countedBy = op.route.policy.Breaker
	}
	status, ok := unwrap.As[*StatusError](err)
	if res == nil || ok && status.response == nil {
		return nil, err
	}
	if ended(op.req) != nil {
		discard(res.Body)
		return nil, err
	}
	if err != error(status) { //nolint:errorlint // a status that is not retried needs no reason
		res = mark(res, end{err: err})
	}
	if op.req != op.original {
		unzip.Response(res)
	}
	return res, nil
}

// deliver returns res as the caller gets it: with a body that s resumes if it breaks and can be resumed (never if s is
// nil), and decoded if zipped, which says that this package requested gzip.
func deliver(res *http.Response, s *stream, zipped bool) *http.Response {
	attached := s != nil && s.attach(res)
	if endsWithConnection(res) && (!attached || s.check == nil) {
		res = mark(res, end{unverifiable: true})
	}
	if zipped && (!attached || s.representation.encoding != "") {
		unzip.Response(res)
	}
	return res
}

// An end has the results of GaveUp and MayBeTruncated for a response. It is in the context of the response's request, under
// endKey: there a wrapper of the body does not hide it.
type end struct {
	err          error
	unverifiable bool
}

type endKey struct{}

// mark returns res with e in the context of its request.
func mark(res *http.Response, e end) *http.Response {
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

// GaveUp returns why no attempt followed res although its status is retried: a [*retry.Error] with the number of attempts
// and, as its RetryAt, when to try again; or an error in which errors.Is finds [ErrNotIdempotent] or [ErrBody]. In both,
// errors.As finds the [StatusError] of res. GaveUp returns nil for a success and for a status that is not retried.
//
//	res, err := client.Get(url)
//	if err == nil {
//		err = httpretry.GaveUp(res)
//	}
func GaveUp(res *http.Response) error { return endOf(res).err }

// MayBeTruncated reports whether res's body may be cut without an error from Read: the server marks the end of the body only
// by closing the connection, as HTTP/1.0 does, and sends no digest.
func MayBeTruncated(res *http.Response) bool { return endOf(res).unverifiable }

// endsWithConnection reports whether only the end of the connection marks the end of the body.
func endsWithConnection(res *http.Response) bool {
	return res.ContentLength < 0 && res.ProtoMajor == 1 && len(res.TransferEncoding) == 0 && !res.Uncompressed &&
		res.Body != http.NoBody && res.StatusCode != http.StatusSwitchingProtocols
}

// observer returns an Observe that frees the connection of a failed response before the wait, then calls user or logs.
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

// How much of an unwanted body is read so that its connection can be reused, and for how long: beyond that a new connection
// is cheaper.
const (
	drainBytes = 64 << 10
	drainTime  = 50 * time.Millisecond
)

func discard(body io.ReadCloser) {
	timer := time.AfterFunc(drainTime, func() { body.Close() })
	defer timer.Stop()
	defer body.Close()
	_, _ = io.CopyN(io.Discard, body, drainBytes+1) // after an error the connection is unusable, and Close closes it
}

// holdPlace lets the body of res hold the place of the attempt that ctx is for, if the breaker limits the calls in flight. A
// call is in flight until its body ends or is closed, or the context of the caller's request ends.
func (op *operation) holdPlace(ctx context.Context, res *http.Response) {
	if res.Body == nil || res.Body == http.NoBody || res.StatusCode == http.StatusSwitchingProtocols {
		return
	}
	if free := breakers.KeepPlace(ctx, op.original.Context(), op.route.policy.Breaker); free != nil {
		res.Body = &placedBody{ReadCloser: res.Body, free: free}
	}
}

// A placedBody frees its place when it ends, breaks or is closed.
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
