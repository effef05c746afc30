package objects

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/seed-0f2c7998/perdure/awsretry/internal/wire"
	"github.com/seed-0f2c7998/perdure/internal/checksum"
	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

// An Address identifies an object.
type Address struct {
	Bucket, Key string
	VersionID   string // the version that is read; "" means the current one
}

// An Object describes an object as the store does. A field that the store does not return is zero.
type Object struct {
	Bucket, Key string
	Size        int64 // bytes
	ETag        string
	VersionID   string
	Modified    time.Time

	Attributes
	TagsError error // why the requested Tags could not be read

	// Checksum is the store's checksum of the whole object, as "crc32:AAAAAA=="; "" if it has none.
	Checksum string
	// Verified is what the bytes of the transfer were compared by.
	Verified Verification

	encrypted bool   // its ETag may not be an MD5
	expires   string // the header Expires
}

// Stat returns the description of an object.
func (s *Store) Stat(ctx context.Context, bucket, key string) (Object, error) {
	return s.StatVersion(ctx, Address{Bucket: bucket, Key: key})
}

// StatVersion returns the description of a version of an object.
func (s *Store) StatVersion(ctx context.Context, a Address) (Object, error) {
	o, err := s.head(ctx, a)
	return o, wrap("stat", a.Bucket, a.Key, err)
}

// StatParts is StatVersion for an object that another program may have uploaded in parts. If the store has no checksum of
// the whole object, Checksum is that of the parts' checksums with the size of the parts in bytes, such as
// "md5:<base64>@8388608". It takes up to two more requests. Checksum stays "" if the store does not return the size of the
// parts, if they differ in size, or if the object is encrypted and only its ETag is known.
func (s *Store) StatParts(ctx context.Context, a Address) (Object, error) {
	out, err := s.headOutput(ctx, a)
	if err != nil {
		return Object{}, wrap("stat", a.Bucket, a.Key, err)
	}
	o := describe(Object{Bucket: a.Bucket, Key: a.Key}, out, aws.ToInt64(out.ContentLength))
	if o.Checksum == "" {
		if sum := s.sumOfParts(ctx, o, out, a.VersionID); sum.Name != "md5" || !o.encrypted {
			o.Checksum = sum.String()
		}
	}
	return o, wrap("stat", a.Bucket, a.Key, ctx.Err())
}

func (s *Store) head(ctx context.Context, a Address) (Object, error) {
	out, err := s.headOutput(ctx, a)
	if err != nil {
		return Object{}, err
	}
	return describe(Object{Bucket: a.Bucket, Key: a.Key}, out, aws.ToInt64(out.ContentLength)), nil
}

func (s *Store) headOutput(ctx context.Context, a Address) (*s3.HeadObjectOutput, error) {
	out, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{
		Bucket: &a.Bucket, Key: &a.Key, VersionId: optional(a.VersionID), ChecksumMode: types.ChecksumModeEnabled,
	})
	if err == nil && aws.ToString(out.ETag) == "" {
		err = errNoObject
	}
	return out, err
}

// describe returns the Object of a response, with the bucket and key of o.
func describe(o Object, out *s3.HeadObjectOutput, size int64) Object {
	return Object{
		Bucket: o.Bucket, Key: o.Key, Size: size, ETag: aws.ToString(out.ETag),
		VersionID: aws.ToString(out.VersionId), Modified: aws.ToTime(out.LastModified), Attributes: attributesOf(out),
		Checksum:  text(whole(headersOf(out), out.ChecksumType)),
		encrypted: out.ServerSideEncryption != "" || out.SSECustomerAlgorithm != nil,
		expires:   aws.ToString(out.ExpiresString),
	}
}

// Attributes are what an object has besides its key and its bytes. An empty field is not set, or not known. They are
// embedded in [Object] and in [PutOptions], so that the attributes of one object can be given to another.
type Attributes struct {
	ContentType        string
	ContentEncoding    string // without aws-chunked, which describes one request
	ContentLanguage    string
	ContentDisposition string
	CacheControl       string
	Metadata           map[string]string // user metadata; names without x-amz-meta-
	StorageClass       string            // such as STANDARD_IA; in an Object, empty may mean STANDARD

	// Tags are read only if requested, because they take a request of their own: see [GetOptions].
	Tags map[string]string
}

