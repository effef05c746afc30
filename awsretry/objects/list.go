package objects

import (
	"context"
	"errors"
	"iter"
	"net/url"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/seed-0f2c7998/perdure/awsretry/internal/wire"
	"github.com/seed-0f2c7998/perdure/retry"
)

// Delete deletes the object. That there is none is success.
func (s *Store) Delete(ctx context.Context, bucket, key string) error {
	_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &bucket, Key: &key})
	if err != nil && !wire.IsMissing(err) {
		return wrap("delete", bucket, key, err)
	}
	return nil
}

// maxDelete is how many keys a request of S3 deletes.
const maxDelete = 1000

// DeleteAll deletes the objects of these keys, a thousand in a request, and
// yields each key with its result once it is known. That there is none is
// success. Keys whose deletion failed for a reason that may pass are sent again,
// alone, as the policy says. When the loop is left, what was not yielded is not
// known.
func (s *Store) DeleteAll(ctx context.Context, bucket string, keys iter.Seq[string]) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		batch := make([]string, 0, maxDelete)
		flush := func() bool {
			failed := s.deleteBatch(ctx, bucket, batch)
			for _, key := range batch {
				if !yield(key, wrap("delete", bucket, key, failed[key])) {
					return false
				}
			}
			batch = batch[:0]
			return true
		}
		for key := range keys {
			if batch = append(batch, key); len(batch) == maxDelete && !flush() {
				return
			}
		}
		if len(batch) > 0 {
			flush()
		}
	}
}

// A keyError is what a store says of one key of many.
type keyError struct{ code, message string }

func (e *keyError) Error() string { return "api error " + e.code + ": " + e.message }

// ErrorCode is how package retry finds the code.
func (e *keyError) ErrorCode() string { return e.code }

// deleteBatch deletes these keys and returns the errors by key.
func (s *Store) deleteBatch(ctx context.Context, bucket string, keys []string) map[string]error {
	failed := make(map[string]error)
	var refused map[string]error // by the last answer, for a while
	policy := s.policy
	policy.Classify = nil // the requests have theirs; these are codes
	err := retry.Do(ctx, &policy, func(ctx context.Context) error {
		in := &s3.DeleteObjectsInput{Bucket: &bucket, Delete: &types.Delete{Quiet: aws.Bool(true)}}
		for _, key := range keys {
			in.Delete.Objects = append(in.Delete.Objects, types.ObjectIdentifier{Key: &key})
		}
		refused = make(map[string]error)
		out, err := s.client.DeleteObjects(ctx, in, withMD5)
		if err != nil {
			return retry.Permanent(err) // it has had its attempts
		}
		var again []string
		for _, e := range out.Errors {
			key, refusal := aws.ToString(e.Key), &keyError{aws.ToString(e.Code), aws.ToString(e.Message)}
			class, _ := policy.ClassOf(refusal)
			switch {
			case refusal.code == "NoSuchKey" || refusal.code == "NoSuchVersion":
			case class == retry.ClassTransient || class == retry.ClassThrottled:
				again, err = append(again, key), refusal
				refused[key] = refusal
			default:
				failed[key] = refusal
			}
		}
		keys = again
		return err
	})
	if err != nil { // and what is left of the keys shares it
		for _, key := range keys {
			failed[key] = ofKey(err, refused[key])
		}
	}
	return failed
}

// ofKey returns the end of a batch as that of one of its keys, which the store
// has refused; nil: the whole batch failed.
func ofKey(end, refusal error) error {
	e, ok := errors.AsType[*retry.Error](end)
	if !ok || refusal == nil {
		return end
	}
	own := *e
	own.Last = refusal
	return &own
}

// withMD5 adds the checksum that this request had before S3 had others: some
// stores want it still.
func withMD5(o *s3.Options) {
	o.APIOptions = append(slices.Clip(o.APIOptions), smithyhttp.AddContentChecksumMiddleware)
}

