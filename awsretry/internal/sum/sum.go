// Package sum computes and compares the checksums that S3 has.
package sum

import (
	"crypto/md5"  //nolint:gosec // as ETag
	"crypto/sha1" //nolint:gosec // S3 has it, and others may have used it
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// ErrMismatch says that the bytes are not what the store says of them.
var ErrMismatch = errors.New("checksum does not match")

// The reflected polynomials of S3's CRCs.
const (
	polyCRC64NVME = 0x9a6c9329ac4bc9b5
	polyCRC32     = uint64(crc32.IEEE)
	polyCRC32C    = uint64(crc32.Castagnoli)
)

// Answer holds the checksums of an answer, in base64.
type Answer struct {
	CRC64NVME, CRC32, CRC32C, SHA256, SHA1 *string
}

// Whole returns the answer's best checksum of the whole object, as
// "crc32:AAAAAA==", or "". Those of a composite type are checksums of the parts'
// checksums: they say nothing of bytes without the parts.
func (a Answer) Whole(kind types.ChecksumType) string {
	if kind == types.ChecksumTypeComposite {
		return ""
	}
	for _, c := range []struct {
		name  string
		value *string
	}{{"crc64nvme", a.CRC64NVME}, {"crc32", a.CRC32}, {"crc32c", a.CRC32C}, {"sha256", a.SHA256}, {"sha1", a.SHA1}} {
		if c.value != nil && *c.value != "" && !strings.Contains(*c.value, "-") {
			return c.name + ":" + *c.value
		}
	}
	return ""
}

// Composite returns the answer's checksum of its parts' checksums, as
// "crc32:AAAAAA==-3" for three parts, or that which most stores give an object in
// parts as its ETag, an MD5 of MD5s; or "".
func (a Answer) Composite(etag string) string {
	for _, c := range []struct {
		name  string
		value *string
	}{{"crc32", a.CRC32}, {"crc32c", a.CRC32C}, {"sha256", a.SHA256}, {"sha1", a.SHA1}} {
		if c.value != nil && strings.Contains(*c.value, "-") {
			return c.name + ":" + *c.value
		}
	}
	digits, count, ok := strings.Cut(strings.Trim(etag, `"`), "-")
	if sum, err := hex.DecodeString(digits); ok && err == nil && len(sum) == md5.Size {
		return "md5:" + base64.StdEncoding.EncodeToString(sum) + "-" + count
	}
	return ""
}

// NewComposite makes a Check of a composite checksum, as Composite returns it, of
// an object of size bytes. lengthOf asks how long a part is, from 1; 0: nobody
// knows. Parts that are not all of one size but for the last, as the first and the
// last tell, cannot be compared: then there is no Check. That of an ETag is vague
// if the store encrypts.
func NewComposite(composite string, size int64, lengthOf func(part int) int64, encrypted bool) Check {
	name, value, _ := strings.Cut(composite, ":")
	want, count, _ := strings.Cut(value, "-")
	parts, err := strconv.Atoi(count)
	fresh := newHash(name)
	if err != nil || parts < 1 || size <= 0 || fresh == nil {
		return Check{}
	}
	partSize := size
	if parts > 1 {
		partSize = lengthOf(1)
		if last := size - partSize*int64(parts-1); last <= 0 || last > partSize || last != lengthOf(parts) {
			return Check{}
		}
	}
	return Check{
		Hash: &partsHash{name: name, all: fresh, part: newHash(name), size: partSize, left: partSize},
		name: name + " of parts", want: want, vague: name == "md5" && encrypted,
	}
}

// A partsHash is the hash of the hashes of parts.
type partsHash struct {
	name       string
	all, part  hash.Hash
	size, left int64 // of a part, and of the one that is being written
}

func (h *partsHash) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if h.left == 0 {
			_, _ = h.all.Write(h.part.Sum(nil))
			h.part.Reset()
			h.left = h.size
		}
		k := min(int64(len(p)), h.left)
		_, _ = h.part.Write(p[:k])
		p, h.left = p[k:], h.left-k
	}
	return n, nil
}

// Sum closes the last part, so it is for the end.
func (h *partsHash) Sum(b []byte) []byte {
	_, _ = h.all.Write(h.part.Sum(nil))
	return h.all.Sum(b)
}

func (h *partsHash) Reset() {
	h.all.Reset()
	h.part.Reset()
	h.left = h.size
}

func (h *partsHash) Size() int      { return h.all.Size() }
func (h *partsHash) BlockSize() int { return h.all.BlockSize() }

// A Check compares the bytes of a transfer with what the store says of them:
// write the bytes to it, if it has a Hash.
type Check struct {
	hash.Hash        // of what was transferred; nil: there is nothing to compare with
	name      string // of the hash
	want      string // its value, in base64
	vague     bool   // a difference proves nothing
}