// headers returns the fields that are headers of every response with the object.
func (a *Attributes) headers() []*string {
	return []*string{&a.ContentType, &a.ContentEncoding, &a.ContentLanguage, &a.ContentDisposition, &a.CacheControl}
}

// Override returns a with the non-empty fields of by. Metadata and Tags are replaced whole.
func (a Attributes) Override(by Attributes) Attributes {
	from := by.headers()
	for i, field := range a.headers() {
		*field = cmp.Or(*from[i], *field)
	}
	a.StorageClass = cmp.Or(by.StorageClass, a.StorageClass)
	if len(by.Metadata) > 0 {
		a.Metadata = by.Metadata
	}
	if len(by.Tags) > 0 {
		a.Tags = by.Tags
	}
	return a
}

// describes reports whether a has a field that S3 replaces together with all others of its kind: a header or metadata.
func (a Attributes) describes() bool {
	return len(a.Metadata) > 0 || slices.ContainsFunc(a.headers(), func(s *string) bool { return *s != "" })
}

// tagging returns the tags in the form of the header x-amz-tagging.
func (a *Attributes) tagging() *string {
	values := make(url.Values, len(a.Tags))
	for name, value := range a.Tags {
		values.Set(name, value)
	}
	return optional(strings.ReplaceAll(values.Encode(), "+", "%20")) // some stores read a plus as a space
}

// multipart returns the request that begins a multipart upload to that key.
func (a *Attributes) multipart(bucket, key string) *s3.CreateMultipartUploadInput {
	return &s3.CreateMultipartUploadInput{
		Bucket: &bucket, Key: &key, Metadata: a.Metadata, Tagging: a.tagging(), StorageClass: types.StorageClass(a.StorageClass),
		ContentType: optional(a.ContentType), ContentEncoding: optional(coding(a.ContentEncoding)),
		ContentLanguage: optional(a.ContentLanguage), ContentDisposition: optional(a.ContentDisposition),
		CacheControl: optional(a.CacheControl),
	}
}

// coding returns a Content-Encoding without aws-chunked, which describes how the bytes were once sent.
func coding(text string) string {
	var kept []string
	for c := range strings.SplitSeq(text, ",") {
		if c = strings.TrimSpace(c); c != "" && !strings.EqualFold(c, "aws-chunked") {
			kept = append(kept, c)
		}
	}
	return strings.Join(kept, ",")
}

// attributesOf returns the attributes of a response, without tags.
func attributesOf(out *s3.HeadObjectOutput) Attributes {
	return Attributes{
		ContentType: aws.ToString(out.ContentType), ContentEncoding: coding(aws.ToString(out.ContentEncoding)),
		ContentLanguage: aws.ToString(out.ContentLanguage), ContentDisposition: aws.ToString(out.ContentDisposition),
		CacheControl: aws.ToString(out.CacheControl), Metadata: out.Metadata, StorageClass: string(out.StorageClass),
	}
}

// headOf returns all fields of a response but its body.
func headOf(out *s3.GetObjectOutput) *s3.HeadObjectOutput {
	return &s3.HeadObjectOutput{
		ETag: out.ETag, VersionId: out.VersionId, LastModified: out.LastModified, Metadata: out.Metadata,
		ContentType: out.ContentType, ContentEncoding: out.ContentEncoding, ContentLanguage: out.ContentLanguage,
		ContentDisposition: out.ContentDisposition, CacheControl: out.CacheControl, StorageClass: out.StorageClass,
		ChecksumCRC32: out.ChecksumCRC32, ChecksumCRC32C: out.ChecksumCRC32C, ChecksumCRC64NVME: out.ChecksumCRC64NVME,
		ChecksumSHA1: out.ChecksumSHA1, ChecksumSHA256: out.ChecksumSHA256, ChecksumType: out.ChecksumType,
		ServerSideEncryption: out.ServerSideEncryption, SSECustomerAlgorithm: out.SSECustomerAlgorithm,
	}
}

