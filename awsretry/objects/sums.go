package objects

import (
	"context"
	"encoding/base64"
	"io"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/seed-0f2c7998/perdure/awsretry/internal/source"
	"github.com/seed-0f2c7998/perdure/internal/checksum"
)

// A header is a checksum header of S3: base64, followed by "-3" if the value is the checksum of three parts'
// checksums.
type header struct {
	name  string
	value *string
}

// headersOf returns the checksums of a response, the best first.
func headersOf(out *s3.HeadObjectOutput) []header {
	return []header{
		{"crc64nvme", out.ChecksumCRC64NVME},
		{"crc32", out.ChecksumCRC32},
		{"crc32c", out.ChecksumCRC32C},
		{"sha256", out.ChecksumSHA256},
		{"sha1", out.ChecksumSHA1},
	}
}

// parse decodes the header; parts is 0 for the checksum of a whole object.
func (h header) parse() (s checksum.Sum, parts int) {
	if h.value == nil {
		return s, 0
	}
	text, count, composite := strings.Cut(*h.value, "-")
	value, err := base64.StdEncoding.DecodeString(text)
	if hash := checksum.New(h.name); err != nil || len(value) != hash.Size() {
		return s, 0
	}
	if composite {
		if parts = partsOf(count); parts == 0 {
			return s, 0
		}
	}
	return checksum.Sum{Name: h.name, Value: value}, parts
}

// partsOf parses a number of parts. It returns 0 if no object can have so many.
func partsOf(count string) int {
	if n, err := strconv.Atoi(count); err == nil && n > 0 && n <= source.MaxParts {
		return n
	}
	return 0
}

// whole returns the best checksum of the whole object, or the zero Sum.
func whole(headers []header, kind types.ChecksumType) checksum.Sum {
	if kind == types.ChecksumTypeComposite {
		return checksum.Sum{}
	}
	for _, h := range headers {
		if s, parts := h.parse(); parts == 0 && !s.IsZero() {
			return s
		}
	}
	return checksum.Sum{}
}

// composite returns the checksum of the parts' checksums and the number of parts. Without one it returns the ETag
// that most stores give an object in parts, an MD5 of MD5s. The caller sets PartSize.
func composite(headers []header, etag string) (s checksum.Sum, parts int) {
	for _, h := range headers {
		if s, parts := h.parse(); parts > 0 {
			return s, parts
		}
	}
	digits, count, _ := strings.Cut(strings.Trim(etag, `"`), "-")
	if s = checksum.OfETag(digits); !s.IsZero() {
		parts = partsOf(count)
	}
	return s, parts
}

// text returns a checksum as in Object.Checksum.
func text(s checksum.Sum) string {
	if s.IsZero() {
		return ""
	}
	return s.Name + ":" + encode(s)
}

// encode returns a checksum as S3 writes it.
func encode(s checksum.Sum) string { return base64.StdEncoding.EncodeToString(s.Value) }

// crc32Of returns the Sum of a CRC-32.
func crc32Of(crc uint32) checksum.Sum { return checksum.FromCRC(crcName, uint64(crc)) }

// crcName is the checksum that is sent with each upload.
const crcName = "crc32"

// A reference is what bytes are compared with. The zero reference allows any bytes.
type reference struct {
	sum          checksum.Sum
	inconclusive bool // a difference proves nothing, as with the ETag of an encrypted object
}

// referenceOf returns the reference for an object with that checksum (as in Object.Checksum) and that ETag.
func referenceOf(sum, etag string, encrypted bool) reference {
	if s, err := checksum.Parse(sum); err == nil {
		return reference{sum: s}
	}
	return reference{sum: checksum.OfETag(etag), inconclusive: encrypted}
}

// read compares all bytes of s. It returns by what they were compared, as [checksum.Sum.Verify] does.
func (r reference) read(s io.ReadSeeker) (Verification, error) {
	if r.sum.IsZero() {
		return VerifiedBySize, nil
	}
	if _, err := s.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	h := r.sum.New()
	if _, err := io.Copy(h, s); err != nil {
		return "", err
	}
	by, err := r.sum.Verify(h.Sum(nil), r.inconclusive)
	return Verification(by), err
}

// chooseChecksum chooses the checksum that the bytes are compared with.
func (r *Reader) chooseChecksum(head *s3.HeadObjectOutput) {
	if r.want = referenceOf(r.object.Checksum, r.object.ETag, r.object.encrypted); !r.want.sum.IsZero() {
		return
	}
	sum := r.store.sumOfParts(r.ctx, r.object, head, r.version)
	r.want = reference{sum, r.object.encrypted && sum.Name == "md5"}
}

// sumOfParts returns the checksum of the parts' checksums of an object, with the size of the parts. It is the zero Sum if
// the object has none or the size is unknown.
func (s *Store) sumOfParts(ctx context.Context, o Object, head *s3.HeadObjectOutput, version string) checksum.Sum {
	sum, parts := composite(headersOf(head), o.ETag)
	if sum.PartSize = s.partSizeOf(ctx, o, version, parts); sum.PartSize == 0 {
		return checksum.Sum{}
	}
	return sum
}

// partSizeOf returns the size of the object's parts. It returns 0 if that is unknown, or if the first and the last part
// show that the sizes differ: then a checksum of the parts' checksums cannot be computed.
func (s *Store) partSizeOf(ctx context.Context, o Object, version string, parts int) int64 {
	switch {
	case parts < 1 || o.Size <= 0:
		return 0
	case parts == 1:
		return o.Size
	}
	length := s.lengthOf(ctx, o, version, 1)
	if last := o.Size - length*int64(parts-1); length <= 0 || length > o.Size || last <= 0 || last > length || last != s.lengthOf(ctx, o, version, parts) {
		return 0
	}
	return length
}

// lengthOf requests the size of a part of the object. It returns 0 if the store does not return it; that is not an
// error.
func (s *Store) lengthOf(ctx context.Context, o Object, version string, part int) int64 {
	out, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{
		Bucket: &o.Bucket, Key: &o.Key, VersionId: optional(version), IfMatch: optional(o.ETag), PartNumber: number(part - 1),
	})
	if err != nil {
		return 0
	}
	return aws.ToInt64(out.ContentLength)
}
