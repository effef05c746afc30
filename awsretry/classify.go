package awsretry

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/internal/neterr"
	"github.com/seed-0f2c7998/perdure/internal/viaproxy"
	"github.com/seed-0f2c7998/perdure/retry"
)

// amzRetryAfter is the header in which AWS asks for a wait, in milliseconds.
const amzRetryAfter = "X-Amz-Retry-After"

// skewThreshold is how far a clock must be off for that to be an error's cause,
// as the SDK sees it.
const skewThreshold = 4 * time.Minute

// Classify is what this package knows of the SDK's errors, for the Classify of
// a [retry.Policy] around a client to which it is not applied. It returns
// [retry.ClassUnknown] for what package retry knows as well: most codes of AWS
// and of S3-compatible stores, and the HTTP status where the code is unknown.
//
// Beyond that, no response and half a response are transient; a success that
// makes no sense is ignored, as the service is well and will send the same again; a certificate that is not trusted and a host name that does not
// exist are permanent, and so are credentials that could not be had, for their
// own client has retried; a conflict between conditional writes ends
// CompleteMultipartUpload.
func Classify(err error) retry.Class {
	if _, ok := errors.AsType[*retry.Error](err); ok {
		return retry.ClassUnknown
	}
	if e, ok := errors.AsType[*attemptError](err); ok {
		return e.classify()
	}
	operation := ""
	if e, ok := errors.AsType[*smithy.OperationError](err); ok {
		operation = e.OperationName
		err = e.Err
	}
	return classOf(err, operation)
}

// classOf is [Classify] for an error of an attempt of that operation.
func classOf(err error, operation string) retry.Class {
	if _, ok := errors.AsType[*smithy.OperationError](err); ok {
		return retry.ClassPermanent // another client's, on the way: that of the credentials
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		if api.ErrorCode() == "ConditionalRequestConflict" && operation == "CompleteMultipartUpload" {
			return retry.ClassPermanent
		}
		return retry.ClassUnknown
	}
	return responseClass(err)
}

// responseClass returns the class of an error that the service has not named: it
// says nothing at all, or not in a way that is understood.
func responseClass(err error) retry.Class {
	if proxy, ok := errors.AsType[*httpretry.ProxyError](err); ok {
		return retry.Class(viaproxy.Class(proxy.Status))
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return retry.ClassUnknown
	case is[*NotS3Error](err), isNonsense(err):
		return retry.ClassIgnored
	case neterr.IsPermanent(err), errors.Is(err, http.ErrSchemeMismatch):
		return retry.ClassPermanent
	case statusOf(err) >= http.StatusBadRequest:
		return retry.ClassUnknown
	case is[*smithyhttp.RequestSendError](err), is[*smithy.DeserializationError](err):
		return retry.ClassTransient
	}
	return retry.ClassUnknown
}

// classifier is [Classify] after the user's own, if there is one.
func classifier(own func(error) retry.Class) func(error) retry.Class {
	if own == nil {
		return Classify
	}
	return func(err error) retry.Class {
		plain := err
		if e, ok := err.(*attemptError); ok { //nolint:errorlint // exactly as it was handed in
			plain = e.err
		}
		if class := own(plain); class != retry.ClassUnknown {
			return class
		}
		return Classify(err)
	}
}

// An attemptError carries an attempt's error to the policy, with what only the
// attempt knows. It never leaves this package but in an event.
type attemptError struct {
	err         error
	operation   string        // the SDK's name of it
	bucket, key string        // that the request names; "": none
	class       retry.Class   // if the attempt knows it
	sdk         aws.Retryer   // what the SDK would have asked; may be nil
	wait        time.Duration // that the response asks for; 0: none
}

