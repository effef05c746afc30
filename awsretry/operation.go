package awsretry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/seed-0f2c7998/perdure/awsretry/internal/fix"
	"github.com/seed-0f2c7998/perdure/awsretry/internal/sdk"
	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/calls"
	"github.com/seed-0f2c7998/perdure/retry"
)

// An operation is the state of one call of the SDK. The SDK makes a stack for each call, so its middleware and the
// loop's retryer are one value, and no context has to carry it.
//
//	input → end → the SDK's loop ⟲ (retryer) → attempt → signing, sending
//
// It is for one goroutine, as a call is.
type operation struct {
	policy   retry.Policy // this call's own copy
	breakers *circuit.Config
	registry *circuit.Registry

	name        string // the SDK's, as PutObject
	bucket      string
	object      string // the key in the bucket
	stack       *middleware.Stack
	sdk         aws.Retryer // the SDK's own retryer; may be nil
	refreshLock refreshing
	looping     bool // the SDK's loop has begun an attempt
	clockFixed  bool // the SDK corrects a wrong clock before the next attempt
	streamed    bool // the request body can be sent only once

	call      calls.Call    // nil before the first attempt
	fixed     bool          // clock or credentials have been corrected once
	last      error         // of the last attempt, as the SDK returned it
	delay     time.Duration // before the next attempt
	willRetry bool          // another attempt follows
	ended     error         // the operation's error, once decided

	readsXML bool        // the SDK reads the operation's responses as XML
	sent     http.Header // of the attempt's request
	body     *document   // of a successful response
}

// input reads bucket and key from the operation's parameters, whatever their type.
func (op *operation) input(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
	op.bucket, op.object = sdk.Parameter(in.Parameters, "Bucket"), sdk.Parameter(in.Parameters, "Key")
	return next.HandleInitialize(ctx, in)
}

// end wraps the loop: it replaces the loop's error by the operation's own.
func (op *operation) end(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
	if req, ok := in.Request.(*smithyhttp.Request); ok {
		op.streamed = req.GetStream() != nil && !req.IsStreamSeekable()
	}
	out, metadata, err := next.HandleFinalize(ctx, in)
	switch {
	case err == nil:
		return out, metadata, nil
	case op.ended != nil:
		err = op.ended
	case ctx.Err() != nil && op.call != nil && op.last != nil:
		err = op.public(op.call.Admit(ctx)) // an error that says that ctx has ended
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case op.last != nil: // the loop itself failed after the last attempt
		op.call.GaveUp()
		err = &retry.Error{Operation: op.policy.Name, Attempts: op.call.Attempt(), Reason: retry.ReasonPermanent, Stop: err, Last: op.last}
	}
	return out, metadata, err
}

// attempt is within the loop: it acquires permission, makes one attempt and decides what follows.
func (op *operation) attempt(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
	if !op.looping { // the request is presigned, not sent
		return next.HandleFinalize(ctx, in)
	}
	if err := unsendable(in.Request); err != nil {
		op.ended = err
		return middleware.FinalizeOutput{}, middleware.Metadata{}, err
	}
	if err := op.admit(ctx, in.Request); err != nil {
		op.ended = op.public(err)
		return middleware.FinalizeOutput{}, middleware.Metadata{}, op.ended
	}
	defer op.call.Cancel() // after a panic or Goexit; otherwise without effect
	own := op.call.Context(ctx)
	out, metadata, err := op.timed(own, in, next)
	if err == nil {
		if free := breakers.KeepPlace(own, ctx, op.policy.Breaker); free != nil && op.body != nil {
			op.body.holdPlace(free) // the call is in flight until the response body has ended
		} else if free != nil {
			free()
		}
		op.call.Succeeded(ctx)
		return out, metadata, nil
	}
	err = op.cleaned(err)
	op.failed(ctx, err)
	return out, metadata, err
}

// admit waits for permission to make an attempt.
func (op *operation) admit(ctx context.Context, request any) error {
	if op.call == nil {
		if err := op.begin(ctx, request); err != nil {
			return err
		}
	}
	return op.call.Admit(ctx)
}

// begin makes the Call: only now is the endpoint known, which chooses the breaker.
func (op *operation) begin(ctx context.Context, request any) error {
	op.policy.Name = cmp.Or(op.policy.Name, op.name)
	if op.breakers != nil {
		b, err := op.registry.Get(op.key(ctx, request), *op.breakers)
		if err != nil {
			return err
		}
		op.policy.Breaker = b
	}
	call, err := calls.Begin(ctx, &op.policy)
	if err == nil {
		op.call = call
	}
	return err
}

// key returns the name of the request's breaker: service, endpoint and bucket.
func (op *operation) key(ctx context.Context, request any) string {
	service := cmp.Or(awsmiddleware.GetServiceID(ctx), "aws") // the client of the instance metadata has none
	key := strings.ToLower(strings.ReplaceAll(service, " ", ""))
	if req, ok := request.(*smithyhttp.Request); ok && req.URL != nil {
		key += ":" + strings.TrimPrefix(req.URL.Host, op.bucket+".")
	}
	if op.bucket != "" {
		key += "/" + op.bucket
	}
	return key
}

