package s3test

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/rclone/gofakes3"
)

// A parted is an object that StoreParts has stored.
type parted struct {
	plain, etag string // the MD5 of the bytes, which the backend has as ETag, and the ETag; without quotes
	sizes       []int64
}

// StoreParts is Store for an object that another program has uploaded in parts of partSize bytes, of which the last may be
// shorter. Its ETag is that of S3, the MD5 of the parts' MD5s and "-N", and it has no checksum. GetObject and HeadObject
// return its parts by number. A partSize below 1 is an error.
func (s *Server) StoreParts(bucket, key string, content []byte, partSize int) error {
	if partSize < 1 {
		return fmt.Errorf("s3test: store %q in %q: partSize is %d, want 1 or more", key, bucket, partSize)
	}
	whole, all := md5.Sum(content), md5.New()
	p := parted{plain: hex.EncodeToString(whole[:])}
	chunks := slices.Collect(slices.Chunk(content, partSize))
	if len(chunks) == 0 {
		chunks = [][]byte{nil}
	}
	for _, part := range chunks {
		sum := md5.Sum(part)
		_, _ = all.Write(sum[:])
		p.sizes = append(p.sizes, int64(len(part)))
	}
	p.etag = fmt.Sprintf("%x-%d", all.Sum(nil), len(p.sizes))
	if err := s.Store(bucket, key, content); err != nil {
		return err
	}
	s.store.parted.Store([2]string{bucket, key}, p)
	return nil
}

// inParts returns how an object was stored, if StoreParts has stored it.
func (s *store) inParts(bucket, key string) (parted, bool) {
	p, ok := s.parted.Load([2]string{bucket, key})
	if !ok {
		return parted{}, false
	}
	return p.(parted), true //nolint:errcheck,forcetypeassert // nothing else is stored
}

// HeadObject adds the sizes of the parts.
func (s *store) HeadObject(ctx context.Context, bucket, key string) (*gofakes3.Object, error) {
	o, err := s.Backend.HeadObject(ctx, bucket, key)
	if p, ok := s.inParts(bucket, key); ok && err == nil {
		o.PartSizes = p.sizes
	}
	return o, err
}

// ListBucket has the ETags of objects in parts.
func (s *store) ListBucket(ctx context.Context, name string, prefix *gofakes3.Prefix, page gofakes3.ListBucketPage) (*gofakes3.ObjectList, error) {
	list, err := s.Backend.ListBucket(ctx, name, prefix, page)
	if err != nil {
		return nil, err
	}
	for _, o := range list.Contents {
		if p, ok := s.inParts(name, o.Key); ok {
			o.ETag = `"` + p.etag + `"`
		}
	}
	return list, nil
}

// tags is S3 with the ETags of objects in parts in place of those that the backend has.
type tags struct {
	http.Handler

	store *store
}

func (t *tags) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if p, ok := t.store.inParts(bucket, key); ok {
		r = p.translate(r, "If-Match", "If-None-Match")
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			response := &tagged{w, p}
			defer response.tag() // the handler may leave the status to the server
			w = response
		}
	}
	from, _ := url.PathUnescape(strings.TrimPrefix(r.Header.Get("X-Amz-Copy-Source"), "/")) // the handler refuses it
	bucket, key, _ = strings.Cut(from, "/")
	if p, ok := t.store.inParts(bucket, key); ok {
		r = p.translate(r, "X-Amz-Copy-Source-If-Match", "X-Amz-Copy-Source-If-None-Match")
	}
	t.Handler.ServeHTTP(w, r)
}

// translate returns the request with the backend's ETag in these headers.
func (p parted) translate(r *http.Request, headers ...string) *http.Request {
	r = r.Clone(r.Context())
	for _, name := range headers {
		if value := r.Header.Get(name); value != "" {
			r.Header.Set(name, strings.ReplaceAll(value, p.etag, p.plain))
		}
	}
	return r
}

// A tagged is a response with the ETag of an object in parts.
type tagged struct {
	http.ResponseWriter

	parted parted
}

func (w *tagged) tag() {
	if w.Header().Get("ETag") == `"`+w.parted.plain+`"` {
		w.Header().Set("ETag", `"`+w.parted.etag+`"`)
	}
}

func (w *tagged) WriteHeader(status int) {
	w.tag()
	w.ResponseWriter.WriteHeader(status)
}

func (w *tagged) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK) // the first status counts
	return w.ResponseWriter.Write(p)
}
