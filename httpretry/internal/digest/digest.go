// Package digest reads the digests of a body in headers, Content-Digest and Repr-Digest (RFC 9530), Content-MD5 (RFC 1864)
// and the x-amz-checksum headers of S3, and checks a body against them.
package digest

import (
	"context"
	"encoding/base64"
	"hash"
	"net/http"
	"strings"

	"github.com/seed-0f2c7998/perdure/internal/checksum"
)

// A Check hashes a body as it passes. It is not safe for concurrent use.
type Check struct {
	hash.Hash

	Header    string // the header of the digest, such as Repr-Digest
	Algorithm string // such as sha-256
	Want      []byte // the digest in the header
}

// An algorithm is a digest algorithm of these headers.
type algorithm struct {
	name string // the key in the header
	sum  string // the name in package checksum
	amz  string // the header of S3; "" if S3 has none
}

// algorithms returns the algorithms in the order of preference: the strongest first, and of equally strong ones the
// fastest. SHA-256 and SHA-512 cannot be forged, and processors have instructions for SHA-256; SHA-1 and MD5 detect all
// accidents, but no forgery; a CRC misses one accident in 2^64 or 2^32.
func algorithms() []algorithm {
	return []algorithm{
		{"sha-256", "sha256", "X-Amz-Checksum-Sha256"},
		{"sha-512", "sha512", ""},
		{"sha", "sha1", "X-Amz-Checksum-Sha1"},
		{"md5", "md5", ""},
		{"crc64nvme", "crc64nvme", "X-Amz-Checksum-Crc64nvme"},
		{"crc32c", "crc32c", "X-Amz-Checksum-Crc32c"},
		{"crc32", "crc32", "X-Amz-Checksum-Crc32"},
	}
}

// Offers reports whether a header of this name may have a digest. Few responses have one: a caller that iterates over the
// header anyway saves the call of For.
func Offers(name string) bool {
	return name == "Content-Digest" || name == "Repr-Digest" || name == "Content-Md5" || strings.HasPrefix(name, "X-Amz-Checksum-")
}

// For returns a check for the body of a response with header h, or nil if h has no digest that can be checked. whole says
// whether the body is the whole representation: only then Repr-Digest and x-amz-checksum apply to it.
// Of several digests the first in the order of algorithms is checked. Malformed and unknown digests are ignored.
func For(h http.Header, whole bool) *Check {
	o := best(h, whole, true)
	if o.sum.IsZero() {
		return nil
	}
	return &Check{Hash: o.sum.New(), Header: o.header, Algorithm: o.algorithm.name, Want: o.sum.Value}
}

// OfWhole returns the checksum of the whole representation, or the zero Sum if h has none. part says that the body of the
// response is a part: Content-Digest and Content-MD5 do not apply then.
func OfWhole(h http.Header, part bool) checksum.Sum { return best(h, true, !part).sum }

// An offer is a checksum in a header.
type offer struct {
	header    string
	algorithm algorithm
	sum       checksum.Sum
}

// best returns the first offer in h in the order of algorithms: of the digests of the representation, if whole, and of the
// digests of the content, if content.
func best(h http.Header, whole, content bool) offer {
	for _, a := range algorithms() {
		var texts [4]struct{ header, text string }
		if content {
			texts[0].header, texts[0].text = "Content-Digest", member(h["Content-Digest"], a.name)
			if a.name == "md5" {
				texts[1].header, texts[1].text = "Content-MD5", h.Get("Content-MD5")
			}
		}
		if whole {
			texts[2].header, texts[2].text = "Repr-Digest", member(h["Repr-Digest"], a.name)
			if a.amz != "" && h.Get("X-Amz-Checksum-Type") != "COMPOSITE" {
				texts[3].header, texts[3].text = a.amz, h.Get(a.amz)
			}
		}
		for _, t := range texts {
			if sum, ok := decode(a.sum, t.text); ok {
				return offer{t.header, a, sum}
			}
		}
	}
	return offer{}
}

// decode is not ok if text is no checksum of the algorithm's length. The composite checksum of an S3 object made of parts
// ends in "-" and the number of parts; no stream can be checked against it, and decode is not ok.
func decode(name, text string) (checksum.Sum, bool) {
	if text == "" {
		return checksum.Sum{}, false
	}
	value, err := base64.StdEncoding.DecodeString(text)
	return checksum.Sum{Name: name, Value: value}, err == nil && len(value) == checksum.New(name).Size()
}

// member returns the byte sequence of a key in a dictionary (RFC 9651): key=:base64:. The last one counts.
func member(lines []string, key string) (text string) {
	for _, line := range lines {
		for m := range strings.SplitSeq(line, ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(m), "=")
			value, _, _ = strings.Cut(value, ";")
			if name == key && len(value) >= 2 && value[0] == ':' && value[len(value)-1] == ':' {
				text = value[1 : len(value)-1]
			}
		}
	}
	return text
}

type verifiedKey struct{}

// LeaveToCaller returns a context with which the transport does not check bodies against the digests in their headers,
// because the caller does.
func LeaveToCaller(ctx context.Context) context.Context {
	return context.WithValue(ctx, verifiedKey{}, true)
}

// IsLeftToCaller reports whether ctx comes from LeaveToCaller.
func IsLeftToCaller(ctx context.Context) bool { return ctx.Value(verifiedKey{}) != nil }
