package objects_test

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
)

// partedServer has one object, in parts of the given sizes, with the ETag or the checksum that S3 gives such an
// object.
func partedServer(t *testing.T, body []byte, sizes []int, checksum bool) *objects.Store {
	t.Helper()
	sum, tags, rest := crc32.NewIEEE(), md5.New(), body
	for _, size := range sizes {
		tag := md5.Sum(rest[:size])
		_, _ = tags.Write(tag[:])
		_ = binary.Write(sum, binary.BigEndian, crc32.ChecksumIEEE(rest[:size]))
		rest = rest[size:]
	}
	return handMade(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", fmt.Sprintf(`"%x-%d"`, tags.Sum(nil), len(sizes)))
		if checksum {
			w.Header().Set("X-Amz-Checksum-Crc32", base64.StdEncoding.EncodeToString(sum.Sum(nil))+"-"+strconv.Itoa(len(sizes)))
			w.Header().Set("X-Amz-Checksum-Type", "COMPOSITE")
			w.Header().Set("ETag", `"opaque"`)
		}
		if n, err := strconv.Atoi(r.URL.Query().Get("partNumber")); err == nil {
			w.Header().Set("Content-Length", strconv.Itoa(sizes[n-1]))
			w.WriteHeader(http.StatusPartialContent)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	})
}

func TestChecksumsOfPartsAreCompared(t *testing.T) {
	body := content(1, 12*mib)
	for _, test := range []struct {
		name     string
		sizes    []int
		checksum bool
		want     objects.Verification
	}{
		{"ETag", []int{5 * mib, 5 * mib, 2 * mib}, false, "md5 of parts"},
		{"ETag of one", []int{12 * mib}, false, "md5 of parts"},
		{"ETag of two", []int{6 * mib, 6 * mib}, false, "md5 of parts"},
		{"CRC-32", []int{5 * mib, 5 * mib, 2 * mib}, true, "crc32 of parts"},
		{"parts of all sizes", []int{5 * mib, 3 * mib, 4 * mib}, true, "size"},
	} {
		store := partedServer(t, body, test.sizes, test.checksum)
		var out bytes.Buffer
		got, err := store.Get(t.Context(), bucket, "k", &out, objects.GetOptions{})
		if err != nil || got.Verified != test.want || !bytes.Equal(out.Bytes(), body) {
			t.Errorf("%s: %v, verified by %q, want %q", test.name, err, got.Verified, test.want)
		}
		got, err = store.GetFile(t.Context(), bucket, "k", filepath.Join(t.TempDir(), "k"), objects.GetOptions{})
		if err != nil || got.Verified != test.want {
			t.Errorf("%s, to a file: %v, verified by %q, want %q", test.name, err, got.Verified, test.want)
		}
	}
}

