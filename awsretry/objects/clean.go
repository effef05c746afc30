package objects

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/seed-0f2c7998/perdure/awsretry/internal/wire"
)

// AbortUploads aborts the uploads in parts of keys that begin with prefix which were
// begun more than olderThan ago, and returns how many: those that a killed process has
// left behind, and that nobody goes on with. The store keeps, and charges for,
// their parts until then. An olderThan less than an upload takes aborts what is still
// under way. An upload that the store refuses to abort is skipped: the error is
// then an [*UncleanError], and all others are aborted.
func (s *Store) AbortUploads(ctx context.Context, bucket, prefix string, olderThan time.Duration) (int, error) {
	c := cleaning{store: s, bucket: bucket, prefix: prefix, limit: time.Now().Add(-olderThan)}
	in := &s3.ListMultipartUploadsInput{Bucket: &bucket, Prefix: optional(prefix), EncodingType: types.EncodingTypeUrl}
	for walk := s.walk(); ; {
		out, err := s.client.ListMultipartUploads(ctx, in)
		switch {
		case wire.HasCode(err, "NoSuchUpload"): // some stores have no list, rather than an empty one
			return c.count, c.skipped.orNil()
		case err != nil:
			return c.count, wrap("clean", bucket, prefix, err)
		}
		for _, u := range out.Uploads {
			if err := c.abort(ctx, u, out.EncodingType); err != nil {
				return c.count, err
			}
		}
		if !aws.ToBool(out.IsTruncated) {
			return c.count, c.skipped.orNil()
		}
		marker, err := plainKey(out.NextKeyMarker, out.EncodingType)
		if err = cmp.Or(err, walk.step(marker, aws.ToString(out.NextUploadIdMarker))); err != nil {
			return c.count, wrap("clean", bucket, prefix, err)
		}
		in.KeyMarker, in.UploadIdMarker = &marker, out.NextUploadIdMarker
	}
}

// An UncleanError reports uploads that [Store.AbortUploads] has skipped.
type UncleanError struct {
	Uploads []*Error // the first hundred of them
	Count   int      // of all
}

// Error has a clause for each of the first uploads.
func (e *UncleanError) Error() string {
	text := "1 unfinished upload was skipped"
	if e.Count != 1 {
		text = fmt.Sprintf("%d unfinished uploads were skipped", e.Count)
	}
	for i, upload := range e.Uploads[:min(len(e.Uploads), 5)] {
		text += [...]string{": ", "; "}[min(i, 1)] + upload.Error()
	}
	return text
}

// Unwrap returns the errors of Uploads.
func (e *UncleanError) Unwrap() []error {
	all := make([]error, len(e.Uploads))
	for i, upload := range e.Uploads {
		all[i] = upload
	}
	return all
}

func (e *UncleanError) orNil() error {
	if e.Count == 0 {
		return nil
	}
	return e
}

// A cleaning is one AbortUploads.
type cleaning struct {
	store   *Store
	bucket  string
	prefix  string    // of the keys that were asked for
	limit   time.Time // of what was begun before
	count   int
	skipped UncleanError
}

// abort drops one upload. The error is one that all others would have as well.
func (c *cleaning) abort(ctx context.Context, u types.MultipartUpload, encoding types.EncodingType) error {
	if u.Initiated != nil && u.Initiated.After(c.limit) {
		return nil
	}
	key, err := plainKey(u.Key, encoding)
	if err == nil {
		if err := begins(key, c.prefix); err != nil {
			return wrap("clean", c.bucket, c.prefix, err)
		}
		_, err = c.store.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &c.bucket, Key: &key, UploadId: u.UploadId})
	}
	if wire.HasCode(err, "NoSuchUpload") && encoding != types.EncodingTypeUrl && strings.ContainsRune(key, utf8.RuneError) {
		err = fmt.Errorf("the store lists another key than it has: %w", err)
	} else if wire.HasCode(err, "NoSuchUpload") {
		err = nil // it is gone
	}
	switch {
	case err == nil:
		c.count++
		return nil
	case ctx.Err() != nil, key != "" && !wire.HasStatus(err, http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound):
		return wrap("clean", c.bucket, key, err)
	}
	if c.skipped.Count++; len(c.skipped.Uploads) < 100 {
		c.skipped.Uploads = append(c.skipped.Uploads, &Error{Op: "clean", Bucket: c.bucket, Key: cmp.Or(key, aws.ToString(u.Key)), Err: err})
	}
	return nil
}
