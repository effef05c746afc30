package objects

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/seed-0f2c7998/perdure/awsretry/internal/wire"
	"github.com/seed-0f2c7998/perdure/retry"
)

// Delete deletes the object. That there is none is success.
func (s *Store) Delete(ctx context.Context, bucket, key string) error {
	return wrap("delete", bucket, key, s.delete(ctx, bucket, key))
}

func (s *Store) delete(ctx context.Context, bucket, key string) error {
	_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &bucket, Key: &key})
	if wire.IsMissing(err) {
		return nil
	}
	return err
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
			failed := s.deleteKeys(ctx, bucket, batch)
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

// deleteKeys deletes these keys and returns the errors by key. A key that XML
// cannot carry has a request of its own: in one for many it would be another key.
func (s *Store) deleteKeys(ctx context.Context, bucket string, keys []string) map[string]error {
	many := slices.DeleteFunc(slices.Clone(keys), isNoText)
	failed := make(map[string]error)
	if len(many) > 0 {
		failed = s.deleteBatch(ctx, bucket, many)
	}
	for _, key := range keys {
		if !isNoText(key) {
			continue
		}
		if err := s.delete(ctx, bucket, key); err != nil {
			failed[key] = err
		}
	}
	return failed
}

// isNoText reports whether key has a character that XML 1.0 has not, or that it
// reads as another one.
func isNoText(key string) bool {
	return !utf8.ValidString(key) || strings.ContainsFunc(key, func(r rune) bool {
		return r < ' ' && r != '\t' && r != '\n' || r == 0xFFFE || r == 0xFFFF
	})
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
			case class == retry.ClassTransient || class == retry.ClassThrottled || class == retry.ClassConflict:
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
// store. A key that the store lists twice, within two pages, is yielded once. A
// page that fails is requested again, as the policy says; if that does not help,
// the last pair has the error, and the listing is not complete. A listing of more
// than a million pages, one that goes in a circle, or one with a key that does not
// begin with prefix is [ErrListing]. An error beside an Object with a Key is that
// of this key alone, which the store has encoded wrongly: the listing goes on.
func (s *Store) List(ctx context.Context, bucket, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		in := &s3.ListObjectsV2Input{Bucket: &bucket, Prefix: optional(prefix), EncodingType: types.EncodingTypeUrl}
		walk, seen := s.walk(), recent{}
		for {
			out, err := s.client.ListObjectsV2(ctx, in)
			enough, token := false, ""
			if err == nil {
				enough, err = page(bucket, prefix, out, func(o Object, err error) bool { return err == nil && seen.has(o.Key) || yield(o, err) })
			}
			if err == nil && !enough && aws.ToBool(out.IsTruncated) {
				token = aws.ToString(out.NextContinuationToken)
				err = walk.step(token)
			}
			if err != nil {
				yield(Object{}, wrap("list", bucket, prefix, err))
			}
			if err != nil || token == "" {
				return
			}
			in.ContinuationToken = &token
			seen.turn()
		}
	}
}

// maxPages is of how many pages a listing may be.
const maxPages = 1_000_000

// A walk is a way through the pages of a listing, which has an end: a store can
// neither lead it in a circle nor go on for ever.
type walk struct {
	most  int
	seed  maphash.Seed
	steps map[uint64]struct{} // the hashes of what has led to a page
}

func (s *Store) walk() *walk {
	return &walk{most: s.maxPages, seed: maphash.MakeSeed(), steps: make(map[uint64]struct{})}
}

// step returns an error unless a page may follow that has this token, or these
// markers, of which the first must not be empty.
func (w *walk) step(token string, more ...string) error {
	step := maphash.Comparable(w.seed, [2]string{token, strings.Join(more, "\x00")})
	_, known := w.steps[step]
	switch {
	case token == "":
		return fmt.Errorf("%w: a page says that more follow, but not how to get them", ErrListing)
	case known:
		return fmt.Errorf("%w: two pages have the same continuation token", ErrListing)
	case len(w.steps)+1 >= w.most:
		return fmt.Errorf("%w: it has more than %d pages", ErrListing, w.most)
	}
	w.steps[step] = struct{}{}
	return nil
}

// recent holds the keys of two pages.
type recent struct{ page, before map[string]struct{} }

// has reports whether key is among them, and adds it.
func (r *recent) has(key string) bool {
	_, now := r.page[key]
	_, before := r.before[key]
	if r.page == nil {
		r.page = make(map[string]struct{})
	}
	r.page[key] = struct{}{}
	return now || before
}

// turn begins a page.
func (r *recent) turn() { r.page, r.before = nil, r.page }

// plainKey returns a key as it is, of a response that has it in this encoding. With an error it is the key as far as it can
// be decoded.
func plainKey(key *string, e types.EncodingType) (string, error) {
	switch e {
	case types.EncodingTypeUrl:
		text := aws.ToString(key)
		plain, err := url.QueryUnescape(text)
		if err == nil {
			return plain, nil
		}
		parts := strings.Split(text, "%")
		for i, part := range parts[1:] {
			if _, failed := url.QueryUnescape("%" + part); failed != nil {
				parts[i+1] = "25" + part
			}
		}
		plain, _ = url.QueryUnescape(strings.Join(parts, "%"))
		return plain, err
	case wire.EncodingLegible:
		return wire.Illegible(aws.ToString(key)), nil
	}
	return aws.ToString(key), nil
}

// begins returns an error unless a key that is listed begins with the prefix that was asked for: some servers list all that
// they have, whatever the request says.
func begins(key, prefix string) error {
	if strings.HasPrefix(key, prefix) {
		return nil
	}
	return fmt.Errorf("%w: it has the key %q, which does not begin with %q", ErrListing, key, prefix)
}

// page yields the objects of one page, and reports whether that is enough.
func page(bucket, prefix string, out *s3.ListObjectsV2Output, yield func(Object, error) bool) (enough bool, err error) {
	for _, found := range out.Contents {
		key, garbled := plainKey(found.Key, out.EncodingType)
		if err := begins(key, prefix); err != nil {
			return false, err
		}
		if !yield(Object{
			Bucket: bucket, Key: key, Size: aws.ToInt64(found.Size), ETag: aws.ToString(found.ETag),
			Modified: aws.ToTime(found.LastModified), Attributes: Attributes{StorageClass: string(found.StorageClass)},
		}, wrap("list", bucket, key, garbled)) {
			return true, nil
		}
	}
	return false, nil
}

// listParts yields the parts that the store has of an upload.
func (s *Store) listParts(ctx context.Context, bucket, key, upload string) iter.Seq2[types.Part, error] {
	return func(yield func(types.Part, error) bool) {
		in, walk := &s3.ListPartsInput{Bucket: &bucket, Key: &key, UploadId: &upload}, s.walk()
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
			if err := walk.step(aws.ToString(out.NextPartNumberMarker)); err != nil {
				yield(types.Part{}, err)
				return
			}
			in.PartNumberMarker = out.NextPartNumberMarker
		}
	}
}
