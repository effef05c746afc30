// Package checksum reads and checks the checksums that people and stores give,
// such as "sha256:9f86d0..." or "crc32:AAAAAA==".
package checksum

import (
	"bytes"
	"crypto/md5"  //nolint:gosec // what there is to compare with, not a secret
	"crypto/sha1" //nolint:gosec // as above
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"strings"
)

// Want says what Parse understands.
const Want = "an algorithm (sha256, sha512, sha1, md5, crc32, crc32c, crc64nvme), a colon, and the value in hex or base64"

// ErrMismatch is what arrived being something else than was to come.
var ErrMismatch = errors.New("the checksum does not match")

// A Sum is the checksum that something is to have. The zero Sum is none.
type Sum struct {
	Name  string // of the algorithm, as sha256
	Value []byte
}

// Parse reads a Sum. The value is hex if it has the length of that, else
// base64. The error says nothing of the text: see [Want].
func Parse(text string) (Sum, error) {
	name, value, _ := strings.Cut(strings.TrimSpace(text), ":")
	name = strings.ReplaceAll(strings.ToLower(name), "-", "")
	h := New(name)
	if h == nil {
		return Sum{}, errors.New("no such algorithm")
	}
	sum, err := hex.DecodeString(value)
	if err != nil || len(sum) != h.Size() {
		sum, err = base64.StdEncoding.DecodeString(value)
	}
	if err != nil || len(sum) != h.Size() {
		return Sum{}, fmt.Errorf("a %s has %d bytes", name, h.Size())
	}
	return Sum{name, sum}, nil
}

// New returns a hash of that algorithm; nil if it is not known.
func New(name string) hash.Hash {
	switch name {
	case "sha256":
		return sha256.New()
	case "sha512":
		return sha512.New()
	case "sha1":
		return sha1.New() //nolint:gosec // as above
	case "md5":
		return md5.New() //nolint:gosec // as above
	case "crc32":
		return crc32.NewIEEE()
	case "crc32c":
		return crc32.New(crc32.MakeTable(crc32.Castagnoli))
	case "crc64nvme":
		return crc64.New(crc64.MakeTable(0x9a6c9329ac4bc9b5))
	}
	return nil
}

// IsZero reports whether there is nothing to have.
func (s Sum) IsZero() bool { return s.Name == "" }

// String is the Sum as Parse reads it: a CRC in base64, as S3 has it, all else
// in hex.
func (s Sum) String() string {
	if strings.HasPrefix(s.Name, "crc") {
		return s.Name + ":" + base64.StdEncoding.EncodeToString(s.Value)
	}
	return s.Name + ":" + hex.EncodeToString(s.Value)
}

// New returns a hash to check with; for the zero Sum one that nothing uses.
func (s Sum) New() hash.Hash {
	if h := New(s.Name); h != nil {
		return h
	}
	return crc32.NewIEEE()
}

// Check compares what a hash has come to. The error is [ErrMismatch] with both.
func (s Sum) Check(h hash.Hash) error {
	if s.IsZero() {
		return nil
	}
	if got := (Sum{s.Name, h.Sum(nil)}); !bytes.Equal(got.Value, s.Value) {
		return fmt.Errorf("%w: it is %s, want %s", ErrMismatch, got, s)
	}
	return nil
}
