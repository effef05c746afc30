package awsretry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/seed-0f2c7998/perdure/awsretry/internal/fix"
	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/calls"
	"github.com/seed-0f2c7998/perdure/retry"
)

// An operation is the state of one call of the SDK. The SDK makes a stack for
// each call, so the three middleware here and the loop's retryer are one value,
// and nothing has to be found again in a context.
//
//	input → end → the SDK's loop ⟲ (retryer) → attempt → signing, sending
//
// It is not for concurrent use, and need not be: a call has one goroutine.
type operation struct {
	policy   retry.Policy // this call's own copy
	breakers *circuit.Config
	registry *circuit.Registry

	name       string // the SDK's, as PutObject
	bucket     string
	object     string // its key
	stack      *middleware.Stack
	sdk        aws.Retryer // what the SDK would have asked; may be nil
	turn       refreshing
	looping    bool // the SDK's loop has begun an attempt
	clockFixed bool // the SDK puts a wrong clock right before the next attempt
	streamed   bool // the body can be sent once

	call  calls.Call    // nil before the first attempt
	fixed bool          // clock or credentials have been put right once
	last  error         // of the last attempt, as the SDK gave it
	delay time.Duration // until the next one
	again bool          // there is a next one
	ended error         // how the operation ends, once that is decided

	readsXML bool        // the SDK reads the operation's responses as XML
	sent     http.Header // of the attempt's request
	body     *document   // of its response, if that is a success
}

// input reads bucket and key from the operation's parameters, of whatever type.
func (op *operation) input(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
	if v := reflect.ValueOf(in.Parameters); v.Kind() == reflect.Pointer && v.Elem().Kind() == reflect.Struct {
		op.bucket, op.object = named(v.Elem(), "Bucket"), named(v.Elem(), "Key")
	}
	return next.HandleInitialize(ctx, in)
}

// named returns the text that a parameter points to; "" if there is none.
func named(v reflect.Value, name string) string {
	text, _ := reflect.TypeAssert[*string](field(v, name))
	return aws.ToString(text)
}

// field returns the field of that name, or a value that is no string.
func field(v reflect.Value, name string) reflect.Value {
	if f := v.FieldByName(name); f.IsValid() {
		return f
	}
	return reflect.ValueOf(0)
}

// end is outside of the loop: it puts the operation's own end in the place of
// what the loop makes of it.
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
		err = op.give(op.call.Admit(ctx)) // which says that ctx has ended
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case op.last != nil: // the loop could not go on, but for another reason than the last attempt's
		err = &retry.Error{Operation: op.policy.Name, Attempts: op.call.Attempt(), Reason: retry.ReasonPermanent, Stop: err, Last: op.last}
	}
	return out, metadata, err
}

// attempt is inside of the loop: it asks for leave, makes one attempt, and
// decides what follows.
func (op *operation) attempt(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
	if !op.looping { // nothing is sent: the request is only signed, for someone else
		return next.HandleFinalize(ctx, in)
	}
	if err := unsendable(in.Request); err != nil {
		op.ended = err
		return middleware.FinalizeOutput{}, middleware.Metadata{}, err
	}
	if err := op.admit(ctx, in.Request); err != nil {
		op.ended = op.give(err)
		return middleware.FinalizeOutput{}, middleware.Metadata{}, op.ended
	}
	defer op.call.Cancel() // after a panic, or Goexit; else it does nothing
	own := op.call.Context(ctx)
	out, metadata, err := op.timed(own, in, next)
	if err == nil {
		if free := breakers.KeepPlace(own, ctx, op.policy.Breaker); free != nil && op.body != nil {
			op.body.holds(free) // the call is in flight until its response's body has ended
		} else if free != nil {
			free()
		}
		op.call.Succeeded(ctx)
		return out, metadata, nil
	}
	err = op.shown(err)
	op.failed(ctx, err)
	return out, metadata, err
}

// admit asks the operation's Call for leave, which it makes first.
func (op *operation) admit(ctx context.Context, request any) error {
	if op.call == nil {
		if err := op.begin(ctx, request); err != nil {
			return err
		}
	}
	return op.call.Admit(ctx)
}

// begin makes the Call: the policy is complete only now that the endpoint is
// known.
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