// failed records the error of an attempt, and the Call's decision.
func (op *operation) failed(ctx context.Context, err error) {
	op.last = err
	plain := op.policy
	e := &attemptError{err: err, operation: op.name, bucket: op.bucket, key: op.object, sdk: op.sdk, wait: hintOf(err)}
	switch {
	case fix.Try(ctx, err):
		e.class = retry.ClassTransient
		op.policy.BaseDelay, op.policy.Jitter = time.Millisecond, retry.NoJitter
	case !op.fixed && op.fix(ctx, err):
		op.fixed = true
		e.class = retry.ClassTransient
		op.policy.BaseDelay, op.policy.Jitter = time.Millisecond, retry.NoJitter // nothing to wait for
	case ctx.Err() == nil && errors.Is(err, context.Canceled):
		// net/http may reuse the connection of another request, and close it when that request is cancelled.
		e.class = retry.ClassTransient
	}
	failure := error(e)
	if e.class != retry.ClassUnknown {
		failure = retry.Transient(e) // even if RetryOn excludes it: the cause is gone
	}
	if op.streamed {
		failure = retry.Final(failure)
	}
	delay, stop := op.call.Failed(ctx, failure)
	op.policy.BaseDelay, op.policy.Jitter = plain.BaseDelay, plain.Jitter
	op.delay, op.willRetry = delay, stop == nil
	if stop != nil {
		op.ended = op.public(stop)
		return
	}
	if response := sdk.Response(err); response != nil {
		response.Header.Del(amzRetryAfter) // the SDK's newer retry mode would wait a second time
	}
}

// fix reports whether the cause of err is corrected for the next attempt: the SDK corrects a wrong clock, and expired
// credentials are fetched again.
func (op *operation) fix(ctx context.Context, err error) bool {
	if isExpired(err) && op.refreshLock.refresh(ctx, credentialsOf(op.stack), err) {
		return true
	}
	return op.clockFixed && isSkewed(err)
}

// public returns an error of the Call with attemptErrors replaced by the SDK's errors.
func (op *operation) public(err error) error {
	if e, ok := err.(*retry.Error); ok { //nolint:errorlint // as Call makes it
		e.Last = op.sdkError(e.Last)
		return e
	}
	return op.sdkError(err)
}

// sdkError returns the SDK's error of an attemptError, with the reason if an error that is worth a retry was not
// retried.
func (op *operation) sdkError(err error) error {
	carrier, ok := errors.AsType[*attemptError](err)
	if !ok {
		return err
	}
	class, _ := op.policy.ClassOf(carrier)
	if op.streamed && (class == retry.ClassTransient || class == retry.ClassThrottled || class == retry.ClassConflict) {
		return fmt.Errorf("%w (%w)", carrier.err, errStream)
	}
	return carrier.err
}

// errStream is why a request with a stream is sent once.
var errStream = errors.New("not retried: the body is a stream that cannot be rewound")

// timed makes the attempt within the policy's AttemptTimeout, which ends when the SDK returns the result. If the
// result has a body, in whatever field, the attempt's context lasts until the caller closes that body.
func (op *operation) timed(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
	op.body = nil
	timeout := op.policy.AttemptTimeout
	if timeout <= 0 {
		return next.HandleFinalize(ctx, in)
	}
	timed, cancel := context.WithCancel(ctx)
	timer := time.AfterFunc(timeout, cancel)
	out, metadata, err := next.HandleFinalize(timed, in)
	inTime := timer.Stop()
	handedOn := err == nil && op.body != nil && op.body.onClose(cancel)
	if !inTime && ctx.Err() == nil && (err != nil || handedOn) { // its body would break
		err = fmt.Errorf("no response from %s within the attempt timeout of %v: %w", hostOf(in.Request), timeout, context.DeadlineExceeded)
	}
	if err != nil || !handedOn {
		cancel()
	}
	return out, metadata, err
}

// hostOf returns the host of a request.
func hostOf(request any) string {
	if req, ok := request.(*smithyhttp.Request); ok && req.URL != nil {
		return req.URL.Host
	}
	return "the service"
}

// The methods of the loop's retryer return what the attempt has decided.

var _ aws.RetryerV2 = (*operation)(nil)

func (op *operation) IsErrorRetryable(error) bool { return op.willRetry }

func (op *operation) MaxAttempts() int { return max(op.policy.Attempts(), 0) }

func (op *operation) RetryDelay(int, error) (time.Duration, error) { return op.delay, nil }

func (op *operation) GetRetryToken(context.Context, error) (func(error) error, error) {
	return released, nil
}

func (op *operation) GetInitialToken() func(error) error { return released }

func (op *operation) GetAttemptToken(context.Context) (func(error) error, error) {
	op.looping, op.willRetry = true, false
	return released, nil
}

func released(error) error { return nil }
