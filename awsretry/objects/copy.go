package objects

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/seed-0f2c7998/perdure/awsretry/internal/slots"
	"github.com/seed-0f2c7998/perdure/awsretry/internal/source"
	"github.com/seed-0f2c7998/perdure/awsretry/internal/wire"
	"github.com/seed-0f2c7998/perdure/internal/checksum"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

// Copy copies an object within the store, without moving the bytes through this process; objects above 5 GiB are
// copied in parts. Metadata, headers such as the content type, and tags are copied too (an object in parts loses tags
// that may not be read: see Object.TagsError). If the object at from changes meanwhile, the error wraps ErrChanged.
// Copy compares the copy with its original by checksum, or by ETag or size without one.
func (s *Store) Copy(ctx context.Context, from, to Address) (Object, error) {
	return s.CopyWith(ctx, from, to, CopyOptions{})
}

// CopyOptions set attributes of a copy that differ from those of its original. The zero CopyOptions set none.
type CopyOptions struct {
	Attributes // see [Attributes.Override]

	ACL types.ObjectCannedACL // who else may use the copy; "" means the bucket's owner only: no ACL is copied
}

// CopyWith is Copy with attributes of its own for the copy.
func (s *Store) CopyWith(ctx context.Context, from, to Address, o CopyOptions) (Object, error) {
	object, err := s.copy(ctx, from, to, o)
	return object, wrap("copy", to.Bucket, to.Key, err)
}

func (s *Store) copy(ctx context.Context, from, to Address, o CopyOptions) (Object, error) {
	original, err := s.head(ctx, from)
	if err != nil {
		return Object{}, fmt.Errorf("s3://%s/%s: %w", from.Bucket, from.Key, err)
	}
	c := &copying{store: s, original: original, source: copySource(from), to: Address{Bucket: to.Bucket, Key: to.Key}, acl: o.ACL}
	c.attributes = original.Override(o.Attributes)
	if o.StorageClass == "" {
		c.attributes.StorageClass = string(storageClass(original.StorageClass))
	}
	if original.Size > s.copyLimit {
		err = c.readTags(ctx, from.VersionID)
		if err == nil {
			err = c.copyInParts(ctx)
		}
	} else {
		_, err = s.client.CopyObject(ctx, c.whole(o))
	}
	if wire.HasStatus(err, http.StatusPreconditionFailed) {
		err = fmt.Errorf("%w: %w", ErrChanged, err)
	}
	if err != nil {
		return Object{}, err
	}
	return c.verified(ctx)
}

// readTags reads the tags of the original, which a copy in parts does not get by itself, unless the copy has tags of its own.
func (c *copying) readTags(ctx context.Context, version string) error {
	if len(c.attributes.Tags) > 0 {
		return nil
	}
	err := c.store.readTags(ctx, &c.original, version)
	c.attributes.Tags = c.original.Tags
	return err
}

// whole returns the request that copies the object at once. The store copies all headers and metadata, or none of them; and
// so the tags.
func (c *copying) whole(o CopyOptions) *s3.CopyObjectInput {
	in := &s3.CopyObjectInput{
		Bucket: &c.to.Bucket, Key: &c.to.Key, CopySource: &c.source, CopySourceIfMatch: optional(c.original.ETag),
		StorageClass: types.StorageClass(c.attributes.StorageClass), ACL: c.acl,
	}
	if o.describes() {
		a := &c.attributes
		in.MetadataDirective, in.Metadata, in.Expires = types.MetadataDirectiveReplace, a.Metadata, c.expires()
		in.ContentType, in.ContentEncoding, in.ContentLanguage = optional(a.ContentType), optional(coding(a.ContentEncoding)), optional(a.ContentLanguage)
		in.ContentDisposition, in.CacheControl = optional(a.ContentDisposition), optional(a.CacheControl)
	}
	if len(o.Tags) > 0 {
		in.TaggingDirective, in.Tagging = types.TaggingDirectiveReplace, o.tagging()
	}
	return in
}

// expires returns the header Expires of the original, or nil.
func (c *copying) expires() *time.Time {
	if at, err := http.ParseTime(c.original.expires); err == nil {
		return &at
	}
	return nil
}

// copySource returns the header x-amz-copy-source.
func copySource(a Address) string {
	segments := strings.Split(a.Key, "/")
	for i, segment := range segments {
		segments[i] = strings.ReplaceAll(url.PathEscape(segment), "+", "%2B") // some stores read a plus as a space
	}
	text := a.Bucket + "/" + strings.Join(segments, "/")
	if a.VersionID != "" {
		text += "?versionId=" + url.QueryEscape(a.VersionID)
	}
	return text
}

// A copying is one Copy.
type copying struct {
	store    *Store
	original Object
	source   string
	to       Address

	attributes Attributes // of the copy; its tags only if they differ from those of the original
	acl        types.ObjectCannedACL

	length int64                 // of a part
	done   []types.CompletedPart // by number; each element belongs to one goroutine
}

