package objects_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
	"github.com/seed-0f2c7998/perdure/s3test"
)

func attributes() objects.Attributes {
	return objects.Attributes{
		ContentType: "text/csv; charset=utf-8", ContentEncoding: "gzip", ContentLanguage: "de", ContentDisposition: `attachment; filename="a.csv"`,
		CacheControl: "max-age=60", Metadata: map[string]string{"step": "raw"}, Tags: map[string]string{"team": "bikes + co = 100 / 2", "a+b": ""},
	}
}

// same reports the attributes that differ.
func same(t *testing.T, what string, got, want objects.Attributes) {
	t.Helper()
	got.StorageClass, want.StorageClass = "", "" // which the server does not keep
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

// Attributes are stored by each kind of put and copy, and returned by each kind of read.
func TestAttributesGoAlong(t *testing.T) {
	server := start(t, s3test.Options{})
	store := open(t, server, objects.Options{PartSize: 5 * mib})
	want := attributes()
	for _, size := range []int{1000, 11 * mib} {
		name, body := fmt.Sprint(size), content(1, size)
		if _, err := store.Put(t.Context(), bucket, "k", bytes.NewReader(body), objects.PutOptions{Attributes: want}); err != nil {
			t.Fatal(err)
		}
		attributesOf(t, store, name, "k", want)
		if _, err := store.Copy(t.Context(), objects.Address{Bucket: bucket, Key: "k"}, objects.Address{Bucket: bucket, Key: "copy"}); err != nil {
			t.Fatal(err)
		}
		attributesOf(t, store, name+", copied", "copy", want)
	}
	store.SetCopyLimit(5 * mib)
	copied, err := store.Copy(t.Context(), objects.Address{Bucket: bucket, Key: "k"}, objects.Address{Bucket: bucket, Key: "copy in parts"})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "of the copy in parts itself", copied.Attributes, want)
	attributesOf(t, store, "copied in parts", "copy in parts", want)
}

// attributesOf checks the attributes that each kind of read returns.
func attributesOf(t *testing.T, store *objects.Store, what, key string, want objects.Attributes) {
	t.Helper()
	got, err := store.Get(t.Context(), bucket, key, io.Discard, objects.GetOptions{Tags: true})
	if err != nil {
		t.Fatal(err)
	}
	same(t, what+", by Get", got.Attributes, want)
	g := getterOf(store, bucket, key, objects.GetOptions{Tags: true})
	if _, err := into(t.Context(), t.TempDir(), g, transfer.Options{}); err != nil {
		t.Fatal(err)
	}
	same(t, what+", by a Getter", g.Object().Attributes, want)
	stat, err := store.Stat(t.Context(), bucket, key)
	if err != nil {
		t.Fatal(err)
	}
	want.Tags = nil
	same(t, what+", by Stat", stat.Attributes, want)
}

// A copy has the storage class of its original, unless that exists only in special buckets.
func TestStorageClassGoesAlong(t *testing.T) {
	server := start(t, s3test.Options{})
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", strings.TrimPrefix(server.URL, "http://")
		},
		ModifyResponse: func(r *http.Response) error {
			r.Header.Set("X-Amz-Storage-Class", "STANDARD_IA")
			return nil
		},
	})
	t.Cleanup(proxy.Close)
	cfg := configFor(server)
	cfg.BaseEndpoint = &proxy.URL
	store, err := objects.New(cfg, objects.Options{Policy: quick(), PartSize: 5 * mib})
	if err != nil {
		t.Fatal(err)
	}
	put := objects.PutOptions{Attributes: objects.Attributes{StorageClass: "STANDARD_IA"}}
	for _, size := range []int{1000, 6 * mib} {
		if _, err := store.Put(t.Context(), bucket, "k", bytes.NewReader(content(1, size)), put); err != nil {
			t.Fatal(err)
		}
	}
	copied := func() {
		if _, err := store.Copy(t.Context(), objects.Address{Bucket: bucket, Key: "k"}, objects.Address{Bucket: bucket, Key: "c"}); err != nil {
			t.Fatal(err)
		}
	}
	copied()
	store.SetCopyLimit(5 * mib)
	copied()
	for _, operation := range []string{"PutObject", "CreateMultipartUpload", "CopyObject"} {
		for _, class := range asked(server, operation, func(r s3test.Request) string { return r.Header.Get("X-Amz-Storage-Class") }) {
			if class != "STANDARD_IA" {
				t.Errorf("%s for the storage class %q, want STANDARD_IA", operation, class)
			}
		}
	}
	if got, err := store.Stat(t.Context(), bucket, "k"); err != nil || got.StorageClass != "STANDARD_IA" {
		t.Errorf("Stat: %q, %v, want STANDARD_IA", got.StorageClass, err)
	}
}

