package objects

import (
	"context"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// Attributes are what an object has besides its key and its bytes. A field that is empty is not set, or not known. They
// are part of an [Object] and of [PutOptions], so those of one object can be given to another.
type Attributes struct {
	ContentType        string
	ContentEncoding    string // never aws-chunked, which is of one request
	ContentLanguage    string
	ContentDisposition string
	CacheControl       string
	Metadata           map[string]string // of the user, by names without x-amz-meta-
	StorageClass       string            // as STANDARD_IA; in an Object, empty may mean STANDARD

	// Tags are read only where that was requested, as they need a request of their own: see [GetOptions].
	Tags map[string]string
}

// tagging returns the tags as S3 takes them in a header.
func (a *Attributes) tagging() *string {
	values := make(url.Values, len(a.Tags))
	for name, value := range a.Tags {
		values.Set(name, value)
	}
	return optional(strings.ReplaceAll(values.Encode(), "+", "%20")) // a plus is a space to some
}

// multipart returns the request for an upload in parts to that key.
func (a *Attributes) multipart(bucket, key string) *s3.CreateMultipartUploadInput {
	return &s3.CreateMultipartUploadInput{
		Bucket: &bucket, Key: &key, Metadata: a.Metadata, Tagging: a.tagging(), StorageClass: types.StorageClass(a.StorageClass),
		ContentType: optional(a.ContentType), ContentEncoding: optional(coding(a.ContentEncoding)),
		ContentLanguage: optional(a.ContentLanguage), ContentDisposition: optional(a.ContentDisposition),
		CacheControl: optional(a.CacheControl),
	}
}

// coding returns a Content-Encoding without aws-chunked: that is how a client once sent the bytes, not what they are.
func coding(text string) string {
	var kept []string
	for c := range strings.SplitSeq(text, ",") {
		if c = strings.TrimSpace(c); c != "" && !strings.EqualFold(c, "aws-chunked") {
			kept = append(kept, c)
		}
	}
	return strings.Join(kept, ",")
}

// attributesOf returns what a response says, but for the tags.
func attributesOf(out *s3.HeadObjectOutput) Attributes {
	return Attributes{
		ContentType: aws.ToString(out.ContentType), ContentEncoding: coding(aws.ToString(out.ContentEncoding)),
		ContentLanguage: aws.ToString(out.ContentLanguage), ContentDisposition: aws.ToString(out.ContentDisposition),
		CacheControl: aws.ToString(out.CacheControl), Metadata: out.Metadata, StorageClass: string(out.StorageClass),
	}
}

// headOf returns what a response says besides the bytes.
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

// maxTags is how many tags are taken of an object: S3 allows ten.
const maxTags = 1000

// readTags requests the tags of an object of that version and sets them in it, or else TagsError: that they may not be
// read is no failure.
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

// storageClass returns the storage class of a copy: that of the original, unless it is one of a kind of bucket.
func storageClass(original string) types.StorageClass {
	switch class := types.StorageClass(original); class {
	case types.StorageClassOutposts, types.StorageClassSnow, types.StorageClassExpressOnezone, types.StorageClassFsxOpenzfs, types.StorageClassFsxOntap:
		return ""
	default:
		return class
	}
}
