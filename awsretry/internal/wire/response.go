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

	"github.com/seed-0f2c7998/perdure/awsretry/internal/sdk"
)

// HasCode reports whether err is the store's error with one of these codes.
func HasCode(err error, codes ...string) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	return ok && slices.Contains(codes, api.ErrorCode())
}

// HasStatus reports whether err is a response with one of these HTTP statuses.
func HasStatus(err error, statuses ...int) bool {
	status := sdk.Status(err)
	return status != 0 && slices.Contains(statuses, status)
}

// IsMissing reports whether err says that the object does not exist, and not that the bucket does not exist.
func IsMissing(err error) bool {
	return HasCode(err, "NoSuchKey", "NotFound", "NoSuchVersion") || HasStatus(err, http.StatusNotFound) && !HasCode(err, "NoSuchBucket")
}

// SameTag reports whether two ETags are equal but for quotes, which some responses lack.
func SameTag(a, b string) bool { return strings.Trim(a, `"`) == strings.Trim(b, `"`) }

// Watch is an option of an operation: it sets ambiguous when an attempt fails that may have been carried out.
func Watch(ambiguous *atomic.Bool) func(*s3.Options) {
	seen := middleware.FinalizeMiddlewareFunc("perdure:Watch", func(
		ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler,
	) (middleware.FinalizeOutput, middleware.Metadata, error) {
		out, metadata, err := next.HandleFinalize(ctx, in)
		if err != nil && mayHaveWorked(err) {
			ambiguous.Store(true)
		}
		return out, metadata, err
	})
	return func(o *s3.Options) {
		o.APIOptions = append(slices.Clip(o.APIOptions), func(stack *middleware.Stack) error {
			return stack.Finalize.Insert(seen, "Signing", middleware.After) // an attempt that fails before is not sent
		})
	}
}

// mayHaveWorked reports whether a request that failed with err may have been carried out: the store neither refused
// it nor never received it.
func mayHaveWorked(err error) bool {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return false
	}
	status := sdk.Status(err)
	return status < http.StatusMultipleChoices || status >= http.StatusInternalServerError && !HasCode(err, "SlowDown")
}
