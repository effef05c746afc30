package objects

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/seed-0f2c7998/perdure/awsretry/internal/wire"
	"github.com/seed-0f2c7998/perdure/retry"
)

// ErrCondition reports that IfAbsent or IfMatch of a put did not hold. Nothing was stored.
var ErrCondition = errors.New("the precondition of the put failed")

// An AmbiguousError reports a conditional put that may or may not have been carried out: a response was lost, and the
// object that the key has now may have replaced this put's object or have been there before; or the key has no
// object, and the request may still arrive; or the store returns no metadata.
type AmbiguousError struct {
	ETag string // of the key's present object; "" if it has no object, or the ETag is unknown
	Err  error  // of the last attempt
}

// Error includes the ETag of the present object.
func (e *AmbiguousError) Error() string {
	there := ""
	if e.ETag != "" {
		there = "; the key now has an object with ETag " + e.ETag
	}
	return fmt.Sprintf("unknown whether the object was stored%s: %v", there, e.Err)
}

// Unwrap returns Err.
func (e *AmbiguousError) Unwrap() error { return e.Err }

// writeIDKey is the metadata by which a conditional put recognizes its own object.
const writeIDKey = "perdure-write-id"

// A condition is the state of a put's IfAbsent or IfMatch.
type condition struct {
	writeID   string      // "" without a condition
	ambiguous atomic.Bool // a failed attempt may have been carried out
	resumed   bool        // an attempt of an earlier process may have been carried out
}

// conditional reports whether the put has a condition.
func (o *PutOptions) conditional() bool { return o.IfAbsent || o.IfMatch != "" }

// noneMatch returns the value of If-None-Match.
func (o *PutOptions) noneMatch() *string {
	if o.IfAbsent {
		return aws.String("*")
	}
	return nil
}

// metadata returns the object's metadata, with a write ID if the put has a condition.
func (u *upload) metadata() map[string]string {
	if !u.o.conditional() {
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

// precheck returns ErrCondition if the store will refuse the put at its end, after all parts have been sent. It does
// nothing if the put may have been carried out already.
func (u *upload) precheck(ctx context.Context) error {
	if !u.o.conditional() || u.condition.ambiguous.Load() {
		return nil
	}
	there, err := u.store.head(ctx, u.address())
	switch {
	case err == nil && (u.o.IfAbsent || !wire.SameTag(there.ETag, u.o.IfMatch)):
		return fmt.Errorf("%w: the key has an object with ETag %s", ErrCondition, there.ETag)
	case u.o.IfMatch != "" && wire.IsMissing(err):
		return fmt.Errorf("%w: the key has no object: %w", ErrCondition, err)
	}
	return nil
}

// isConflict reports whether a put lost against a concurrent put.
func isConflict(err error) bool { return wire.HasCode(err, "ConditionalRequestConflict") }

// resolve returns the outcome of a put of o that ended with err.
func (u *upload) resolve(ctx context.Context, err error, o Object) (Object, error) {
	gone := wire.HasCode(err, "NoSuchUpload") // it was completed, or aborted
	ambiguous := u.condition.ambiguous.Load() || gone && u.condition.resumed
	refused := wire.HasStatus(err, http.StatusPreconditionFailed) || u.o.IfMatch != "" && wire.HasCode(err, "NoSuchKey")
	switch {
	case !ambiguous && refused:
		return o, fmt.Errorf("%w: %w", ErrCondition, err)
	case !ambiguous:
		return o, err
	case u.o.conditional():
		return u.findOwnWrite(ctx, err, o)
	case !gone:
		return o, err
	}
	stored, failed := u.verified(ctx, o)
	if failed != nil || stored.Verified != VerifiedByCRC32 && !wire.SameTag(stored.ETag, u.composite) {
		return o, err
	}
	return stored, nil
}

// findOwnWrite returns the key's object if a conditional put that ended with err has stored it.
func (u *upload) findOwnWrite(ctx context.Context, err error, o Object) (Object, error) {
	stored, failed := u.store.head(ctx, u.address())
	switch {
	case failed == nil && stored.Metadata[writeIDKey] == u.condition.writeID:
		o.ETag, o.VersionID = stored.ETag, stored.VersionID
		return u.verified(ctx, o)
	case failed != nil && !wire.IsMissing(failed):
		err = fmt.Errorf("%w (and on the check for the object: %w)", err, failed)
	}
	return o, &AmbiguousError{ETag: stored.ETag, Err: err}
}

// stored reports whether the upload of the state file is gone because it was completed: the object has the bytes of
// the source. A store that is still completing the upload of a killed process may return neither the upload nor the
// object, so if all parts were stored, stored makes up to five attempts.
func (m *multipart) stored(ctx context.Context) (Object, bool) {
	all := m.src.All()
	if all == nil || m.state.Head.Upload == "" { // resume has aborted it, as that of a different object
		return Object{}, false
	}
	policy := m.store.policy
	policy.MaxAttempts, policy.Observe = 1, func(context.Context, retry.Event) {}
	if m.state.Bytes() == all.Size() {
		policy.MaxAttempts = 5
	}
	object, err := retry.Value(ctx, &policy, func(ctx context.Context) (Object, error) {
		o, err := m.store.head(ctx, m.address())
		if wire.IsMissing(err) || err == nil && o.Size != all.Size() {
			return o, retry.Transient(errNotStored)
		}
		return o, retry.Permanent(err)
	})
	if err != nil || m.o.conditional() && object.Metadata[writeIDKey] != m.condition.writeID {
		return Object{}, false
	}
	if object.Verified, err = referenceOf(object.Checksum, object.ETag, true).read(all); err != nil {
		return Object{}, false
	}
	return object, object.Verified != VerifiedBySize
}

var errNotStored = errors.New("the object does not exist yet")