// Tags that may not be read are not an error. They are requested only if the object has any and the caller wants
// them.
func TestTagsThatMayNotBeRead(t *testing.T) {
	server := start(t, s3test.Options{})
	store := open(t, server, objects.Options{PartSize: 5 * mib})
	body := content(1, 6*mib)
	for key, tags := range map[string]map[string]string{"tagged": {"a": "b"}, "bare": nil} {
		put := objects.PutOptions{Attributes: objects.Attributes{Tags: tags}}
		if _, err := store.Put(t.Context(), bucket, key, bytes.NewReader(body), put); err != nil {
			t.Fatal(err)
		}
	}
	server.SetScript(s3test.Rules(s3test.Rule{Operation: "GetObjectTagging", Fault: s3test.AccessDenied()}))
	for _, c := range []struct {
		key      string
		tags     bool
		requests int
	}{{"tagged", true, 1}, {"tagged", false, 0}, {"bare", true, 0}} {
		server.Reset()
		got, err := store.Get(t.Context(), bucket, c.key, io.Discard, objects.GetOptions{Tags: c.tags})
		requests := len(asked(server, "GetObjectTagging", func(s3test.Request) string { return "" }))
		if err != nil || got.Tags != nil || (got.TagsError != nil) != (c.requests > 0) || requests != c.requests {
			t.Errorf("%+v: %v, tags %v (%v) by %d requests", c, err, got.Tags, got.TagsError, requests)
		}
	}
	store.SetCopyLimit(5 * mib)
	copied, err := store.Copy(t.Context(), objects.Address{Bucket: bucket, Key: "tagged"}, objects.Address{Bucket: bucket, Key: "copy"})
	if err != nil || copied.TagsError == nil {
		t.Errorf("a copy in parts: %v, TagsError %v; want none, and one", err, copied.TagsError)
	}
}

// aws-chunked describes one request, and is not an attribute of the object.
func TestChunkedIsNoAttribute(t *testing.T) {
	server := start(t, s3test.Options{})
	store := open(t, server, objects.Options{})
	for sent, want := range map[string]string{
		"aws-chunked": "", "aws-chunked,gzip": "gzip", "gzip, aws-chunked": "gzip", "AWS-Chunked": "", "gzip": "gzip", "br,gzip": "br,gzip",
	} {
		body := []byte("x")
		if err := server.Store(bucket, "k", body); err != nil {
			t.Fatal(err)
		}
		// As other clients leave it.
		if _, err := store.Client().PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: aws.String(bucket), Key: aws.String("k"), Body: bytes.NewReader(body), ContentEncoding: aws.String(sent),
		}); err != nil {
			t.Fatal(err)
		}
		got, err := store.Get(t.Context(), bucket, "k", io.Discard, objects.GetOptions{})
		if err != nil || got.ContentEncoding != want {
			t.Errorf("%q is read as %q, %v; want %q", sent, got.ContentEncoding, err, want)
		}
		put := objects.PutOptions{Attributes: objects.Attributes{ContentEncoding: sent}}
		if _, err := store.Put(t.Context(), bucket, "own", bytes.NewReader(body), put); err != nil {
			t.Fatal(err)
		}
		header := asked(server, "PutObject", func(r s3test.Request) string { return r.Header.Get("Content-Encoding") })
		if last := header[len(header)-1]; last != want {
			t.Errorf("%q is put as %q, want %q", sent, last, want)
		}
	}
}

// A response without an ETag is not an object.
func TestPageIsNoObject(t *testing.T) {
	store := handMade(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Amz-Request-Id", "1")
		fmt.Fprint(w, "<html>welcome</html>")
	})
	var out bytes.Buffer
	_, err := store.Get(t.Context(), bucket, "k", &out, objects.GetOptions{})
	_, stat := store.Stat(t.Context(), bucket, "k")
	_, file := store.GetFile(t.Context(), bucket, "k", t.TempDir()+"/k", objects.GetOptions{})
	for name, err := range map[string]error{"Get": err, "Stat": stat, "GetFile": file} {
		if err == nil || !strings.Contains(err.Error(), "no ETag") {
			t.Errorf("%s of a page: %v, want an error that it has no ETag", name, err)
		}
	}
	if out.Len() > 0 {
		t.Errorf("%q was written", out.String())
	}
}