// List yields the objects whose keys begin with prefix, in the order of the
// store, each once. A page that fails is asked for again, as the policy says; if
// that does not help, the last pair has the error, and the listing is not
// complete.
func (s *Store) List(ctx context.Context, bucket, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		in := &s3.ListObjectsV2Input{Bucket: &bucket, Prefix: optional(prefix), EncodingType: types.EncodingTypeUrl}
		for {
			out, err := s.client.ListObjectsV2(ctx, in)
			enough := false
			if err == nil {
				enough, err = page(bucket, out, func(o Object) bool { return yield(o, nil) })
			}
			switch {
			case enough:
				return
			case err != nil:
				yield(Object{}, wrap("list", bucket, prefix, err))
				return
			case !aws.ToBool(out.IsTruncated):
				return
			}
			token := aws.ToString(out.NextContinuationToken)
			if token == "" || token == aws.ToString(in.ContinuationToken) {
				yield(Object{}, wrap("list", bucket, prefix, ErrListing))
				return
			}
			in.ContinuationToken = &token
		}
	}
}

// page yields the objects of one page, and reports whether that is enough.
func page(bucket string, out *s3.ListObjectsV2Output, yield func(Object) bool) (enough bool, err error) {
	for _, found := range out.Contents {
		key := aws.ToString(found.Key)
		if out.EncodingType == types.EncodingTypeUrl {
			if key, err = url.QueryUnescape(key); err != nil {
				return false, err
			}
		}
		if !yield(Object{
			Bucket: bucket, Key: key, Size: aws.ToInt64(found.Size), ETag: aws.ToString(found.ETag),
			Modified: aws.ToTime(found.LastModified), StorageClass: string(found.StorageClass),
		}) {
			return true, nil
		}
	}
	return false, nil
}

// listParts yields the parts that the store has of an upload.
func (s *Store) listParts(ctx context.Context, bucket, key, upload string) iter.Seq2[types.Part, error] {
	return func(yield func(types.Part, error) bool) {
		in := &s3.ListPartsInput{Bucket: &bucket, Key: &key, UploadId: &upload}
		for {
			out, err := s.client.ListParts(ctx, in)
			if err != nil {
				yield(types.Part{}, err)
				return
			}
			for _, p := range out.Parts {
				if !yield(p, nil) {
					return
				}
			}
			if !aws.ToBool(out.IsTruncated) {
				return
			}
			next := aws.ToString(out.NextPartNumberMarker)
			if next == "" || next == aws.ToString(in.PartNumberMarker) {
				yield(types.Part{}, ErrListing)
				return
			}
			in.PartNumberMarker = &next
		}
	}
}

// Clean aborts the uploads in parts of keys that begin with prefix which were
// begun more than age ago, and returns how many: those that a killed process has
// left behind, and that nobody goes on with. The store keeps, and charges for,
// their parts until then. An age less than an upload takes aborts what is still
// under way.
func (s *Store) Clean(ctx context.Context, bucket, prefix string, age time.Duration) (int, error) {
	limit := time.Now().Add(-age)
	in := &s3.ListMultipartUploadsInput{Bucket: &bucket, Prefix: optional(prefix)}
	count := 0
	for {
		out, err := s.client.ListMultipartUploads(ctx, in)
		switch {
		case wire.HasCode(err, "NoSuchUpload"): // some stores have no list, rather than an empty one
			return count, nil
		case err != nil:
			return count, wrap("clean", bucket, prefix, err)
		}
		for _, u := range out.Uploads {
			if u.Initiated != nil && u.Initiated.After(limit) {
				continue
			}
			_, err := s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &bucket, Key: u.Key, UploadId: u.UploadId})
			if err != nil && !wire.HasCode(err, "NoSuchUpload") {
				return count, wrap("clean", bucket, aws.ToString(u.Key), err)
			}
			count++
		}
		if !aws.ToBool(out.IsTruncated) {
			return count, nil
		}
		if aws.ToString(out.NextKeyMarker) == "" || aws.ToString(out.NextKeyMarker) == aws.ToString(in.KeyMarker) && aws.ToString(out.NextUploadIdMarker) == aws.ToString(in.UploadIdMarker) {
			return count, wrap("clean", bucket, prefix, ErrListing)
		}
		in.KeyMarker, in.UploadIdMarker = out.NextKeyMarker, out.NextUploadIdMarker
	}
}
