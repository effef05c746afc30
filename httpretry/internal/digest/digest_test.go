package digest_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/httpretry/internal/digest"
)

// The digests of "123456789": published check values of the algorithms, in base 64.
const (
	sha256Of = "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="
	sha1Of   = "98O8HYCOBHMq32eZZczDTKeuNEE="
	md5Of    = "JfnnlDI7RTiF9RgfG2JNCw=="
	crc64Of  = "rosUhgp5mIg="
	crc32cOf = "4waSgw=="
	crc32Of  = "y/Q5Jg=="
	other    = "AAAAAA=="
)

func TestFor(t *testing.T) {
	for _, tt := range []struct {
		name   string
		header http.Header
		part   bool
		algo   string // "" means that nothing can be checked
		bad    bool   // the body is not the one of the digest
	}{
		{name: "nothing", header: http.Header{}},
		{name: "repr", header: http.Header{"Repr-Digest": {"sha-256=:" + sha256Of + ":"}}, algo: "sha-256"},
		{name: "repr of a part", header: http.Header{"Repr-Digest": {"sha-256=:" + sha256Of + ":"}}, part: true},
		{name: "content of a part", header: http.Header{"Content-Digest": {"sha-256=:" + sha256Of + ":"}}, part: true, algo: "sha-256"},
		{name: "strongest", header: http.Header{"Content-Digest": {"md5=:" + md5Of + ":, sha-256=:" + sha256Of + ":;x=1, sha=:" + sha1Of + ":"}}, algo: "sha-256"},
		{name: "as strong, and quicker", header: http.Header{"Repr-Digest": {"sha-512=:2eZ2LdHI6vbWGzxhkvxAjU1tXxF20MKRabwk5xw/J0rSf81YEbMT1oH35V7ALXPUmclUVba1u1A6z1dPuo/+hQ==:, sha-256=:" + sha256Of + ":"}}, algo: "sha-256"},
		{name: "two lines, the last counts", header: http.Header{"Content-Digest": {"crc32c=:" + other + ":", "crc32c=:" + crc32cOf + ":"}}, algo: "crc32c"},
		{name: "Content-MD5", header: http.Header{"Content-Md5": {md5Of}}, algo: "md5"},
		{name: "crc32", header: http.Header{"X-Amz-Checksum-Crc32": {crc32Of}}, algo: "crc32"},
		{name: "crc32 wrong", header: http.Header{"X-Amz-Checksum-Crc32": {other}}, algo: "crc32", bad: true},
		{name: "crc32 of a part", header: http.Header{"X-Amz-Checksum-Crc32": {crc32Of}}, part: true},
		{name: "crc32c", header: http.Header{"X-Amz-Checksum-Crc32c": {crc32cOf}}, algo: "crc32c"},
		{name: "crc64nvme", header: http.Header{"X-Amz-Checksum-Crc64nvme": {crc64Of}}, algo: "crc64nvme"},
		{name: "sha1", header: http.Header{"X-Amz-Checksum-Sha1": {sha1Of}}, algo: "sha"},
		{name: "sha256", header: http.Header{"X-Amz-Checksum-Sha256": {sha256Of}, "X-Amz-Checksum-Type": {"FULL_OBJECT"}}, algo: "sha-256"},
		{name: "of parts", header: http.Header{"X-Amz-Checksum-Sha256": {sha256Of}, "X-Amz-Checksum-Type": {"COMPOSITE"}}},
		{name: "of parts, by its look", header: http.Header{"X-Amz-Checksum-Crc32": {crc32Of + "-3"}}},
		{name: "unknown", header: http.Header{"Repr-Digest": {"unixsum=:AAAA:, id-sha-256=:" + sha256Of + ":"}}},
		{name: "malformed", header: http.Header{"Repr-Digest": {"sha-256=" + sha256Of, "sha-256", "sha-512=:%%:", "=", ":"}}},
		{name: "too short", header: http.Header{"Repr-Digest": {"sha-256=:" + other + ":"}}},
	} {
		c := digest.For(tt.header, !tt.part)
		if c == nil {
			if tt.algo != "" {
				t.Errorf("%s: nothing to check, want %s", tt.name, tt.algo)
			}
			continue
		}
		if _, err := io.Copy(c, strings.NewReader("123456789")); err != nil {
			t.Fatal(err)
		}
		if same := bytes.Equal(c.Sum(nil), c.Want); c.Algorithm != tt.algo || same == tt.bad {
			t.Errorf("%s: checked by %q of %q, the same: %t; want a check of %q", tt.name, c.Algorithm, c.Header, same, tt.algo)
		}
		if _, err := io.WriteString(c, "0"); err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(c.Sum(nil), c.Want) {
			t.Errorf("%s: another body passes", tt.name)
		}
	}
}
