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

// ErrCondition says that the object is not (IfMatch), or is already (IfAbsent), what the
// put allows to be replaced. Nothing was stored.
var ErrCondition = errors.New("the condition of the put does not hold")

// An AmbiguousError is a conditional put of which nobody can say if it was
// carried out: an answer was lost, and now there is another object, which may
// have replaced ours or have been there before it; or there is none, and what was
// sent may still be on its way; or the store says no more.
type AmbiguousError struct {
	ETag string // of the object that is there; "": there is none, or it is not known
	Err  error  // of the last attempt
}

// Error tells what is there instead.
func (e *AmbiguousError) Error() string {
	there := ""
	if e.ETag != "" {
		there = ", and there is another now, with ETag " + e.ETag
	}
	return fmt.Sprintf("the object may have been stored or not%s: %v", there, e.Err)
}

// Unwrap returns Err.
func (e *AmbiguousError) Unwrap() error { return e.Err }

// writeIDKey is the metadata by which a conditional put knows its own object.
const writeIDKey = "perdure-write-id"

// A condition is what a put knows of its IfAbsent or IfMatch.
type condition struct {
	writeID   string      // "": the put has no condition
	ambiguous atomic.Bool // an attempt may have been carried out though it failed
	resumed   bool        // and so may one of an earlier process
}

// conditional reports whether the put has a condition.
func (o *PutOptions) conditional() bool { return o.IfAbsent || o.IfMatch != "" }

// noneMatch returns what the object that is there may not match.
func (o *PutOptions) noneMatch() *string {
	if o.IfAbsent {
		return aws.String("*")
	}
	return nil
}

// metadata returns what the object is stored with, and gives a conditional put
// its identity.
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

// precheck returns ErrCondition if the store will refuse a put that it looks at
// only at the end, when all has been sent. A put that may have been carried out
// already is not for this.
func (u *upload) precheck(ctx context.Context) error {
	if !u.o.conditional() || u.condition.ambiguous.Load() {
		return nil
	}
	there, err := u.store.head(ctx, u.address())
	switch {
	case err == nil && (u.o.IfAbsent || !wire.SameTag(there.ETag, u.o.IfMatch)):
		return fmt.Errorf("%w: there is an object with ETag %s", ErrCondition, there.ETag)
	case u.o.IfMatch != "" && wire.IsMissing(err):
		return fmt.Errorf("%w: there is no object: %w", ErrCondition, err)
	}
	return nil
}

// isConflict reports whether a put lost against one that was made at the same time.
func isConflict(err error) bool { return wire.HasCode(err, "ConditionalRequestConflict") }

// resolve finds out what has become of a put of o that ended with err.
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

// findOwnWrite looks whether the object that is there is that of a conditional put
// which ended with err.
func (u *upload) findOwnWrite(ctx context.Context, err error, o Object) (Object, error) {
	stored, failed := u.store.head(ctx, u.address())
	switch {
	case failed == nil && stored.Metadata[writeIDKey] == u.condition.writeID:
		o.ETag, o.VersionID = stored.ETag, stored.VersionID
		return u.verified(ctx, o)
	case failed != nil && !wire.IsMissing(failed):
		err = fmt.Errorf("%w (and to find out: %w)", err, failed)
	}
	return o, &AmbiguousError{ETag: stored.ETag, Err: err}
}

// stored reports whether the upload of the state file is gone because it was
// completed: the object has the bytes of the source. While a store puts the parts
// together for a process that was killed then, it may show neither the upload nor
// the object; so if all parts were there, it is asked a few times.
func (m *multipart) stored(ctx context.Context) (Object, bool) {
	all := m.src.All()
	if all == nil || m.state.Head.Upload == "" { // it was dropped, as it would have been another object
		return Object{}, false
	}
	looks := m.store.policy
	looks.MaxAttempts, looks.Observe = 1, func(context.Context, retry.Event) {}
	if m.state.Bytes() == all.Size() {
		looks.MaxAttempts = 5
	}
	object, err := retry.Value(ctx, &looks, func(ctx context.Context) (Object, error) {
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

var errNotStored = errors.New("the object is not there yet")
