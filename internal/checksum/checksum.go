// Package checksum computes, combines, compares and formats checksums: given by users, in headers of servers, and of
// objects in stores.
package checksum

import (
	"bytes"
	"crypto/md5"  //nolint:gosec // compared with what sources offer, not a secret
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
	"slices"
	"strconv"
	"strings"
)

// Want describes what Parse accepts.
const Want = "an algorithm (sha256, sha512, sha1, md5, crc32, crc32c, crc64nvme), a colon, and the value in hex or base64"

// ErrMismatch reports bytes with a different checksum than expected.
var ErrMismatch = errors.New("checksum does not match")

// A Sum is a checksum, computed or expected. The zero Sum is no checksum.
type Sum struct {
	Name  string // of the algorithm, such as sha256
	Value []byte

	// PartSize, if not 0, makes Value the checksum of the checksums of parts of PartSize bytes each; the last part
	// may be shorter. S3 calls it a composite checksum.
	PartSize int64
}

// Parse parses a Sum as formatted by String. The value may be in hex or base64. Errors do not repeat the text: see
// [Want].
func Parse(text string) (Sum, error) {
	name, value, _ := strings.Cut(strings.TrimSpace(text), ":")
	name = strings.ReplaceAll(strings.ToLower(name), "-", "")
	h := New(name)
	if h == nil {
		return Sum{}, errors.New("unknown algorithm")
	}
	s := Sum{Name: name}
	value, parts, composite := strings.Cut(value, "@")
	if composite {
		size, err := strconv.ParseInt(parts, 10, 64)
		if err != nil || size <= 0 {
			return Sum{}, errors.New("the part size after @ is not a positive number")
		}
		s.PartSize = size
	}
	var err error
	if s.Value, err = hex.DecodeString(value); err != nil || len(s.Value) != h.Size() {
		s.Value, err = base64.StdEncoding.DecodeString(value)
	}
	if err != nil || len(s.Value) != h.Size() {
		return Sum{}, fmt.Errorf("%s has %d bytes", name, h.Size())
	}
	return s, nil
}

// New returns a hash of that algorithm, or nil if the name is unknown.
func New(name string) hash.Hash {
	switch name {
	case "sha256":
		return sha256.New()
	case "sha512":
		return sha512.New()
	case "sha1":
		return sha1.New() //nolint:gosec // against accidents, not attacks
	case "md5":
		return md5.New() //nolint:gosec // the same
	case "crc32":
		return crc32.NewIEEE()
	case "crc32c":
		return crc32.New(crc32.MakeTable(crc32.Castagnoli))
	case "crc64nvme":
		return crc64.New(crc64.MakeTable(polyCRC64NVME))
	}
	return nil
}

// Of returns the Sum of h, a hash of that algorithm.
func Of(name string, h hash.Hash) Sum { return Sum{Name: name, Value: h.Sum(nil)} }

// OfETag returns an ETag of S3 as an MD5, which it is in most stores for an unencrypted object of one part. It is the zero
// Sum if the ETag has another form.
func OfETag(etag string) Sum {
	value, err := hex.DecodeString(strings.Trim(etag, `"`))
	if err != nil || len(value) != md5.Size {
		return Sum{}
	}
	return Sum{Name: "md5", Value: value}
}

// IsZero reports whether s is no checksum.
func (s Sum) IsZero() bool { return s.Name == "" }

// String formats s for Parse: CRCs and composite checksums in base64, as S3 does, others in hex. A PartSize follows
// after an @.
func (s Sum) String() string {
	switch {
	case s.IsZero():
		return ""
	case s.PartSize != 0:
		return fmt.Sprintf("%s:%s@%d", s.Name, base64.StdEncoding.EncodeToString(s.Value), s.PartSize)
	case s.Combines():
		return s.Name + ":" + base64.StdEncoding.EncodeToString(s.Value)
	}
	return s.Name + ":" + hex.EncodeToString(s.Value)
}

// Kind returns the name of the algorithm, followed by " of parts" if s is composite.
func (s Sum) Kind() string {
	if s.PartSize != 0 {
		return s.Name + " of parts"
	}
	return s.Name
}

// MarshalText returns String.
func (s Sum) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is Parse; an empty text is the zero Sum.
func (s *Sum) UnmarshalText(text []byte) (err error) {
	*s = Sum{}
	if len(text) > 0 {
		*s, err = Parse(string(text))
	}
	return err
}

// New returns a hash that computes the value to compare with s; nil for the zero Sum.
func (s Sum) New() hash.Hash {
	if s.PartSize == 0 {
		return New(s.Name)
	}
	return &partsHash{name: s.Name, part: New(s.Name), size: s.PartSize, left: s.PartSize}
}

// Check returns an error that wraps [ErrMismatch], with both values, if got differs from s. Any value matches the
// zero Sum.
func (s Sum) Check(got []byte) error {
	if s.IsZero() || bytes.Equal(got, s.Value) {
		return nil
	}
	return fmt.Errorf("%w: got %s, want %s", ErrMismatch, Sum{s.Name, got, s.PartSize}, s)
}

// Verify is Check for the checksum of a source. It returns by what the bytes are verified: Kind or, if s is zero, or
// inconclusive and different, "size", which the caller compares.
func (s Sum) Verify(got []byte, inconclusive bool) (by string, err error) {
	switch err := s.Check(got); {
	case s.IsZero() || err != nil && inconclusive:
		return "size", nil
	case err != nil:
		return "", err
	}
	return s.Kind(), nil
}

// Want is Check for a checksum that the user requires: the error is an [UnwantedError].
func (s Sum) Want(got []byte) error {
	if err := s.Check(got); err != nil {
		return UnwantedError{err}
	}
	return nil
}

// An UnwantedError reports bytes that differ from those that the user requires: reading them again would not help.
type UnwantedError struct{ error }

// Unwrap returns the error of Check.
func (e UnwantedError) Unwrap() error { return e.error }

// A partsHash computes the hash of the hashes of parts.
type partsHash struct {
	name       string
	part       hash.Hash
	done       []byte // hashes of complete parts
	size, left int64  // of a part, and what is left of the current one
}

func (h *partsHash) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if h.left == 0 {
			h.done = h.part.Sum(h.done)
			h.part.Reset()
			h.left = h.size
		}
		k := min(int64(len(p)), h.left)
		_, _ = h.part.Write(p[:k])
		p, h.left = p[k:], h.left-k
	}
	return n, nil
}

func (h *partsHash) Sum(b []byte) []byte {
	all := New(h.name)
	_, _ = all.Write(h.part.Sum(slices.Clip(h.done)))
	return all.Sum(b)
}

func (h *partsHash) Reset() {
	h.part.Reset()
	h.done, h.left = nil, h.size
}

func (h *partsHash) Size() int      { return h.part.Size() }
func (h *partsHash) BlockSize() int { return h.part.BlockSize() }
