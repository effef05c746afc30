package sum

import (
	"crypto/md5" //nolint:gosec // as ETag
	"encoding/base64"
	"encoding/hex"
	"hash"
	"strconv"
	"strings"
)

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
