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

// A copy has the attributes that are given, in one request or in parts, and keeps the others. Metadata and tags are replaced
// whole.
func TestCopyWithAttributes(t *testing.T) {
	server := start(t, s3test.Options{})
	store := open(t, server, objects.Options{})
	from, original := objects.Address{Bucket: bucket, Key: "k"}, attributes()
	if _, err := store.Put(t.Context(), bucket, "k", bytes.NewReader(content(1, 6*mib)), objects.PutOptions{Attributes: original}); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*objects.Attributes){
		"nothing": func(*objects.Attributes) {},
		"type":    func(a *objects.Attributes) { a.ContentType = "application/json" },
		"headers": func(a *objects.Attributes) {
			a.ContentEncoding, a.ContentLanguage, a.ContentDisposition, a.CacheControl = "br", "en", "inline", "no-store"
		},
		"metadata": func(a *objects.Attributes) { a.Metadata = map[string]string{"run": "7"} },
		"tags":     func(a *objects.Attributes) { a.Tags = map[string]string{"cost": "a+b", "x": ""} },
		"all": func(a *objects.Attributes) {
			*a = objects.Attributes{ContentType: "a/b", ContentEncoding: "c", ContentLanguage: "d", ContentDisposition: "e", CacheControl: "f", Metadata: map[string]string{"g": "h"}, Tags: map[string]string{"i": "j"}, StorageClass: "STANDARD_IA"}
		},
	} {
		want, given := original, objects.Attributes{}
		change(&want)
		change(&given)
		for in, limit := range map[string]int64{"one request": 1 << 30, "parts": 5 * mib} {
			store.SetCopyLimit(limit)
			server.Reset()
			copied, err := store.CopyWith(t.Context(), from, objects.Address{Bucket: bucket, Key: "c"}, objects.CopyOptions{Attributes: given, ACL: "public-read"})
			if err != nil {
				t.Fatalf("%s in %s: %v", what, in, err)
			}
			attributesOf(t, store, what+" in "+in, "c", want)
			if in == "parts" || len(given.Tags) > 0 {
				same(t, what+" in "+in+", by the copy", copied.Attributes, want)
			}
			for _, operation := range []string{"CopyObject", "CreateMultipartUpload"} {
				for _, r := range asked(server, operation, func(r s3test.Request) string {
					return r.Header.Get("X-Amz-Acl") + " " + r.Header.Get("X-Amz-Storage-Class")
				}) {
					if r != "public-read "+given.StorageClass {
						t.Errorf("%s in %s: %s with ACL and storage class %q, want public-read and %q", what, in, operation, r, given.StorageClass)
					}
				}
			}
		}
	}
}

// An upload that was begun with other attributes is not resumed: the object has those of the last put. One with the same
// attributes is.
func TestPutWithOtherAttributesBeginsFromScratch(t *testing.T) {
	base := objects.PutOptions{Attributes: attributes()}
	for what, change := range map[string]func(*objects.PutOptions){
		"the same": func(*objects.PutOptions) {},
		"type":     func(o *objects.PutOptions) { o.ContentType = "application/json" },
		"metadata": func(o *objects.PutOptions) { o.Metadata = map[string]string{"step": "clean"} },
		"tags":     func(o *objects.PutOptions) { o.Tags = nil },
		"class":    func(o *objects.PutOptions) { o.StorageClass = "STANDARD_IA" },
		"ACL":      func(o *objects.PutOptions) { o.ACL = "public-read" },
		"few": func(o *objects.PutOptions) {
			o.Attributes = objects.Attributes{ContentType: "text/plain"}
		},
		"key": func(o *objects.PutOptions) { o.Encryption = "AES256" },
	} {
		server := start(t, s3test.Options{})
		body := content(1, 16*mib)
		store, path := brokenWith(t, server, body, base)
		o, reported := base, []objects.Resumption(nil)
		change(&o)
		o.State, o.Resumed = path, func(r objects.Resumption) { reported = append(reported, r) }
		if _, err := store.Put(t.Context(), bucket, "k", bytes.NewReader(body), o); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		stored(t, server, "k", body)
		attributesOf(t, store, what, "k", o.Attributes)
		resumed := len(reported) == 1 && reported[0].Bytes == 10*mib
		scratch := len(reported) == 1 && strings.Contains(reported[0].Reason, "other attributes") && len(sentParts(server)) == 4
		if what == "the same" && !resumed || what != "the same" && !scratch {
			t.Errorf("%s: reported %+v, sent parts %q", what, reported, sentParts(server))
		}
	}
}