// key names what shares the fate of the request: service, endpoint and bucket.
func (op *operation) key(ctx context.Context, request any) string {
	service := cmp.Or(awsmiddleware.GetServiceID(ctx), "aws") // the client of the instance's metadata gives none
	key := strings.ToLower(strings.ReplaceAll(service, " ", ""))
	if req, ok := request.(*smithyhttp.Request); ok && req.URL != nil {
		key += ":" + strings.TrimPrefix(req.URL.Host, op.bucket+".")
	}
	if op.bucket != "" {
		key += "/" + op.bucket
	}
	return key
}

// failed tells the Call of the attempt's error and keeps its decision.
func (op *operation) failed(ctx context.Context, err error) {
	op.last = err
	plain := op.policy
	e := &attemptError{err: err, operation: op.name, bucket: op.bucket, key: op.object, sdk: op.sdk, wait: waitAsked(err)}
	switch {
	case fix.Try(ctx, err):
		e.class = retry.ClassTransient
		op.policy.BaseDelay, op.policy.Jitter = time.Millisecond, retry.NoJitter
	case !op.fixed && op.fix(ctx, err):
		op.fixed = true
		e.class = retry.ClassTransient
		op.policy.BaseDelay, op.policy.Jitter = time.Millisecond, retry.NoJitter // there is nothing to wait for
	case ctx.Err() == nil && errors.Is(err, context.Canceled):
		// Of another request: net/http may hand out a connection that one had, and then close it as that is cancelled.
		e.class = retry.ClassTransient
	}
	failure := error(e)
	if e.class != retry.ClassUnknown {
		failure = retry.Transient(e) // whatever RetryOn chooses: the fault is mended
	}
	if op.streamed {
		failure = retry.Final(failure)
	}
	delay, stop := op.call.Failed(ctx, failure)
	op.policy.BaseDelay, op.policy.Jitter = plain.BaseDelay, plain.Jitter
	op.delay, op.again = delay, stop == nil
	if stop != nil {
		op.ended = op.give(stop)
		return
	}
	if response := responseOf(err); response != nil {
		response.Header.Del(amzRetryAfter) // the SDK, in its newer mode, would wait for it a second time
	}
}

// fix reports whether err was our own fault and will not be the next time: the
// clock is wrong, which the SDK puts right, or the credentials have expired.
func (op *operation) fix(ctx context.Context, err error) bool {
	if isExpired(err) && op.turn.refresh(ctx, credentialsOf(op.stack), err) {
		return true
	}
	return op.clockFixed && isSkewed(err)
}

// give returns an error of the Call with the SDK's error in the place of the
// one that carried it.
func (op *operation) give(err error) error {
	if e, ok := err.(*retry.Error); ok { //nolint:errorlint // as Call makes it
		e.Last = op.plain(e.Last)
		return e
	}
	return op.plain(err)
}

// plain returns what err carries, if it does, and why there was one attempt if
// not the policy says so.
func (op *operation) plain(err error) error {
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

// errStream is why an attempt is the only one.
var errStream = errors.New("not repeated: the body is a stream that cannot be rewound")

// timed makes the attempt within the policy's AttemptTimeout, which ends as the
// SDK returns the result. The attempt's context ends with the body of the response,
// so that a body that is handed on, in whatever field, is the caller's until closed.
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
	handedOn := err == nil && op.body != nil && op.body.endsWith(cancel)
	if !inTime && ctx.Err() == nil && (err != nil || handedOn) { // a body that is handed on would break off
		err = fmt.Errorf("no response from %s within the attempt's %v: %w", hostOf(in.Request), timeout, context.DeadlineExceeded)
	}
	if err != nil || !handedOn {
		cancel()
	}
	return out, metadata, err
}

// hostOf returns the host that a request is for.
func hostOf(request any) string {
	if req, ok := request.(*smithyhttp.Request); ok && req.URL != nil {
		return req.URL.Host
	}
	return "the service"
}

// The loop's retryer. The attempt has already decided; these only tell.

var _ aws.RetryerV2 = (*operation)(nil)

func (op *operation) IsErrorRetryable(error) bool { return op.again }

func (op *operation) MaxAttempts() int { return max(op.policy.Attempts(), 0) }

func (op *operation) RetryDelay(int, error) (time.Duration, error) { return op.delay, nil }

func (op *operation) GetRetryToken(context.Context, error) (func(error) error, error) {
	return released, nil
}

func (op *operation) GetInitialToken() func(error) error { return released }

func (op *operation) GetAttemptToken(context.Context) (func(error) error, error) {
	op.looping, op.again = true, false
	return released, nil
}

func released(error) error { return nil }
