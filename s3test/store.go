package s3test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
	"maps"
	"net/http"
	"sync"
	"testing/iotest"

	"github.com/rclone/gofakes3"
	"github.com/rclone/gofakes3/s3mem"
)

// store is the memory backend with atomic conditional writes.
//
// The backend alone checks If-Match and If-None-Match when a request arrives and writes when its body has arrived: of
// sixteen racers several win. Here the check is repeated under a lock that every write takes. One lock for all keys is
// enough: the backend has only one itself, and the lock is never held while waiting for the network.
type store struct {
	*s3mem.Backend

	commit sync.Mutex
	parted sync.Map // by bucket and key, a parted of each object that StoreParts has stored
}

// PutObject serves PutObject and CompleteMultipartUpload.
func (s *store) PutObject(ctx context.Context, bucket, key string, meta map[string]string, body io.Reader, size int64) (gofakes3.PutObjectResult, error) {
	if c, ok := ctx.Value(claimKey{}).(claim); ok {
		meta = maps.Clone(meta)
		meta[c.header], meta[checksumHeader+"Type"] = c.value, "FULL_OBJECT"
		body = &verifiedBody{ReadCloser: io.NopCloser(body), left: size, sums: []digest{c.digest}}
	}
	gated := &gatedBody{body: body, enter: func() error {
		s.commit.Lock()
		err := s.check(ctx, bucket, key)
		if err == nil {
			s.parted.Delete([2]string{bucket, key})
		}
		return err
	}}
	defer func() {
		if gated.entered {
			s.commit.Unlock()
		}
	}()
	return s.Backend.PutObject(ctx, bucket, key, meta, gated, size)
}

// CopyObject takes the lock: a copy must not land between another write and its condition.
func (s *store) CopyObject(ctx context.Context, fromBucket, fromKey, bucket, key string, meta map[string]string) (gofakes3.CopyObjectResult, error) {
	s.commit.Lock()
	defer s.commit.Unlock()
	defer s.parted.Delete([2]string{bucket, key})
	return s.Backend.CopyObject(ctx, fromBucket, fromKey, bucket, key, meta)
}

// DeleteObject takes the lock for the same reason.
func (s *store) DeleteObject(ctx context.Context, bucket, key string) (gofakes3.ObjectDeleteResult, error) {
	s.commit.Lock()
	defer s.commit.Unlock()
	return s.Backend.DeleteObject(ctx, bucket, key)
}

// DeleteMulti takes the lock for the same reason.
func (s *store) DeleteMulti(ctx context.Context, bucket string, keys ...string) (gofakes3.MultiDeleteResult, error) {
	s.commit.Lock()
	defer s.commit.Unlock()
	return s.Backend.DeleteMulti(ctx, bucket, keys...)
}

// check needs s.commit.
func (s *store) check(ctx context.Context, bucket, key string) error {
	if !gofakes3.HasWriteConditions(ctx) {
		return nil
	}
	object, err := s.HeadObject(ctx, bucket, key)
	switch {
	case gofakes3.HasErrorCode(err, gofakes3.ErrNoSuchKey):
		return gofakes3.CheckWriteConditions(ctx, false, "")
	case err != nil:
		return err
	}
	return gofakes3.CheckWriteConditions(ctx, true, hex.EncodeToString(object.Hash))
}

// gatedBody is a body that calls enter at its end: the backend reads the body without a lock and writes when it sees
// io.EOF. So the body is in memory once; reading it here first would hold it twice.
type gatedBody struct {
	body    io.Reader
	enter   func() error
	entered bool
}

func (d *gatedBody) Read(p []byte) (int, error) {
	n, err := d.body.Read(p)
	if errors.Is(err, io.EOF) && !d.entered {
		d.entered = true
		if refused := d.enter(); refused != nil {
			return n, refused
		}
	}
	return n, err
}

// checksumHeader is the beginning of the names of the checksum headers.
const checksumHeader = "X-Amz-Checksum-"

