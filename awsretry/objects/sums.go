package objects

import (
	"encoding/base64"
	"encoding/hex"
	"io"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/seed-0f2c7998/perdure/awsretry/internal/source"
	"github.com/seed-0f2c7998/perdure/internal/checksum"
)

// A header is a checksum as S3 writes it: in base64, with "-3" after it if it is that of the checksums of three parts.
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

// parse reads the value of a header.
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

// partsOf reads how many parts there are; 0: no object has so many.
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

// composite returns the checksum of the parts' checksums, and of how many parts: or that which most stores give an object
// in parts as its ETag, an MD5 of MD5s. The PartSize is left to the caller.
func composite(headers []header, etag string) (s checksum.Sum, parts int) {
	for _, h := range headers {
		if s, parts := h.parse(); parts > 0 {
			return s, parts
		}
	}
	digits, count, _ := strings.Cut(strings.Trim(etag, `"`), "-")
	if s = tagSum(digits); !s.IsZero() {
		parts = partsOf(count)
	}
	return s, parts
}

// tagSum returns the MD5 that an ETag is with most stores, for an object that was sent in one piece and is not encrypted.
func tagSum(etag string) checksum.Sum {
	s := checksum.Sum{Name: "md5"}
	var err error
	if s.Value, err = hex.DecodeString(strings.Trim(etag, `"`)); err != nil || len(s.Value) != checksum.New("md5").Size() {
		return checksum.Sum{}
	}
	return s
}

// text returns a checksum as Object.Checksum has it.
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

// A reference is what bytes are compared with. The zero reference is nothing.
type reference struct {
	sum          checksum.Sum
	inconclusive bool // a difference proves nothing, as with the ETag of an object that is encrypted
}

// referenceOf returns the reference to bytes that a store has with that checksum, as Object.Checksum has it, and that ETag.
func referenceOf(sum, etag string, encrypted bool) reference {
	if s, err := checksum.Parse(sum); err == nil {
		return reference{sum: s}
	}
	return reference{sum: tagSum(etag), inconclusive: encrypted}
}

// read verifies all bytes of s. It returns by what, as [checksum.Sum.Verify] does.
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

// expect finds out with which checksum the bytes are to be compared.
func (r *Reader) expect(head *s3.HeadObjectOutput) {
	if r.want = referenceOf(r.object.Checksum, r.object.ETag, r.object.encrypted); !r.want.sum.IsZero() {
		return
	}
	sum, parts := composite(headersOf(head), r.object.ETag)
	if sum.PartSize = r.partSize(parts); sum.PartSize > 0 {
		r.want = reference{sum, r.object.encrypted && sum.Name == "md5"}
	}
}

// partSize finds out how long the parts of the object are; 0: nobody knows, or they are not all of one size but for the
// last, as the first and the last show, so that a checksum of their checksums is of no use.
func (r *Reader) partSize(parts int) int64 {
	size := r.object.Size
	switch {
	case parts < 1 || size <= 0:
		return 0
	case parts == 1:
		return size
	}
	length := r.lengthOf(1)
	if last := size - length*int64(parts-1); length <= 0 || length > size || last <= 0 || last > length || last != r.lengthOf(parts) {
		return 0
	}
	return length
}

// lengthOf requests how long a part of the object is; 0: the store does not say. That
// is no error: then the object has no checksum that is of use.
func (r *Reader) lengthOf(part int) int64 {
	o := r.object
	out, err := r.store.client.HeadObject(r.ctx, &s3.HeadObjectInput{
		Bucket: &o.Bucket, Key: &o.Key, VersionId: optional(r.version), IfMatch: optional(o.ETag), PartNumber: number(part - 1),
	})
	if err != nil {
		return 0
	}
	return aws.ToInt64(out.ContentLength)
}