// maxTags is how many tags of an object are kept: S3 allows ten.
const maxTags = 1000

// readTags requests the tags of an object's version and sets Tags, or TagsError: missing permission to read them is
// not an error.
func (s *Store) readTags(ctx context.Context, o *Object, version string) error {
	out, err := s.client.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{Bucket: &o.Bucket, Key: &o.Key, VersionId: optional(version)})
	if err != nil {
		o.TagsError = err
		return ctx.Err()
	}
	o.Tags = make(map[string]string)
	for _, tag := range out.TagSet[:min(len(out.TagSet), maxTags)] {
		o.Tags[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
	}
	return nil
}

// storageClass returns the storage class of a copy: that of the original, unless it exists only in special buckets.
func storageClass(original string) types.StorageClass {
	switch class := types.StorageClass(original); class {
	case types.StorageClassOutposts, types.StorageClassSnow, types.StorageClassExpressOnezone, types.StorageClassFsxOpenzfs, types.StorageClassFsxOntap:
		return ""
	default:
		return class
	}
}

// A Verification says by what the bytes of a transfer were compared. A checksum is given by its name and covers every
// byte. An object that was stored in parts may have only a checksum of its parts' checksums, which covers every byte
// as well: its name is then followed by " of parts", as in "crc32 of parts".
type Verification string

// The verifications besides those followed by " of parts".
const (
	NotVerified      Verification = ""      // nothing was transferred
	VerifiedBySize   Verification = "size"  // the store has neither a checksum nor an ETag that is an MD5
	VerifiedByETag   Verification = "etag"  // the copy has the ETag of its original
	VerifiedByParts  Verification = "parts" // the store confirmed the checksum of each uploaded part
	VerifiedByCRC32  Verification = "crc32" // the checksum of each upload
	VerifiedByCRC32C Verification = "crc32c"
	VerifiedByCRC64  Verification = "crc64nvme"
	VerifiedByMD5    Verification = "md5" // the ETag of an unencrypted object
	VerifiedBySHA1   Verification = "sha1"
	VerifiedBySHA256 Verification = "sha256"
)

// An Error reports a failed operation on an object.
type Error struct {
	Op     string // put, get, delete, list, stat, copy or abort
	Bucket string
	Key    string // the prefix, of a list and of AbortUploads
	Err    error
}

// Error returns one line that is safe to print, as "put s3://bikes/hour.csv: ...".
func (e *Error) Error() string {
	return redact.Line(fmt.Sprintf("%s s3://%s/%s: %v", e.Op, e.Bucket, e.Key, e.Err))
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// A RegionError reports a bucket that is in another region and could not be reached there: because the configured
// endpoint is fixed, or because the policy allows no further attempt.
type RegionError struct {
	Bucket string
	Region string // of the bucket
	Err    error
}

// Error returns one line, as "bucket bikes is in region eu-west-1: ...".
func (e *RegionError) Error() string {
	return redact.Line(fmt.Sprintf("bucket %s is in region %s: %v", e.Bucket, e.Region, e.Err))
}

// Unwrap returns Err.
func (e *RegionError) Unwrap() error { return e.Err }

func elsewhere(bucket, region string, err error) error {
	return &RegionError{Bucket: bucket, Region: region, Err: err}
}

// The errors of a transfer besides those of its requests. Test for them with [errors.Is].
var (
	// ErrChecksum reports that the bytes that arrived have a different checksum than those that were sent.
	ErrChecksum = checksum.ErrMismatch
	// ErrChanged reports that the object was replaced while it was read.
	ErrChanged = transfer.ErrChanged
	// ErrStalled reports that a connection delivered nothing for Options.Stall, or less than Options.MinRate.
	ErrStalled = wire.ErrStalled
	// ErrListing reports a listing without an end, without the continuation token of its next page, or with keys
	// outside the prefix.
	ErrListing = errors.New("the listing cannot be completed")
)

// wrap returns err as an *Error; nil stays nil.
func wrap(op, bucket, key string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: op, Bucket: bucket, Key: key, Err: err}
}
