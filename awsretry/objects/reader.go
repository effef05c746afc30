package objects

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/seed-0f2c7998/perdure/awsretry/internal/slots"
	"github.com/seed-0f2c7998/perdure/awsretry/internal/wire"
	"github.com/seed-0f2c7998/perdure/internal/calls"
	"github.com/seed-0f2c7998/perdure/internal/stall"
)

// A Reader reads an object. After a broken or stalled connection it resumes at the next byte, as long as the object
// is the same. Read returns io.EOF only after it has verified all bytes. A Reader is for one goroutine.
type Reader struct {
	store   *Store
	ctx     context.Context //nolint:containedctx // of Open, as for an http.Response's body
	object  Object
	version string
	slot    *slots.Slot // of a getter's request until Close; nil without a getter

	body io.ReadCloser // of the current response; nil: to be requested

	offset int64 // of the next byte
	end    int64 // where to stop; -1: unknown
	piece  bool  // a range of a known object, which is not verified here
	fresh  bool  // before the first response of a getter's request, which may begin at 0 and is not verified here
	tags   bool  // read the tags with the first response
	opened int64 // offset where body began

	want reference // of all bytes
	sum  hash.Hash // of the delivered bytes; nil if they are not verified here

	began time.Time // the first attempt since a body delivered bytes
	call  calls.Call
	err   error // how the Reader ended
}

// Open returns a Reader of the object, for the caller to close. ctx bounds all reads.
func (s *Store) Open(ctx context.Context, bucket, key string, o GetOptions) (*Reader, error) {
	r := &Reader{store: s, ctx: ctx, object: Object{Bucket: bucket, Key: key}, version: o.VersionID, tags: o.Tags}
	if err := r.open(); err != nil {
		return nil, wrap("get", bucket, key, err)
	}
	return r, nil
}

// Object returns the description of the object. Verified is empty until Read has returned io.EOF.
func (r *Reader) Object() Object { return r.object }

// Close ends the request. It always returns nil.
func (r *Reader) Close() error {
	r.drop()
	r.slot.Release()
	r.slot = nil
	if r.err == nil {
		r.err = errors.New("the Reader is closed")
	}
	return nil
}

