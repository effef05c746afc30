// Package digest checks a body against the digests that its headers offer: Content-Digest and Repr-Digest (RFC 9530),
// Content-MD5 (RFC 1864), and the x-amz-checksum headers of S3.
package digest

import (
	"bytes"
	"crypto/md5"  //nolint:gosec // what a server offers to check, not a secret
	"crypto/sha1" //nolint:gosec // as above
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"net/http"
	"strings"
)

// A Check hashes a body as it passes. It is not safe for concurrent use.
type Check struct {
	hash.Hash

	header    string
	algorithm string
	want      []byte
}

// An Error is a body that is not the one which its header tells of.
type Error struct {
	Header    string // such as Repr-Digest
	Algorithm string // such as sha-256
	Want, Got []byte
}

// Error tells header, algorithm and both digests, in base 64 as the headers have them.
func (e *Error) Error() string {
	return fmt.Sprintf("the body is corrupt: its %s is %s, but %s says %s", e.Algorithm,
		base64.StdEncoding.EncodeToString(e.Got), e.Header, base64.StdEncoding.EncodeToString(e.Want))
}

// Verify returns an *Error if what was written is not what the header tells of.
func (c *Check) Verify() error {
	if got := c.Sum(nil); !bytes.Equal(got, c.want) {
		return &Error{Header: c.header, Algorithm: c.algorithm, Want: c.want, Got: got}
	}
	return nil
}

// An algorithm is one that headers may use.
type algorithm struct {
	name string // in dictionaries
	amz  string // the header of S3; empty: none
	make func() hash.Hash
}

// algorithms returns them, the strongest first.
func algorithms() []algorithm {
	return []algorithm{
		{"sha-512", "", sha512.New},
		{"sha-256", "X-Amz-Checksum-Sha256", sha256.New},
		{"sha", "X-Amz-Checksum-Sha1", sha1.New},
		{"md5", "", md5.New},
		{"crc64nvme", "X-Amz-Checksum-Crc64nvme", func() hash.Hash { return crc64.New(crc64.MakeTable(0x9a6c9329ac4bc9b5)) }},
		{"crc32c", "X-Amz-Checksum-Crc32c", func() hash.Hash { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) }},
		{"crc32", "X-Amz-Checksum-Crc32", func() hash.Hash { return crc32.NewIEEE() }},
	}
}

// Offers reports whether a header of this name may have a digest. Few answers have one: what goes through all names of
// an answer anyway need not call For.
func Offers(name string) bool {
	return name == "Content-Digest" || name == "Repr-Digest" || name == "Content-Md5" || strings.HasPrefix(name, "X-Amz-Checksum-")
}

// For returns a check for the body that comes with h, or nil if h offers no digest that can be checked. whole says
// whether the body is the whole entity: only then the digests of the whole apply to it.
// Of several digests the strongest is checked. What is malformed or unknown is passed over.
func For(h http.Header, whole bool) *Check {
	for _, a := range algorithms() {
		for _, name := range []string{"Content-Digest", "Repr-Digest"} {
			if text, ok := member(h[name], a.name); ok && (whole || name == "Content-Digest") {
				if c := check(name, a.name, a.make(), text); c != nil {
					return c
				}
			}
		}
		if a.name == "md5" {
			if c := check("Content-MD5", "md5", a.make(), h.Get("Content-MD5")); c != nil {
				return c
			}
		}
		if whole && a.amz != "" && h.Get("X-Amz-Checksum-Type") != "COMPOSITE" {
			if c := check(a.amz, a.name, a.make(), h.Get(a.amz)); c != nil {
				return c
			}
		}
	}
	return nil
}

// check returns nil if text is no digest of h's length. That of an S3 object made of parts, which no stream can be
// checked against, ends in "-" and the number of parts, so it is none either.
func check(header, algorithm string, h hash.Hash, text string) *Check {
	want, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(want) != h.Size() {
		return nil
	}
	return &Check{Hash: h, header: header, algorithm: algorithm, want: want}
}

// member returns the byte sequence of a key in a dictionary (RFC 9651): key=:base64:. The last one counts.
func member(lines []string, key string) (text string, ok bool) {
	for _, line := range lines {
		for m := range strings.SplitSeq(line, ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(m), "=")
			value, _, _ = strings.Cut(value, ";")
			if name == key && len(value) >= 2 && value[0] == ':' && value[len(value)-1] == ':' {
				text, ok = value[1:len(value)-1], true
			}
		}
	}
	return text, ok
}