// verified returns the copy, or an error if it differs from the original.
func (c *copying) verified(ctx context.Context) (Object, error) {
	object, err := c.store.head(ctx, c.to)
	if err != nil {
		return object, fmt.Errorf("checking the copy: %w", err)
	}
	object.Tags, object.TagsError = c.attributes.Tags, c.original.TagsError
	kind, _, _ := strings.Cut(c.original.Checksum, ":")
	switch copied, _, _ := strings.Cut(object.Checksum, ":"); {
	case object.Size != c.original.Size:
		err = fmt.Errorf("%w: the original has %d bytes, the copy %d", ErrChecksum, c.original.Size, object.Size)
	case kind != "" && kind == copied && object.Checksum != c.original.Checksum:
		err = fmt.Errorf("%w: the original has %s, the copy %s", ErrChecksum, c.original.Checksum, object.Checksum)
	case kind != "" && kind == copied:
		object.Verified = Verification(kind)
	case object.ETag == c.original.ETag:
		object.Verified = VerifiedByETag
	default:
		object.Verified = VerifiedBySize
	}
	return object, err
}

// copyInParts copies an object in parts, with a checksum of the whole of the original's kind if the store can compute it.
// (versitygw compares a part with the checksum of the whole object, and MinIO refuses a part without a checksum.)
func (c *copying) copyInParts(ctx context.Context) error {
	kind, _, _ := strings.Cut(c.original.Checksum, ":")
	if !strings.HasPrefix(kind, "crc") {
		return c.assemble(ctx, "")
	}
	err := c.assemble(ctx, kind)
	if errors.Is(err, ErrChecksum) || wire.HasStatus(err, http.StatusBadRequest) {
		err = c.assemble(ctx, "")
	}
	return err
}

// assemble makes one upload of copied parts, with a checksum of that kind, or without one if kind is "".
func (c *copying) assemble(ctx context.Context, kind string) error {
	create := c.attributes.multipart(c.to.Bucket, c.to.Key)
	create.ACL, create.Expires = c.acl, c.expires()
	if kind != "" {
		create.ChecksumAlgorithm, create.ChecksumType = types.ChecksumAlgorithm(strings.ToUpper(kind)), types.ChecksumTypeFullObject
	}
	longer, cancel := withGracePeriod(ctx)
	defer cancel()
	created, err := c.store.client.CreateMultipartUpload(longer, create)
	if err != nil {
		return err
	}
	id, ambiguous := aws.ToString(created.UploadId), new(atomic.Bool)
	if err = c.copyParts(ctx, id); err == nil && kind != "" {
		err = c.compare()
	}
	if err == nil {
		_, err = c.store.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
			Bucket: &c.to.Bucket, Key: &c.to.Key, UploadId: &id,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: c.done},
		}, wire.Watch(ambiguous))
	}
	if err == nil || ambiguous.Load() && wire.HasCode(err, "NoSuchUpload") {
		return nil // in the latter case perhaps completed by an attempt whose response was lost: verified finds out
	}
	return c.store.abort(ctx, c.to.Bucket, c.to.Key, id, err)
}

// compare returns an error unless the checksums of the parts combine to that of the original.
func (c *copying) compare() error {
	want, err := checksum.Parse(c.original.Checksum)
	if err != nil {
		return err
	}
	crc := uint64(0)
	for n, p := range c.done {
		values := map[string]*string{"crc32": p.ChecksumCRC32, "crc32c": p.ChecksumCRC32C, "crc64nvme": p.ChecksumCRC64NVME}
		part, _ := header{want.Name, values[want.Name]}.parse()
		if part.IsZero() {
			return fmt.Errorf("%w: part %d has no checksum", ErrChecksum, n+1)
		}
		crc = checksum.Combine(want.Name, crc, part.CRC(), min(c.length, c.original.Size-int64(n)*c.length))
	}
	return want.Check(checksum.FromCRC(want.Name, crc).Value)
}

// copyParts copies the parts of an upload, some at a time.
func (c *copying) copyParts(ctx context.Context, id string) error {
	ctx, fail, end := transfer.Together(ctx)
	defer func() { _ = end() }()
	size := c.original.Size
	length := max(c.store.copyLimit/10, source.MinPart, (size+source.MaxParts-1)/source.MaxParts)
	c.length = length
	c.done = make([]types.CompletedPart, (size+length-1)/length)
	free := slots.New(c.store.parallel, c.store.parallel)
	var group sync.WaitGroup
	for n := range c.done {
		slot, err := free.Take(ctx)
		if err != nil {
			break
		}
		group.Go(func() {
			defer slot.Release()
			first := int64(n) * length
			fail(c.copyPart(ctx, id, n, first, min(first+length, size)-1, slot))
		})
	}
	group.Wait()
	return end()
}

// copyPart copies part n, the bytes first to last.
func (c *copying) copyPart(ctx context.Context, id string, n int, first, last int64, slot *slots.Slot) error {
	out, err := c.store.client.UploadPartCopy(ctx, &s3.UploadPartCopyInput{
		Bucket: &c.to.Bucket, Key: &c.to.Key, UploadId: &id, PartNumber: number(n),
		CopySource: &c.source, CopySourceIfMatch: optional(c.original.ETag),
		CopySourceRange: aws.String(fmt.Sprintf("bytes=%d-%d", first, last)),
	}, slot.Attempts)
	if err != nil {
		return fmt.Errorf("part %d: %w", n+1, err)
	}
	if out.CopyPartResult == nil {
		return fmt.Errorf("part %d: %w", n+1, errors.New("the response has no CopyPartResult"))
	}
	r := out.CopyPartResult
	c.done[n] = types.CompletedPart{
		PartNumber: number(n), ETag: r.ETag,
		ChecksumCRC32: r.ChecksumCRC32, ChecksumCRC32C: r.ChecksumCRC32C, ChecksumCRC64NVME: r.ChecksumCRC64NVME,
	}
	return nil
}
