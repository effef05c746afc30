package grpcretry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
)

// An operation is one call with all its attempts.
type operation struct {
	route    *route
	policy   retry.Policy // this call's own copy, which a pushback changes for one decision
	counter  *Counter
	attempts int
}

// begin begins an attempt.
func (op *operation) begin() {
	op.attempts++
	if op.attempts > 1 {
		op.policy = op.route.policy
	}
}

// context returns the context with which attempt n is sent.
func (op *operation) context(ctx context.Context, n int) context.Context {
	if n > 1 {
		md, ok := metadata.FromOutgoingContext(ctx) // a copy
		if !ok {
			md = make(metadata.MD)
		}
		md.Set("grpc-previous-rpc-attempts", strconv.Itoa(n-1))
		ctx = metadata.NewOutgoingContext(ctx, md)
	}
	return op.counter.tag(ctx)
}

// failed returns the error of an attempt for the policy. caller is the context of the
// operation, attempt that of the attempt.
func (op *operation) failed(caller, attempt context.Context, err error, got *result) error {
	if err == io.EOF { //nolint:errorlint // as gRPC returns it if the stream was reset while the request was being sent
		err = status.Error(codes.Unavailable, "the stream ended while the request was being sent")
		got.cut = true
	}
	e := newAttemptError(err)
	e.awaitEnd(caller)
	if caller.Err() == nil && attempt.Err() != nil && e.isEnd() {
		e.class, e.timedOut = retry.ClassTransient, true
	}
	return op.obey(e, got)
}

// obey returns e with what the server asked for.
func (op *operation) obey(e *attemptError, got *result) error {
	wait, asked := pushback(got.trailer)
	switch {
	case asked && wait < 0:
		return retry.Final(e)
	case op.route.once && (got.peer.Addr != nil || got.cut):
		return retry.Final(e) // the server may have received the call
	case asked && !op.policy.IgnoreRetryAfter:
		e.wait = wait
		op.withoutBackoff()
	case !asked:
		e.wait = retryInfo(e.status)
	}
	return e
}

// withoutBackoff lets the server's wait alone decide about the next delay.
func (op *operation) withoutBackoff() {
	op.policy.BaseDelay, op.policy.ThrottleDelay = time.Nanosecond, time.Nanosecond
	if op.policy.Jitter != retry.NoJitter {
		op.policy.JitterMode = retry.FullJitter
	}
}

// An attemptError is the error of an attempt for the policy. The caller gets err.
type attemptError struct {
	err      error
	status   *status.Status
	class    retry.Class
	wait     time.Duration
	timedOut bool
	note     error // why the call is not repeated; may be nil
}

func newAttemptError(err error) *attemptError {
	s := status.Convert(err)
	return &attemptError{err: err, status: s, class: classOf(s)}
}

func (e *attemptError) Error() string { return e.err.Error() }
func (e *attemptError) Unwrap() error { return e.err }

// ErrorCode returns the name of the code, for Policy.RetryOn.
func (e *attemptError) ErrorCode() string { return codeName(e.status.Code()) }

func (e *attemptError) RetryAfter() (time.Duration, bool) { return e.wait, e.wait > 0 }

func (e *attemptError) Timeout() bool {
	return e.timedOut || e.status.Code() == codes.DeadlineExceeded
}

// isEnd reports whether the error may come from the end of a context.
func (e *attemptError) isEnd() bool {
	c := e.status.Code()
	return c == codes.DeadlineExceeded || c == codes.Canceled
}

// awaitEnd waits until ctx, that of the operation, has ended if its deadline has passed: the server has the same deadline, and
// its timer may be the first. Else the end would count as a failure of the server.
func (e *attemptError) awaitEnd(ctx context.Context) {
	deadline, ok := ctx.Deadline()
	if ok && e.isEnd() && !time.Now().Before(deadline) {
		<-ctx.Done()
	}
}

// classifier returns a Policy.Classify: own first, then the table of codes.
func classifier(own func(error) retry.Class) func(error) retry.Class {
	return func(err error) retry.Class {
		e, ok := errors.AsType[*attemptError](err)
		if own != nil {
			if ok {
				err = e.err
			}
			if c := own(err); c != retry.ClassUnknown {
				return c
			}
		}
		if !ok {
			return retry.ClassUnknown
		}
		return e.class
	}
}

// public returns err, the result of an operation with the context ctx, for the caller:
// with a status, and without attemptErrors.
func public(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	ended := ctx.Err()
	if e, ok := err.(*retry.Error); ok { //nolint:errorlint // as package retry makes it
		e.Last = plain(e.Last)
		if ended != nil && (e.Reason == retry.ReasonCancelled || e.Reason == retry.ReasonDeadline) {
			return &statusError{err, status.FromContextError(ended).Code()}
		}
		return e
	}
	if p := plain(err); p != err { //nolint:errorlint // compares
		return p
	}
	if _, refused := errors.AsType[*circuit.OpenError](err); refused {
		return &statusError{err, codes.Unavailable}
	}
	if _, refused := errors.AsType[*circuit.LimitError](err); refused {
		return &statusError{err, codes.Unavailable}
	}
	if ended != nil {
		return &statusError{err, status.FromContextError(ended).Code()}
	}
	return err
}

// plain returns the error that gRPC returned, and why it was not retried if the policy
// would have.
func plain(err error) error {
	e, ok := errors.AsType[*attemptError](err)
	if !ok {
		return err
	}
	if e.note != nil {
		return &statusError{fmt.Errorf("%w (%w)", e.err, e.note), e.status.Code()}
	}
	return e.err
}

// A statusError is an error with a code.
type statusError struct {
	error

	code codes.Code
}

func (e *statusError) Unwrap() error { return e.error }

// GRPCStatus is for package status.
func (e *statusError) GRPCStatus() *status.Status { return status.New(e.code, e.Error()) }