// classify is [Classify] for the attempt. What neither this package nor package retry would retry is transient if the
// SDK would retry it, but for its status: a code that is known goes before that.
func (e *attemptError) classify() retry.Class {
	if e.class != retry.ClassUnknown {
		return e.class
	}
	if class := classOf(e.err, e.operation); class != retry.ClassUnknown || e.sdk == nil {
		return class
	}
	general, _ := new(retry.Policy).ClassOf(e.err)
	byStatus := retry.StatusClass(statusOf(e.err)) == retry.ClassTransient
	if !byStatus && (general == retry.ClassUnknown || general == retry.ClassPermanent) && e.sdk.IsErrorRetryable(e.err) {
		return retry.ClassTransient
	}
	return retry.ClassUnknown
}

// Object returns the bucket and the key in the request of the attempt that an error is of, such as that of a [retry.Event];
// "" if the request names none, or err is no attempt's.
func Object(err error) (bucket, key string) {
	if e, ok := errors.AsType[*attemptError](err); ok {
		return e.bucket, e.key
	}
	return "", ""
}

func (e *attemptError) Error() string { return e.err.Error() }
func (e *attemptError) Unwrap() error { return e.err }

// RetryAfter is how package retry finds the hint.
func (e *attemptError) RetryAfter() (time.Duration, bool) { return e.wait, e.wait > 0 }

// waitAsked returns how long the response asks to wait, in whichever header asks
// for more.
func waitAsked(err error) time.Duration {
	response := responseOf(err)
	if response == nil {
		return 0
	}
	wait, _ := httpretry.RetryAfter(response.Header, time.Now())
	for _, text := range response.Header.Values(amzRetryAfter) {
		const most = int64((1<<63 - 1) / time.Millisecond)
		if ms, err := strconv.ParseInt(text, 10, 64); err == nil && ms > 0 {
			wait = max(wait, time.Duration(min(ms, most))*time.Millisecond)
		}
	}
	return wait
}

// isSkewed reports whether err is a refusal that our own clock explains: its
// code is one of those, and the response's Date is far from the signature's. It
// is the SDK's own rule, by which it will sign the next attempt for that Date.
func isSkewed(err error) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return false
	}
	switch api.ErrorCode() {
	case "RequestTimeTooSkewed", "SignatureDoesNotMatch", "InvalidSignatureException", "AuthFailure", "AccessDeniedException":
	default:
		return false
	}
	response := responseOf(err)
	if response == nil || response.Request == nil {
		return false
	}
	signed, err := time.Parse("20060102T150405Z", response.Request.Header.Get("X-Amz-Date"))
	if err != nil {
		return false
	}
	answered, err := http.ParseTime(response.Header.Get("Date"))
	return err == nil && answered.Sub(signed).Abs() > skewThreshold
}

// isNonsense reports whether err is a success whose whole body is too large, or
// cannot be parsed. It will be the same again, and the service is well.
func isNonsense(err error) bool {
	if status := statusOf(err); status < 200 || status > 299 {
		return false
	}
	if e, ok := errors.AsType[*xml.SyntaxError](err); ok {
		return e.Msg != "unexpected EOF" // which something on the way may have cut off
	}
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return e.Error() != "unexpected end of JSON input"
	}
	return is[*httpretry.LimitError](err) || is[*strconv.NumError](err) || isNoTime(err)
}

// isNoTime reports whether err is of a text that is no time. That of the SDK has no exported type, and nothing in it.
func isNoTime(err error) bool {
	if is[*time.ParseError](err) {
		return true
	}
	for ; err != nil; err = errors.Unwrap(err) {
		if fmt.Sprintf("%T", err) == "time.parseErrors" {
			return true
		}
	}
	return false
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// responseOf returns the response that err comes with, without its body; nil: none.
func responseOf(err error) *smithyhttp.Response {
	e, ok := errors.AsType[*smithyhttp.ResponseError](err)
	if !ok || e.Response == nil || e.Response.Response == nil {
		return nil
	}
	return e.Response
}

// statusOf returns the HTTP status that err comes with; 0: no response.
func statusOf(err error) int {
	if response := responseOf(err); response != nil {
		return response.StatusCode
	}
	return 0
}
