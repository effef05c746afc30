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

	"github.com/seed-0f2c7998/perdure/awsretry/internal/sdk"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/internal/neterr"
	"github.com/seed-0f2c7998/perdure/internal/viaproxy"
	"github.com/seed-0f2c7998/perdure/retry"
)

// amzRetryAfter is the header in which AWS requests a wait, in milliseconds.
const amzRetryAfter = "X-Amz-Retry-After"

// skewThreshold is the clock difference from which the SDK corrects the clock.
const skewThreshold = 4 * time.Minute

// Classify returns the class of an SDK error, for the Classify of a [retry.Policy] around a client without [Apply].
// Classify returns [retry.ClassUnknown] for errors that package retry classifies itself: most codes of AWS and of
// S3-compatible stores, and the HTTP status of an unknown code.
//
// The other classes are: a missing or truncated response is transient. A success that makes no sense is ignored: the service
// is healthy and will respond the same again. An untrusted certificate and an unknown host are permanent, and so are
// missing credentials, whose own client has retried, and a conflict between conditional writes in
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

// classOf is [Classify] for the error of an attempt of the operation.
func classOf(err error, operation string) retry.Class {
	if _, ok := errors.AsType[*smithy.OperationError](err); ok {
		return retry.ClassPermanent // of another client within the operation, such as that of the credentials
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		if api.ErrorCode() == "ConditionalRequestConflict" && operation == "CompleteMultipartUpload" {
			return retry.ClassPermanent
		}
		return retry.ClassUnknown
	}
	return responseClass(err)
}

// responseClass returns the class of an error without a code of the service: the response is missing or cannot be
// parsed.
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
	case sdk.Status(err) >= http.StatusBadRequest:
		return retry.ClassUnknown
	case is[*smithyhttp.RequestSendError](err), is[*smithy.DeserializationError](err):
		return retry.ClassTransient
	}
	return retry.ClassUnknown
}

// classifier returns own followed by [Classify]; own may be nil.
func classifier(own func(error) retry.Class) func(error) retry.Class {
	if own == nil {
		return Classify
	}
	return func(err error) retry.Class {
		plain := err
		if e, ok := err.(*attemptError); ok { //nolint:errorlint // exactly as it was passed
			plain = e.err
		}
		if class := own(plain); class != retry.ClassUnknown {
			return class
		}
		return Classify(err)
	}
}

// An attemptError is the error of an attempt with what the attempt knows besides. It leaves this package only in
// events.
type attemptError struct {
	err         error
	operation   string        // the SDK's name of the operation
	bucket, key string        // in the request; "" if it has none
	class       retry.Class   // ClassUnknown if the attempt does not decide
	sdk         aws.Retryer   // the SDK's own retryer; may be nil
	wait        time.Duration // requested by the response; 0 means none
}

// classify is [Classify] for the attempt. An error that neither this package nor package retry would retry is
// transient if the SDK would retry it for another reason than its status: a known code takes precedence over the
// status.
func (e *attemptError) classify() retry.Class {
	if e.class != retry.ClassUnknown {
		return e.class
	}
	if class := classOf(e.err, e.operation); class != retry.ClassUnknown || e.sdk == nil {
		return class
	}
	general, _ := new(retry.Policy).ClassOf(e.err)
	byStatus := retry.StatusClass(sdk.Status(e.err)) == retry.ClassTransient
	if !byStatus && (general == retry.ClassUnknown || general == retry.ClassPermanent) && e.sdk.IsErrorRetryable(e.err) {
		return retry.ClassTransient
	}
	return retry.ClassUnknown
}

// Object returns the bucket and the key in the request of a failed attempt, whose error is that of a [retry.Event].
// Object returns "" for a part that the request does not have, and for both if err is not the error of an attempt.
func Object(err error) (bucket, key string) {
	if e, ok := errors.AsType[*attemptError](err); ok {
		return e.bucket, e.key
	}
	return "", ""
}

func (e *attemptError) Error() string { return e.err.Error() }
func (e *attemptError) Unwrap() error { return e.err }

// RetryAfter lets package retry find the hint.
func (e *attemptError) RetryAfter() (time.Duration, bool) { return e.wait, e.wait > 0 }

// hintOf returns the longest wait that a header of the response requests.
func hintOf(err error) time.Duration {
	response := sdk.Response(err)
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

// isSkewed reports whether a wrong clock of this host explains err: the code is one of those below, and the
// response's Date is far from the time of the signature. It is the SDK's own rule, by which it signs the next attempt
// for that Date.
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
	response := sdk.Response(err)
	if response == nil || response.Request == nil {
		return false
	}
	signed, err := time.Parse("20060102T150405Z", response.Request.Header.Get("X-Amz-Date"))
	if err != nil {
		return false
	}
	date, err := http.ParseTime(response.Header.Get("Date"))
	return err == nil && date.Sub(signed).Abs() > skewThreshold
}

// isNonsense reports whether err is a success whose body is too large or cannot be parsed. The service is healthy,
// and would respond the same again.
func isNonsense(err error) bool {
	if status := sdk.Status(err); status < 200 || status > 299 {
		return false
	}
	if e, ok := errors.AsType[*xml.SyntaxError](err); ok {
		return e.Msg != "unexpected EOF" // perhaps truncated on the way
	}
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return e.Error() != "unexpected end of JSON input"
	}
	return is[*httpretry.LimitError](err) || is[*strconv.NumError](err) || isNoTime(err)
}

// isNoTime reports whether err is of a text that is not a time. The SDK's error for it has no exported type.
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
