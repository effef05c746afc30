package httpretry_test

import (
	"compress/gzip"
	"context"
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/seed-0f2c7998/perdure/httpretry"
)

// bases are RoundTrippers that users put below a Transport, around the same http.Transport.
func bases(plain *http.Transport) map[string]http.RoundTripper {
	uncoded := plain.Clone()
	uncoded.DisableCompression = true
	return map[string]http.RoundTripper{
		"http.Transport":                     plain,
		"http.Transport without compression": uncoded,
		"wrapper":                            roundTripper(plain.RoundTrip),
		"wrapper that changes a copy": roundTripper(func(req *http.Request) (*http.Response, error) {
			req = req.Clone(req.Context())
			req.Header.Set("Authorization", "Bearer token")
			return plain.RoundTrip(req)
		}),
		"wrapper that traces, as otelhttp does": roundTripper(func(req *http.Request) (*http.Response, error) {
			res, err := plain.RoundTrip(req.WithContext(context.WithValue(req.Context(), lengthKey{}, "span")))
			if err == nil && res.Body != http.NoBody {
				res.Body = struct{ io.ReadCloser }{res.Body}
			}
			return res, err
		}),
		"custom, without codings": roundTripper(uncoded.RoundTrip),
		"a Transport":             httpretry.NewTransport(plain, httpretry.Options{Policy: quick()}),
	}
}

// described sends text with all fields that describe a representation, and gzip for clients that accept it.
func described(w http.ResponseWriter, r *http.Request) {
	var b strings.Builder
	h, name := w.Header(), "plain"
	h.Set("Vary", "Accept-Encoding")
	h.Set("Accept-Ranges", "bytes")
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		name = "gzip"
		h.Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(&b)
		_, _ = io.WriteString(z, text)
		_ = z.Close()
	} else {
		b.WriteString(text)
	}
	sum := md5.Sum([]byte(b.String()))
	h.Set("Etag", fmt.Sprintf("%q", name))
	h.Set("Content-Md5", base64.StdEncoding.EncodeToString(sum[:]))
	h.Set("Repr-Digest", "md5=:"+h.Get("Content-Md5")+":")
	h.Set("Content-Length", fmt.Sprint(b.Len()))
	_, _ = io.WriteString(w, b.String())
}

// The caller gets the coding, length, ETag and digests that the base alone would return. A base that does not request gzip
// used to be made to: the length was lost, and the ETag and the digests were those of the compressed bytes.
func TestRepresentationOfAnyBase(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(described))
	defer server.Close()
	plain, ok := server.Client().Transport.(*http.Transport)
	if !ok {
		t.Fatal("not an http.Transport")
	}
	for name, base := range bases(plain) {
		for option, options := range sameOptions() {
			transport := httpretry.NewTransport(base, options)
			for i := range 3 { // a Transport learns of the first response what its base does
				got, want := record(t, transport, "GET", server.URL), record(t, base, "GET", server.URL)
				got.Same, want.Same = false, false
				if !reflect.DeepEqual(got, want) || got.Body != text {
					t.Errorf("%s, %s, response %d:\n%+v; want what the base gives:\n%+v", name, option, i+1, got, want)
				}
			}
		}
	}
}

// The Request of a response is the caller's, also if the base has sent a copy: sent again, it gets the same response.
func TestRequestOfAnyBase(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(described))
	defer server.Close()
	plain, ok := server.Client().Transport.(*http.Transport)
	if !ok {
		t.Fatal("not an http.Transport")
	}
	for name, base := range bases(plain) {
		for option, options := range sameOptions() {
			transport := httpretry.NewTransport(base, options)
			for range 3 {
				if got := record(t, transport, "GET", server.URL); !got.Same {
					t.Errorf("%s, %s: the response is one to another request than the caller's", name, option)
				}
			}
		}
	}
}

// A body that the base decodes is resumed, too, once the Transport knows that the base decodes.
func TestResumeWithAnyBase(t *testing.T) {
	var cuts, requests atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		plain := httptest.NewRecorder()
		describe := http.Header{"Accept-Encoding": r.Header["Accept-Encoding"]}
		described(plain, &http.Request{Header: describe})
		whole, h := plain.Body.String(), w.Header()
		h["Etag"], h["Content-Encoding"] = plain.Header()["Etag"], plain.Header()["Content-Encoding"]
		from := 0
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err == nil {
			h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(whole)-1, len(whole)))
			w.WriteHeader(http.StatusPartialContent)
		}
		if cuts.Add(-1) >= 0 {
			_, _ = io.WriteString(w, whole[from:from+7])
			flush(w)
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, whole[from:])
	}))
	defer server.Close()
	plain, ok := server.Client().Transport.(*http.Transport)
	if !ok {
		t.Fatal("not an http.Transport")
	}
	for name, base := range bases(plain) {
		transport := httpretry.NewTransport(base, httpretry.Options{Policy: quick(), OnResume: func(httpretry.Resumption) {}})
		cuts.Store(0)
		if _, body, err := (row{}).do(t, server.URL, transport); body != text || err != nil {
			t.Errorf("%s: %q, %v", name, body, err)
		}
		cuts.Store(2)
		requests.Store(0)
		if _, body, err := (row{}).do(t, server.URL, transport); body != text || err != nil || requests.Load() != 3 {
			t.Errorf("%s: %q, %v after %d requests; want the whole after 3", name, body, err, requests.Load())
		}
	}
}
