// Package sum computes and compares the checksums that S3 has.
package sum

import (
	"crypto/md5"  //nolint:gosec // as ETag
	"crypto/sha1" //nolint:gosec // S3 has it, and others may have used it
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/seed-0f2c7998/perdure/internal/checksum"
)

// ErrMismatch says that the bytes are not what the store says of them.
var ErrMismatch = checksum.ErrMismatch

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