// checksums returns S3's checksums by the end of their header's name.
func checksums() map[string]func() hash.Hash {
	return map[string]func() hash.Hash{
		"Crc32":     func() hash.Hash { return crc32.NewIEEE() },
		"Crc32c":    func() hash.Hash { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) },
		"Crc64nvme": func() hash.Hash { return crc64.New(crc64.MakeTable(0x9a6c9329ac4bc9b5)) },
		"Sha1":      sha1.New,
		"Sha256":    sha256.New,
	}
}

// A claim is the checksum of the whole object in a CompleteMultipartUpload, which the object keeps. The S3 handler
// supports the checksum of a PutObject only.
type claim struct {
	digest

	header, value string
}

type claimKey struct{}

// claimed returns the request with its claim, if it has one.
func claimed(r *http.Request) *http.Request {
	if operation(r) != "CompleteMultipartUpload" {
		return r
	}
	for name, newHash := range checksums() {
		c := claim{header: checksumHeader + name}
		c.value = r.Header.Get(c.header)
		if sum, err := base64.StdEncoding.DecodeString(c.value); err == nil && len(sum) > 0 {
			c.digest = digest{newHash(), sum}
			return r.WithContext(context.WithValue(r.Context(), claimKey{}, c))
		}
	}
	return r
}

// verified returns the request's body, which ends in S3's error if the body does not match the checksums in its headers.
// The S3 handler checks PutObject's checksum only, and responds with it; this adds the checksums of parts, and the hash
// that the signature covers.
func verified(r *http.Request, response http.Header) io.ReadCloser {
	if r.ContentLength <= 0 {
		return r.Body
	}
	body := &verifiedBody{ReadCloser: r.Body, left: r.ContentLength}
	if sum, err := hex.DecodeString(r.Header.Get("X-Amz-Content-Sha256")); err == nil && len(sum) == sha256.Size {
		body.sums = append(body.sums, digest{sha256.New(), sum})
	}
	if operation(r) == "UploadPart" {
		for name, newHash := range checksums() {
			value := r.Header.Get(checksumHeader + name)
			if sum, err := base64.StdEncoding.DecodeString(value); err == nil && len(sum) > 0 {
				body.sums = append(body.sums, digest{newHash(), sum})
				response.Set(checksumHeader+name, value)
			}
		}
	}
	return body
}

type digest struct {
	hash.Hash

	want []byte
}

type verifiedBody struct {
	io.ReadCloser

	left int64
	sums []digest
}

func (b *verifiedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	for _, sum := range b.sums {
		_, _ = sum.Write(p[:n])
		if b.left == 0 && !bytes.Equal(sum.Sum(nil), sum.want) {
			return n, gofakes3.ErrorMessage(gofakes3.ErrBadDigest, "The body does not match the checksum in the request's headers.")
		}
	}
	return n, err
}

// parts is S3 with one more lock: the handler's ListParts reads what its UploadPart writes under another lock. So no part is
// added to an upload while its parts are listed. The lock is never held while waiting for the network.
type parts struct {
	http.Handler

	list sync.RWMutex // read-locked by UploadPart
}

func (p *parts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch operation(r) {
	case "UploadPart", "UploadPartCopy":
		r.Body = arrived(r)
		p.list.RLock()
		defer p.list.RUnlock()
		p.Handler.ServeHTTP(w, r)
	case "ListParts":
		var out recorder
		p.list.Lock()
		p.Handler.ServeHTTP(&out, r)
		p.list.Unlock()
		out.writeTo(w)
	default:
		p.Handler.ServeHTTP(w, r)
	}
}

// arrived reads the request's whole body and returns it; if the body breaks off, the result is its error alone.
func arrived(r *http.Request) io.ReadCloser {
	content := new(bytes.Buffer)
	content.Grow(int(min(max(r.ContentLength, 0), 64<<20)) + bytes.MinRead)
	var body io.Reader = content
	if _, err := content.ReadFrom(r.Body); err != nil {
		body = iotest.ErrReader(err)
	}
	return struct {
		io.Reader
		io.Closer
	}{body, r.Body}
}

func (m *recorder) writeTo(w http.ResponseWriter) {
	maps.Copy(w.Header(), m.header)
	w.WriteHeader(cmp.Or(m.status, http.StatusOK))
	_, _ = m.body.WriteTo(w)
}
