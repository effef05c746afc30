package wire

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// HasCode reports whether err is the store's error of one of these codes.
func HasCode(err error, codes ...string) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	return ok && slices.Contains(codes, api.ErrorCode())
}

// HasStatus reports whether err is an answer of one of these HTTP statuses.
func HasStatus(err error, statuses ...int) bool {
	status := statusOf(err)
	return status != 0 && slices.Contains(statuses, status)
}

// statusOf returns the HTTP status that err came with, or 0.
func statusOf(err error) int {
	e, ok := errors.AsType[*smithyhttp.ResponseError](err)
	if !ok || e.Response == nil || e.Response.Response == nil {
		return 0
	}
	return e.HTTPStatusCode()
}

// IsMissing reports whether err says that there is no such object, while there
// may well be such a bucket.
func IsMissing(err error) bool {
	return HasCode(err, "NoSuchKey", "NotFound", "NoSuchVersion") || HasStatus(err, http.StatusNotFound) && !HasCode(err, "NoSuchBucket")
}

// SameTag reports whether two ETags are the same: not all stores, nor all answers
// of one, have them in quotes.
func SameTag(a, b string) bool { return strings.Trim(a, `"`) == strings.Trim(b, `"`) }

// Watch is an option of an operation: it sets unsure when an attempt fails that
// may have been carried out all the same.
func Watch(unsure *atomic.Bool) func(*s3.Options) {
	seen := middleware.FinalizeMiddlewareFunc("perdure:Watch", func(
		ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler,
	) (middleware.FinalizeOutput, middleware.Metadata, error) {
		out, metadata, err := next.HandleFinalize(ctx, in)
		if err != nil && mayHaveWorked(err) {
			unsure.Store(true)
		}
		return out, metadata, err
	})
	return func(o *s3.Options) {
		o.APIOptions = append(slices.Clip(o.APIOptions), func(stack *middleware.Stack) error {
			return stack.Finalize.Insert(seen, "Signing", middleware.After) // what fails before was not sent
		})
	}
}

// mayHaveWorked reports whether a request that failed so may have been carried
// out: neither refused nor never sent.
func mayHaveWorked(err error) bool {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return false
	}
	status := statusOf(err)
	return status < http.StatusMultipleChoices || status >= http.StatusInternalServerError && !HasCode(err, "SlowDown")
}
