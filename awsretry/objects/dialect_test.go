package objects_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// dialect returns a Store for a server whose responses have no checksums, and whose
// bodies are changed by speak.
func dialect(t *testing.T, server *s3test.Server, speak func([]byte) []byte) *objects.Store {
	t.Helper()
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", strings.TrimPrefix(server.URL, "http://")
		},
		ModifyResponse: func(r *http.Response) error {
			for name := range r.Header {
				if strings.HasPrefix(name, "X-Amz-Checksum-") {
					r.Header.Del(name)
				}
			}
			body, err := io.ReadAll(r.Body)
			err = errors.Join(err, r.Body.Close())
			body = speak(body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			if r.Request.Method != http.MethodHead {
				r.ContentLength = int64(len(body))
				r.Header.Set("Content-Length", strconv.Itoa(len(body)))
			}
			return err
		},
	})
	t.Cleanup(proxy.Close)
	cfg := configFor(server)
	cfg.BaseEndpoint = aws.String(proxy.URL)
	store, err := objects.New(cfg, objects.Options{Policy: quick(), PartSize: 5 * mib, Parallel: 1})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// Some stores omit the quotes of an ETag.
func TestETagWithoutQuotesIsTheSame(t *testing.T) {
	server := start(t, s3test.Options{})
	store := dialect(t, server, func(body []byte) []byte {
		return bytes.ReplaceAll(body, []byte("&#34;"), nil)
	})
	body, state := content(1, 11*mib), filepath.Join(t.TempDir(), "state")
	server.SetScript(s3test.Rules(s3test.Rule{Operation: "CompleteMultipartUpload", Fault: s3test.AccessDenied()}))
	if _, err := store.Put(t.Context(), bucket, "k", bytes.NewReader(body), objects.PutOptions{State: state}); err == nil {
		t.Fatal("what is refused has no error")
	}
	server.SetScript(nil)
	server.Reset()
	if _, err := store.Put(t.Context(), bucket, "k", bytes.NewReader(body), objects.PutOptions{State: state}); err != nil {
		t.Error(err)
	}
	stored(t, server, "k", body)
	if got := sentParts(server); len(got) > 0 {
		t.Errorf("parts %q were sent again, want none", got)
	}
}

// A part without a confirmed checksum in one process has none in the next.
func TestResumedPutClaimsNoMoreThanItKnows(t *testing.T) {
	var whole atomic.Bool
	store := handMade(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("ETag", `"opaque"`)
		switch {
		case r.URL.Query().Has("uploadId") && r.Method == http.MethodPost && !whole.Load():
			w.WriteHeader(http.StatusForbidden)
		case r.Method == http.MethodHead:
			w.Header().Set("Content-Length", strconv.Itoa(6*mib))
		case r.Method == http.MethodGet:
			const part = `<Part><PartNumber>%d</PartNumber><ETag>"opaque"</ETag><Size>%d</Size></Part>`
			fmt.Fprintf(w, `<Result>`+part+part+`</Result>`, 1, 5*mib, 2, mib)
		case r.Method == http.MethodPost:
			fmt.Fprint(w, `<Result><UploadId>1</UploadId></Result>`)
		}
	})
	body, o := content(1, 6*mib), objects.PutOptions{State: filepath.Join(t.TempDir(), "state")}
	resumed := int64(0)
	o.Resumed = func(r objects.Resumption) { resumed = r.Bytes }
	if _, err := store.Put(t.Context(), bucket, "k", bytes.NewReader(body), o); err == nil {
		t.Fatal("what is refused has no error")
	}
	whole.Store(true)
	put, err := store.Put(t.Context(), bucket, "k", bytes.NewReader(body), o)
	if err != nil || resumed != 6*mib || put.Verified != "size" {
		t.Errorf("%v, %d bytes were there, verified by %q, want all, and the size alone", err, resumed, put.Verified)
	}
}

// If the bucket encrypts objects, an ETag that looks like an MD5 may not be one.
func TestETagOfAnEncryptedObjectIsNoChecksum(t *testing.T) {
	for _, size := range []int{1000, 6 * mib} {
		store := handMade(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("X-Amz-Server-Side-Encryption", "aws:kms")
			w.Header().Set("ETag", `"0123456789abcdef0123456789abcdef"`)
			if r.Method == http.MethodHead {
				w.Header().Set("Content-Length", strconv.Itoa(size))
			}
			if r.Method == http.MethodPost {
				fmt.Fprint(w, `<Result><UploadId>1</UploadId></Result>`)
			}
		})
		put, err := store.Put(t.Context(), bucket, "k", bytes.NewReader(content(1, size)), objects.PutOptions{})
		if err != nil || put.Verified != "size" {
			t.Errorf("%d bytes: %v, verified by %q, want the size alone", size, err, put.Verified)
		}
	}
}
