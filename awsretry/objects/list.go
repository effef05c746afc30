package objects

import (
	"context"
	"iter"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// Delete deletes the object. That there is none is success.
func (s *Store) Delete(ctx context.Context, bucket, key string) error {
	_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &bucket, Key: &key})
	if err != nil && !isMissing(err) {
		return wrap("delete", bucket, key, err)
	}
	return nil
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
		if err != nil {
			return count, wrap("clean", bucket, prefix, err)
		}
		for _, u := range out.Uploads {
			if u.Initiated != nil && u.Initiated.After(limit) {
				continue
			}
			_, err := s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &bucket, Key: u.Key, UploadId: u.UploadId})
			if err != nil && !hasCode(err, "NoSuchUpload") {
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