// Read reads from the object. It waits while it resumes.
func (r *Reader) Read(p []byte) (int, error) {
	for r.err == nil && len(p) > 0 {
		if r.body == nil {
			if r.err = r.open(); r.err != nil {
				break
			}
		}
		n, err := 0, error(nil)
		if r.offset != r.end {
			n, err = r.readBody(p)
		}
		if r.offset == r.end { // regardless of err
			r.drop()
			r.err = r.verify()
			return n, r.endError()
		}
		if err != nil {
			r.drop()
			r.err = r.handleBreak(err)
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, r.endError()
}

// endError returns r.err for the caller.
func (r *Reader) endError() error {
	if r.err == nil || r.err == io.EOF { //nolint:errorlint // as verify returns it
		return r.err
	}
	return wrap("get", r.object.Bucket, r.object.Key, r.err)
}

// readBody reads once from the current response.
func (r *Reader) readBody(p []byte) (int, error) {
	if r.end >= 0 {
		p = p[:min(int64(len(p)), r.end-r.offset)]
	}
	n, err := r.body.Read(p)
	r.offset += int64(n)
	if r.sum != nil {
		_, _ = r.sum.Write(p[:n])
	}
	switch {
	case r.end < 0 && err == io.EOF:
		r.end, r.object.Size = r.offset, r.offset
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// drop closes the current response.
func (r *Reader) drop() {
	if r.body == nil {
		return
	}
	_ = r.body.Close()
	r.body = nil
}

// handleBreak returns nil if the Reader is to resume after err. A body that delivered new bytes, and not too slowly,
// resumes at once; any other is a failed attempt.
func (r *Reader) handleBreak(err error) error {
	if r.ctx.Err() != nil {
		return context.Cause(r.ctx)
	}
	if r.offset > r.opened && !stall.IsSlow(err) {
		r.call = nil
		return nil
	}
	r.slot.Yield()
	return r.store.waitRetry(r.ctx, &r.call, r.began, err)
}

// open requests the object from the offset on.
func (r *Reader) open() error {
	if r.call == nil {
		r.began = time.Now()
	}
	in := &s3.GetObjectInput{Bucket: &r.object.Bucket, Key: &r.object.Key, VersionId: optional(r.version)}
	resumed := r.offset > 0 || r.piece
	if resumed {
		if !r.resumable() {
			return fmt.Errorf("%w: the connection broke, and without a size and a strong ETag the rest cannot be requested", ErrChanged)
		}
		in.IfMatch, in.Range = aws.String(r.object.ETag), aws.String(fmt.Sprintf("bytes=%d-%d", r.offset, r.end-1))
	}
	ctx, cancel := context.WithCancel(r.ctx)
	out, err := r.store.client.GetObject(ctx, in, withChecksums, r.slot.Attempts)
	if err != nil {
		cancel()
		if resumed && wire.HasStatus(err, http.StatusPreconditionFailed, http.StatusRequestedRangeNotSatisfiable) {
			err = fmt.Errorf("%w: %w", ErrChanged, err)
		}
		return err
	}
	r.body, r.opened = wire.Limited(out.Body, r.store.limitsNow(), cancel), r.offset
	if resumed {
		err = r.handleResumed(out)
	} else {
		err = r.handleFirst(out)
	}
	r.fresh = false
	if err != nil {
		r.drop()
	}
	return err
}

// trickle is the least bytes per second that a body must deliver after MaxElapsed.
const trickle = 1 << 10

// limitsNow returns the limits of a body that begins now.
func (s *Store) limitsNow() stall.Limits {
	l := s.limits
	if l.MinRate == 0 && s.policy.MaxElapsed > 0 {
		l.MinRate, l.From = trickle, time.Now().Add(s.policy.MaxElapsed)
	}
	return l
}

// withChecksums requests the object's checksums. The SDK's own option would also compare them with the bytes of a
// range.
func withChecksums(o *s3.Options) {
	o.APIOptions = append(slices.Clip(o.APIOptions), smithyhttp.SetHeaderValue("X-Amz-Checksum-Mode", "ENABLED"))
}

// resumable reports whether a later request can be restricted to the same object.
func (r *Reader) resumable() bool { return isStrong(r.object.ETag) && r.object.Size >= 0 }

// handleFirst records what the first response says of the object.
func (r *Reader) handleFirst(out *s3.GetObjectOutput) error {
	head := headOf(out)
	tag, size := aws.ToString(out.ETag), int64(-1)
	switch span := aws.ToString(out.ContentRange); {
	case tag == "":
		return errNoObject
	case span != "":
		return fmt.Errorf("requested the whole object, received %q", span)
	}
	if out.ContentLength != nil {
		size = *out.ContentLength
	}
	r.object = describe(r.object, head, size)
	r.end = size
	r.chooseChecksum(head)
	if !r.fresh {
		r.sum = r.want.sum.New()
	}
	return r.readTags(out.TagCount)
}

// errNoObject is the error of a response without an ETag.
var errNoObject = errors.New("the response has no ETag, which every object in S3 has")

// readTags requests the tags if the object has any.
func (r *Reader) readTags(count *int32) error {
	if !r.tags || aws.ToInt32(count) <= 0 {
		return nil
	}
	return r.store.readTags(r.ctx, &r.object, r.version)
}

// handleResumed returns an error unless a response continues at the offset.
func (r *Reader) handleResumed(out *s3.GetObjectOutput) error {
	if tag := aws.ToString(out.ETag); tag != r.object.ETag {
		return fmt.Errorf("%w: its ETag was %s, now it is %s", ErrChanged, r.object.ETag, tag)
	}
	span := aws.ToString(out.ContentRange)
	if span == "" && aws.ToInt64(out.ContentLength) == r.object.Size { // the whole object again
		if r.fresh {
			r.offset, r.opened, r.end = 0, 0, r.object.Size
			return nil
		}
		return r.skip()
	}
	want := fmt.Sprintf("bytes %d-%d/%d", r.offset, r.end-1, r.object.Size)
	if span != want {
		return fmt.Errorf("%w: requested %q, received %q", ErrChanged, want, span)
	}
	if r.fresh { // and no response has described the object yet
		r.object = describe(r.object, headOf(out), r.object.Size)
		return r.readTags(out.TagCount)
	}
	return nil
}

// skip discards the bytes that were already delivered.
func (r *Reader) skip() error {
	if n, err := io.CopyN(io.Discard, r.body, r.offset); err != nil {
		return fmt.Errorf("the store does not support ranges, and the connection broke again after %d of %d bytes: %w", n, r.object.Size, err)
	}
	return nil
}

// verify returns io.EOF if the delivered bytes match the store's checksum.
func (r *Reader) verify() (err error) {
	if r.piece {
		return io.EOF
	}
	var got []byte
	if r.sum != nil {
		got = r.sum.Sum(nil)
	}
	by, err := r.want.sum.Verify(got, r.want.inconclusive)
	if r.object.Verified = Verification(by); err != nil {
		return err
	}
	return io.EOF
}

// isStrong reports whether an ETag identifies the exact bytes.
func isStrong(tag string) bool { return tag != "" && !strings.HasPrefix(tag, "W/") }