// StatParts has a checksum of the parts if their size is known and the ETag is an MD5; Stat has none.
func TestStatParts(t *testing.T) {
	body := content(1, 12*mib)
	for _, test := range []struct {
		name     string
		sizes    []int
		checksum bool
		want     string // the beginning and the end
	}{
		{"ETag", []int{5 * mib, 5 * mib, 2 * mib}, false, "md5:...@5242880"},
		{"ETag of one", []int{12 * mib}, false, "md5:...@12582912"},
		{"CRC-32", []int{5 * mib, 5 * mib, 2 * mib}, true, "crc32:...@5242880"},
		{"parts of all sizes", []int{5 * mib, 3 * mib, 4 * mib}, false, ""},
	} {
		store := partedServer(t, body, test.sizes, test.checksum)
		got, err := store.StatParts(t.Context(), objects.Address{Bucket: bucket, Key: "k"})
		first, last, _ := strings.Cut(test.want, "...")
		if err != nil || got.Size != 12*mib || !strings.HasPrefix(got.Checksum, first) || !strings.HasSuffix(got.Checksum, last) || (got.Checksum == "") != (test.want == "") {
			t.Errorf("%s: %q, %v, want %q", test.name, got.Checksum, err, test.want)
		}
		if plain, err := store.Stat(t.Context(), bucket, "k"); err != nil || plain.Checksum != "" {
			t.Errorf("%s: Stat: %q, %v", test.name, plain.Checksum, err)
		}
	}
	encrypted := handMade(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"0123456789abcdef0123456789abcdef-1"`)
		w.Header().Set("X-Amz-Server-Side-Encryption", "aws:kms")
		w.Header().Set("Content-Length", "5")
	})
	if got, err := encrypted.StatParts(t.Context(), objects.Address{Bucket: bucket, Key: "k"}); err != nil || got.Checksum != "" {
		t.Errorf("encrypted: %q, %v", got.Checksum, err)
	}
}

func TestSpoiltObjectIsNoSuccess(t *testing.T) {
	body := content(1, 12*mib)
	for _, checksum := range []bool{false, true} {
		store := partedServer(t, body, []int{8 * mib, 4 * mib}, checksum)
		body[9*mib]++ // the server's copy, after its checksums
		var out bytes.Buffer
		if _, err := store.Get(t.Context(), bucket, "k", &out, objects.GetOptions{}); !errors.Is(err, objects.ErrChecksum) {
			t.Errorf("one byte is another, checksum %v: %v, want %v", checksum, err, objects.ErrChecksum)
		}
		dir := t.TempDir()
		if _, err := store.GetFile(t.Context(), bucket, "k", filepath.Join(dir, "k"), objects.GetOptions{}); !errors.Is(err, objects.ErrChecksum) {
			t.Errorf("one byte is another, checksum %v, to a file: %v, want %v", checksum, err, objects.ErrChecksum)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%v are left", left)
		}
	}
}

// An upload fails if the store has other bytes than were sent, as its response or a HEAD shows.
func TestSpoiltUploadIsNoSuccess(t *testing.T) {
	sent, kept := []byte("instant,cnt"), []byte("instant,cnT")
	sum := func(b []byte) string {
		return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(b)))
	}
	for _, test := range []struct {
		name      string
		put, head string // checksums in the responses, "" for none
		size      int    // of what is stored
		want      error
	}{
		{"the response's checksum", sum(kept), sum(sent), len(kept), objects.ErrChecksum},
		{"the stored checksum", "", sum(kept), len(kept), objects.ErrChecksum},
		{"the stored size", "", "", len(kept) - 1, objects.ErrChecksum},
		{"nothing is wrong", sum(sent), "", len(sent), nil},
	} {
		store := handMade(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("ETag", `"opaque"`)
			checksum := test.head
			if r.Method == http.MethodPut {
				checksum = test.put
			} else {
				w.Header().Set("Content-Length", strconv.Itoa(test.size))
			}
			if checksum != "" {
				w.Header().Set("X-Amz-Checksum-Crc32", checksum)
				w.Header().Set("X-Amz-Checksum-Type", "FULL_OBJECT")
			}
		})
		if _, err := store.Put(t.Context(), bucket, "k", bytes.NewReader(sent), objects.PutOptions{}); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
}

// Only a checksum of all bytes becomes an object's Checksum; of several, the best.
func TestChecksumOfTheWholeObjectOnly(t *testing.T) {
	for _, test := range []struct {
		headers map[string]string
		want    string
	}{
		{map[string]string{"Type": "FULL_OBJECT", "Crc32": "AAAAAA=="}, "crc32:AAAAAA=="},
		{map[string]string{"Crc32c": "AAAAAA=="}, "crc32c:AAAAAA=="},
		{map[string]string{"Crc32": "AAAAAA==-3"}, ""},
		{map[string]string{"Type": "COMPOSITE", "Crc32": "AAAAAA=="}, ""},
		{map[string]string{"Crc32": "AAAAAA==", "Crc64nvme": "AAAAAAAAAAA="}, "crc64nvme:AAAAAAAAAAA="},
		{map[string]string{"Crc32": "AAAA", "Sha1": "not base64"}, ""},
		{map[string]string{"Crc32": "AAAAAA==@5"}, ""},
		{nil, ""},
	} {
		store := handMade(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", `"1"`)
			for name, value := range test.headers {
				w.Header().Set("X-Amz-Checksum-"+name, value)
			}
		})
		if got, err := store.Stat(t.Context(), bucket, "k"); err != nil || got.Checksum != test.want {
			t.Errorf("%v: %q, %v, want %q", test.headers, got.Checksum, err, test.want)
		}
	}
}

// The same for an object in parts, each of which arrived unchanged.
func TestSpoiltPartsAreNoSuccess(t *testing.T) {
	sent := content(1, 12*mib)
	spoilt := slices.Clone(sent)
	spoilt[7*mib] ^= 1
	sum := func(b []byte) string {
		return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(b)))
	}
	for _, test := range []struct {
		name           string
		complete, head string // checksums in the responses, "" for none
		want           error
	}{
		{"the response's checksum", sum(spoilt), sum(sent), objects.ErrChecksum},
		{"the stored checksum", "", sum(spoilt), objects.ErrChecksum},
		{"nothing is wrong", sum(sent), "", nil},
	} {
		store := handMade(t, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			query := r.URL.Query()
			switch {
			case query.Has("uploads"):
				fmt.Fprint(w, "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")
			case query.Has("partNumber"):
				w.Header().Set("ETag", fmt.Sprintf(`"%x"`, md5.Sum(body)))
			case r.Method == http.MethodPost:
				fmt.Fprintf(w, "<CompleteMultipartUploadResult><ETag>&quot;opaque&quot;</ETag><ChecksumCRC32>%s</ChecksumCRC32>"+
					"<ChecksumType>FULL_OBJECT</ChecksumType></CompleteMultipartUploadResult>", test.complete)
			default:
				w.Header().Set("ETag", `"opaque"`)
				w.Header().Set("Content-Length", strconv.Itoa(len(sent)))
				w.Header().Set("X-Amz-Checksum-Crc32", test.head)
				w.Header().Set("X-Amz-Checksum-Type", "FULL_OBJECT")
			}
		})
		if _, err := store.Put(t.Context(), bucket, "k", stream{bytes.NewReader(sent)}, objects.PutOptions{}); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
}
