package objects

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/seed-0f2c7998/perdure/awsretry/internal/journal"
	"github.com/seed-0f2c7998/perdure/awsretry/internal/wire"
	"github.com/seed-0f2c7998/perdure/retry"
)

// Delete deletes an object. A missing object is not an error.
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

// maxDelete is how many keys one request deletes.
const maxDelete = 1000

// DeleteAll deletes the objects of the given keys, a thousand in a request, and yields each key with its result. A
// missing object is not an error. Keys whose deletion failed for a reason that may pass are sent again, without the
// others, as the policy says. A key that the response does not name gets a request of its own. If the loop ends early,
// the result of keys that were not yielded is unknown.
func (s *Store) DeleteAll(ctx context.Context, bucket string, keys iter.Seq[string]) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		batch := make([]string, 0, maxDelete)
		flush := func() bool {
			results := s.deleteKeys(ctx, bucket, batch)
			for _, key := range batch {
				if !yield(key, wrap("delete", bucket, key, results[key])) {
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

// deleteKeys deletes the given keys and returns the results by key. A key that XML cannot carry gets its own request: in a
// request for many keys it would become another key. So does one that the store has not confirmed.
func (s *Store) deleteKeys(ctx context.Context, bucket string, keys []string) map[string]error {
	many := slices.DeleteFunc(slices.Clone(keys), isNoText)
	results := make(map[string]error, len(keys))
	if len(many) > 0 {
		s.deleteBatch(ctx, bucket, many, results)
	}
	for _, key := range keys {
		if _, known := results[key]; !known {
			results[key] = s.delete(ctx, bucket, key)
		}
	}
	return results
}

// isNoText reports whether key has a character that XML 1.0 cannot carry, or reads as another one.
func isNoText(key string) bool {
	return !utf8.ValidString(key) || strings.ContainsFunc(key, func(r rune) bool {
		return r < ' ' && r != '\t' && r != '\n' || r == 0xFFFE || r == 0xFFFF
	})
}

// A keyError is the error of one key in the response to a request for many.
type keyError struct{ code, message string }

func (e *keyError) Error() string { return "api error " + e.code + ": " + e.message }

// ErrorCode lets package retry classify the error.
func (e *keyError) ErrorCode() string { return e.code }

// deleteBatch deletes up to maxDelete keys and adds the results to a map: an error, or nil for a key of which the store says
// that it is gone.
func (s *Store) deleteBatch(ctx context.Context, bucket string, keys []string, results map[string]error) {
	var refused map[string]error // keys to send again, with the errors of the last response
	policy := s.policy
	policy.Classify = nil // which classifies requests; here only error codes are classified
	err := retry.Do(ctx, &policy, func(ctx context.Context) error {
		in := &s3.DeleteObjectsInput{Bucket: &bucket, Delete: new(types.Delete)} // not Quiet, which leaves out the keys that are deleted
		for _, key := range keys {
			in.Delete.Objects = append(in.Delete.Objects, types.ObjectIdentifier{Key: &key})
		}
		refused = make(map[string]error)
		out, err := s.client.DeleteObjects(ctx, in, withMD5)
		if err != nil {
			return retry.Permanent(err) // the request has used its attempts
		}
		for _, d := range out.Deleted {
			results[aws.ToString(d.Key)] = nil
		}
		var again []string
		for _, e := range out.Errors {
			key, refusal := aws.ToString(e.Key), &keyError{aws.ToString(e.Code), aws.ToString(e.Message)}
			class, _ := policy.ClassOf(refusal)
			switch {
			case refusal.code == "NoSuchKey" || refusal.code == "NoSuchVersion":
				results[key] = nil
			case class == retry.ClassTransient || class == retry.ClassThrottled || class == retry.ClassConflict:
				again, err = append(again, key), refusal
				refused[key] = refusal
			default:
				results[key] = refusal
			}
		}
		keys = again
		return err
	})
	if err != nil { // it ends the keys that are left, too
		for _, key := range keys {
			results[key] = ofKey(err, refused[key])
		}
	}
}

// ofKey returns the error that ended a batch for one of its keys, with the key's last error; nil refusal: the whole
// batch failed.
func ofKey(end, refusal error) error {
	e, ok := errors.AsType[*retry.Error](end)
	if !ok || refusal == nil {
		return end
	}
	own := *e
	own.Last = refusal
	return &own
}

// withMD5 adds the Content-MD5 header, which some stores still require.
func withMD5(o *s3.Options) {
	o.APIOptions = append(slices.Clip(o.APIOptions), smithyhttp.AddContentChecksumMiddleware)
}

// AbortUpload aborts the upload that a state file records, which removes its parts from the store, and removes the
// file. If the abort fails, the file stays. A missing file, or one of another endpoint, is not an error.
func (s *Store) AbortUpload(ctx context.Context, statePath string) error {
	j, err := journal.Open(statePath)
	if err != nil {
		return err
	}
	defer j.Close()
	h := j.Head
	if h.Upload == "" || h.Endpoint != s.endpoint {
		return nil
	}
	if err := s.abort(ctx, h.Bucket, h.Key, h.Upload, nil); err != nil {
		return wrap("abort", h.Bucket, h.Key, err)
	}
	j.Remove()
	return nil
}

// AbortUploads aborts the multipart uploads of keys with that prefix which began more than olderThan ago, and returns
// their number. Such uploads are left by killed processes; the store charges for their parts until they are aborted.
// An olderThan shorter than an upload takes aborts uploads in progress. An upload that the store refuses to abort is
// skipped: the error is then an [*UncleanError], and all others are aborted.
func (s *Store) AbortUploads(ctx context.Context, bucket, prefix string, olderThan time.Duration) (int, error) {
	c := aborting{store: s, bucket: bucket, prefix: prefix, limit: time.Now().Add(-olderThan)}
	in := &s3.ListMultipartUploadsInput{Bucket: &bucket, Prefix: optional(prefix), EncodingType: types.EncodingTypeUrl}
	for walk := s.walk(); ; {
		out, err := s.client.ListMultipartUploads(ctx, in)
		switch {
		case wire.HasCode(err, "NoSuchUpload"): // some stores respond with this instead of an empty list
			return c.count, c.skipped.orNil()
		case err != nil:
			return c.count, wrap("abort", bucket, prefix, err)
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
			return c.count, wrap("abort", bucket, prefix, err)
		}
		in.KeyMarker, in.UploadIdMarker = &marker, out.NextUploadIdMarker
	}
}

// An UncleanError reports uploads that [Store.AbortUploads] has skipped.
type UncleanError struct {
	Uploads []*Error // the first hundred
	Count   int      // of all skipped uploads
}

// Error describes the first five uploads.
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

// An aborting is one AbortUploads.
type aborting struct {
	store   *Store
	bucket  string
	prefix  string    // of the requested keys
	limit   time.Time // uploads that began later are kept
	count   int
	skipped UncleanError
}

// abort aborts one upload. It returns only errors that end the whole AbortUploads.
func (c *aborting) abort(ctx context.Context, u types.MultipartUpload, encoding types.EncodingType) error {
	if u.Initiated != nil && u.Initiated.After(c.limit) {
		return nil
	}
	key, err := plainKey(u.Key, encoding)
	if err == nil {
		if err := checkPrefix(key, c.prefix); err != nil {
			return wrap("abort", c.bucket, c.prefix, err)
		}
		_, err = c.store.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &c.bucket, Key: &key, UploadId: u.UploadId})
	}
	if wire.HasCode(err, "NoSuchUpload") && encoding != types.EncodingTypeUrl && strings.ContainsRune(key, utf8.RuneError) {
		err = fmt.Errorf("the store lists a key that differs from the upload's: %w", err)
	} else if wire.HasCode(err, "NoSuchUpload") {
		err = nil // it is gone
	}
	switch {
	case err == nil:
		c.count++
		return nil
	case ctx.Err() != nil, key != "" && !wire.HasStatus(err, http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound):
		return wrap("abort", c.bucket, key, err)
	}
	if c.skipped.Count++; len(c.skipped.Uploads) < 100 {
		c.skipped.Uploads = append(c.skipped.Uploads, &Error{Op: "abort", Bucket: c.bucket, Key: cmp.Or(key, aws.ToString(u.Key)), Err: err})
	}
	return nil
}
