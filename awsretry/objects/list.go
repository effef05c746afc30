package objects

import (
	"context"
	"fmt"
	"hash/maphash"
	"iter"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/seed-0f2c7998/perdure/awsretry/internal/wire"
)

// List yields the objects whose keys begin with prefix, in the order of the store. A key that the store lists twice
// within two pages is yielded once. A page that fails is requested again, as the policy says; if all attempts fail,
// the last pair has the error, and the listing is incomplete. A listing of more than a million pages, with a repeated
// continuation token, or with a key that does not begin with prefix ends with [ErrListing]. An error beside an Object
// with a Key concerns that key alone, which the store has encoded wrongly; the listing continues.
func (s *Store) List(ctx context.Context, bucket, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		in := &s3.ListObjectsV2Input{Bucket: &bucket, Prefix: optional(prefix), EncodingType: types.EncodingTypeUrl}
		walk, seen := s.walk(), recent{}
		for {
			out, err := s.client.ListObjectsV2(ctx, in)
			left, token := false, ""
			if err == nil {
				left, err = page(bucket, prefix, out, func(o Object, err error) bool { return err == nil && seen.has(o.Key) || yield(o, err) })
			}
			if err == nil && !left && aws.ToBool(out.IsTruncated) {
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
			seen.nextPage()
		}
	}
}

// maxPages is the limit of pages of a listing.
const maxPages = 1_000_000

// A walk is the path through the pages of one listing. It detects a store that repeats pages or never ends.
type walk struct {
	most  int
	seed  maphash.Seed
	steps map[uint64]struct{} // hashes of the tokens and markers so far
}

func (s *Store) walk() *walk {
	return &walk{most: s.maxPages, seed: maphash.MakeSeed(), steps: make(map[uint64]struct{})}
}

// step returns an error unless the page with this token, or these markers, may follow. The token, or the first
// marker, must not be empty.
func (w *walk) step(token string, more ...string) error {
	step := maphash.Comparable(w.seed, [2]string{token, strings.Join(more, "\x00")})
	_, known := w.steps[step]
	switch {
	case token == "":
		return fmt.Errorf("%w: a truncated page has no continuation token", ErrListing)
	case known:
		return fmt.Errorf("%w: two pages have the same continuation token", ErrListing)
	case len(w.steps)+1 >= w.most:
		return fmt.Errorf("%w: more than %d pages", ErrListing, w.most)
	}
	w.steps[step] = struct{}{}
	return nil
}

// A recent holds the keys of the last two pages.
type recent struct{ page, before map[string]struct{} }

// has reports whether the last two pages have key, and adds it.
func (r *recent) has(key string) bool {
	_, now := r.page[key]
	_, before := r.before[key]
	if r.page == nil {
		r.page = make(map[string]struct{})
	}
	r.page[key] = struct{}{}
	return now || before
}

// nextPage begins a page.
func (r *recent) nextPage() { r.page, r.before = nil, r.page }

// plainKey decodes a key of a response with that encoding. With an error, it returns the key as far as it can be
// decoded.
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

// checkPrefix returns an error unless a listed key begins with the requested prefix: some servers list everything,
// whatever the request says.
func checkPrefix(key, prefix string) error {
	if strings.HasPrefix(key, prefix) {
		return nil
	}
	return fmt.Errorf("%w: the key %q does not begin with %q", ErrListing, key, prefix)
}

// page yields the objects of one page, and reports whether the loop was left.
func page(bucket, prefix string, out *s3.ListObjectsV2Output, yield func(Object, error) bool) (left bool, err error) {
	for _, found := range out.Contents {
		key, garbled := plainKey(found.Key, out.EncodingType)
		if err := checkPrefix(key, prefix); err != nil {
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

// listParts yields the stored parts of an upload.
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