// New makes a Check of the store's checksum, as Whole returns it, or, if there
// is none, of an ETag that is an MD5. It is one, as long as the store does not
// encrypt: then it may be anything.
func New(checksum, etag string, encrypted bool) Check {
	name, want, _ := strings.Cut(checksum, ":")
	if checksum != "" {
		return Check{Hash: newHash(name), name: name, want: want}
	}
	sum, err := hex.DecodeString(strings.Trim(etag, `"`))
	if err != nil || len(sum) != md5.Size {
		return Check{}
	}
	return Check{Hash: newHash("md5"), name: "md5", want: base64.StdEncoding.EncodeToString(sum), vague: encrypted}
}

// newHash returns the hash of that name, or nil.
func newHash(name string) hash.Hash {
	switch name {
	case "crc64nvme":
		return crc64.New(crc64.MakeTable(polyCRC64NVME))
	case "crc32":
		return crc32.NewIEEE()
	case "crc32c":
		return crc32.New(crc32.MakeTable(crc32.Castagnoli))
	case "sha256":
		return sha256.New()
	case "sha1":
		return sha1.New() //nolint:gosec // against accidents, not against people
	case "md5":
		return md5.New() //nolint:gosec // the same
	}
	return nil
}

// Verify returns by what the transfer was verified: the name of the checksum, or
// "size", which is the caller's to compare.
func (c *Check) Verify() (string, error) {
	if c.Hash == nil {
		return "size", nil
	}
	return c.compare(c.Sum(nil))
}

func (c *Check) compare(sum []byte) (string, error) {
	switch got := base64.StdEncoding.EncodeToString(sum); {
	case got == c.want:
		return c.name, nil
	case c.vague:
		return "size", nil
	default:
		return "", fmt.Errorf("%w: %s is %s here and %s in the store", ErrMismatch, c.name, got, c.want)
	}
}

// Read is Verify for all of r.
func (c *Check) Read(r io.ReadSeeker) (string, error) {
	if c.Hash == nil {
		return c.Verify()
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	c.Reset()
	if _, err := io.Copy(c, r); err != nil {
		return "", err
	}
	return c.Verify()
}

// A Piece is the CRC of a piece of what a Check is for, and its length.
type Piece struct {
	Sum  uint64
	Size int64
}

// NewPiece returns a hash for a piece, or nil if the Check cannot be put together
// of pieces.
func (c *Check) NewPiece() hash.Hash {
	if _, bits := c.polynomial(); bits == 0 {
		return nil
	}
	return newHash(c.name)
}

// PieceOf returns what a hash of NewPiece has come to.
func PieceOf(h hash.Hash, size int64) Piece {
	switch h := h.(type) {
	case hash.Hash64:
		return Piece{h.Sum64(), size}
	case hash.Hash32:
		return Piece{uint64(h.Sum32()), size}
	}
	return Piece{Size: size}
}

// VerifyPieces is Verify for what the pieces are together, in their order.
func (c *Check) VerifyPieces(pieces []Piece) (string, error) {
	poly, bits := c.polynomial()
	var sum uint64
	for _, p := range pieces {
		sum = combine(poly, bits, sum, p.Sum, p.Size)
	}
	return c.compare(binary.BigEndian.AppendUint64(nil, sum)[8-bits/8:])
}

// polynomial returns that of the CRC, and how many bits it has; 0: it is none.
func (c *Check) polynomial() (poly uint64, bits int) {
	switch c.name {
	case "crc64nvme":
		return polyCRC64NVME, 64
	case "crc32":
		return polyCRC32, 32
	case "crc32c":
		return polyCRC32C, 32
	}
	return 0, 0
}

// Encode returns a CRC-32 as S3 writes it.
func Encode(crc uint32) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc))
}

// Join returns the CRC-32 of what a and b are the CRC-32s of, one after the
// other; n is the length of the latter.
func Join(a, b uint32, n int64) uint32 {
	return uint32(combine(polyCRC32, 32, uint64(a), uint64(b), n)) //nolint:gosec // of 32 bits
}

// combine is Join for a CRC of that many bits. It is reflected, as all those of
// S3 are. n zero bytes after a change its CRC by a linear map over GF(2), whose
// powers are had by squaring: Mark Adler's crc32_combine in zlib.
func combine(poly uint64, bits int, a, b uint64, n int64) uint64 {
	step := make([]uint64, bits) // the map for one zero bit
	step[0] = poly
	for i := 1; i < bits; i++ {
		step[i] = 1 << (i - 1)
	}
	for range 3 { // ... for one zero byte
		step = square(step)
	}
	for ; n > 0; n >>= 1 {
		if n&1 != 0 {
			a = times(step, a)
		}
		step = square(step)
	}
	return a ^ b
}

// times applies a map to a vector.
func times(m []uint64, v uint64) (sum uint64) {
	for i := 0; v != 0; i, v = i+1, v>>1 {
		if v&1 != 0 {
			sum ^= m[i]
		}
	}
	return sum
}

// square returns m applied twice.
func square(m []uint64) []uint64 {
	twice := make([]uint64, len(m))
	for i := range m {
		twice[i] = times(m, m[i])
	}
	return twice
}
