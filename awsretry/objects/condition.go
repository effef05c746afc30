package objects

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
)

// ErrCondition says that the object is not (IfMatch), or is already (IfAbsent), what the
// put allows to be replaced. Nothing was stored.
var ErrCondition = errors.New("the condition of the put does not hold")

// An AmbiguousError is a conditional put of which nobody can say if it was
// carried out: an answer was lost, and now there is another object, which may
// have replaced ours or have been there before it.
type AmbiguousError struct {
	ETag string // of the object that is there; "": there is none
	Err  error  // of the last attempt
}

// Error tells what is there instead.
func (e *AmbiguousError) Error() string {
	there := "there is none now"
	if e.ETag != "" {
		there = "there is another now, with ETag " + e.ETag
	}
	return fmt.Sprintf("the object may have been stored, but %s: %v", there, e.Err)
}

// Unwrap returns Err.
func (e *AmbiguousError) Unwrap() error { return e.Err }

// writeIDKey is the metadata by which a conditional put knows its own object.
const writeIDKey = "perdure-write-id"

// A condition is what a put knows of its IfAbsent or IfMatch.
type condition struct {
	writeID string      // "": the put has no condition
	unsure  atomic.Bool // an attempt may have been carried out though it failed
}

// metadata returns what the object is stored with, and gives a conditional put
// its identity.
func (u *upload) metadata() map[string]string {
	if !u.o.IfAbsent && u.o.IfMatch == "" {
		return u.o.Metadata
	}
	if u.condition.writeID == "" {
		u.condition.writeID = rand.Text()
	}
	all := maps.Clone(u.o.Metadata)
	if all == nil {
		all = make(map[string]string)
	}
	all[writeIDKey] = u.condition.writeID
	return all
}

// watch is an option of an operation whose attempts may be carried out though
// they fail.
func (c *condition) watch(o *s3.Options) {
	seen := middleware.FinalizeMiddlewareFunc("perdure:Watch", func(
		ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler,
	) (middleware.FinalizeOutput, middleware.Metadata, error) {
		out, metadata, err := next.HandleFinalize(ctx, in)
		if err != nil && mayHaveWorked(err) {
			c.unsure.Store(true)
		}
		return out, metadata, err
	})
	o.APIOptions = append(slices.Clip(o.APIOptions), func(stack *middleware.Stack) error {
		return stack.Finalize.Insert(seen, "Retry", middleware.After)
	})
}

// mayHaveWorked reports whether a request that failed so may have been carried
// out all the same: neither refused nor never sent.
func mayHaveWorked(err error) bool {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return false
	}
	status := statusOf(err)
	return status < http.StatusBadRequest || status >= http.StatusInternalServerError && !hasCode(err, "SlowDown")
}

// resolve finds out what has become of a put that ended with err. o is what was
// sent, as verified takes it.
func (u *upload) resolve(ctx context.Context, err error, o Object, verify func(context.Context, Object) (Object, error)) (Object, error) {
	unsure := u.condition.unsure.Load()
	switch {
	case hasStatus(err, http.StatusPreconditionFailed):
		if !unsure {
			return o, fmt.Errorf("%w: %w", ErrCondition, err)
		}
	case !unsure || !hasCode(err, "NoSuchUpload"):
		return o, err
	}
	if u.condition.writeID == "" { // an upload in parts without a condition, that is no more: completed, or aborted
		stored, failed := verify(ctx, o)
		if failed != nil || stored.Verified != "crc32" && stored.ETag != u.composite {
			return o, err
		}
		return stored, nil
	}
	stored, failed := u.store.head(ctx, u.bucket, u.key, "")
	switch {
	case failed != nil && !isMissing(failed):
		return o, fmt.Errorf("%w (and to find out if it was stored: %w)", err, failed)
	case failed == nil && stored.Metadata[writeIDKey] == u.condition.writeID:
		o.ETag, o.VersionID = stored.ETag, stored.VersionID
		return verify(ctx, o)
	}
	return o, &AmbiguousError{ETag: stored.ETag, Err: err}
}
