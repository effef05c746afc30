package objects_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/seed-0f2c7998/perdure/awsretry"
	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// listing responds to a listing with pages of these keys; next returns the token of the next page.
func listing(pages map[string][]string, next func(token string) string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token := r.URL.Query().Get("continuation-token")
		fmt.Fprint(w, "<ListBucketResult><EncodingType>url</EncodingType>")
		for _, key := range pages[token] {
			fmt.Fprintf(w, "<Contents><Key>%s</Key><Size>1</Size></Contents>", url.QueryEscape(key))
		}
		if token = next(token); token != "" {
			fmt.Fprintf(w, "<IsTruncated>true</IsTruncated><NextContinuationToken>%s</NextContinuationToken>", token)
		}
		fmt.Fprint(w, "</ListBucketResult>")
	}
}

// An endless listing ends with an error.
func TestListingWithoutAnEnd(t *testing.T) {
	for name, next := range map[string]func(string) string{
		"the same token":   func(string) string { return "t" },
		"a loop":           func(token string) string { return map[string]string{"": "a", "a": "b", "b": "c", "c": "a"}[token] },
		"always new pages": func(token string) string { return token + "x" },
	} {
		requests := 0
		serve := listing(nil, next)
		store := handMade(t, func(w http.ResponseWriter, r *http.Request) {
			if requests++; requests > 30 {
				w.WriteHeader(http.StatusForbidden) // it would be asked for ever
				return
			}
			serve(w, r)
		})
		store.SetMaxPages(20)
		_, err := collect(store.List(t.Context(), bucket, "p/"))
		if !errors.Is(err, objects.ErrListing) || requests > 20 {
			t.Errorf("%s: %v after %d requests, want ErrListing after at most 20", name, err, requests)
		}
	}
}

// Keys outside the requested prefix are neither copied nor aborted.
func TestKeysThatWereNotAskedFor(t *testing.T) {
	aborted := false
	store := handMade(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodDelete:
			aborted = true
			w.WriteHeader(http.StatusNoContent)
		case r.URL.Query().Has("uploads"):
			fmt.Fprint(w, "<ListMultipartUploadsResult><Upload><Key>q/a</Key><UploadId>u</UploadId><Initiated>2020-01-01T00:00:00Z</Initiated></Upload></ListMultipartUploadsResult>")
		default:
			listing(map[string][]string{"": {"q/a"}}, func(string) string { return "" })(w, r)
		}
	})
	keys, err := collect(store.List(t.Context(), bucket, "p/"))
	if !errors.Is(err, objects.ErrListing) || len(keys) > 0 || !strings.Contains(err.Error(), `the key "q/a" does not begin with "p/"`) {
		t.Errorf("List: %q, %v", keys, err)
	}
	if n, err := store.AbortUploads(t.Context(), bucket, "p/", time.Hour); n != 0 || aborted || !errors.Is(err, objects.ErrListing) {
		t.Errorf("AbortUploads: %d, %v; the upload of another prefix was aborted: %v", n, err, aborted)
	}
}

func TestKeyListedTwiceIsOne(t *testing.T) {
	pages := map[string][]string{"": {"a", "b", "a"}, "2": {"b", "c"}, "3": {"c", "c", "d"}}
	next := map[string]string{"": "2", "2": "3"}
	got, err := collect(handMadeList(t, pages, next).List(t.Context(), bucket, ""))
	if want := []string{"a", "b", "c", "d"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
}

// A key that cannot be decoded is an error of its own: the others are listed.
func TestKeyThatCannotBeDecoded(t *testing.T) {
	store := handMade(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "<ListBucketResult><EncodingType>url</EncodingType>")
		for _, key := range []string{"p%2Fa", "p%2Fb%zz%20c%", "p%2Fd+e"} {
			fmt.Fprintf(w, "<Contents><Key>%s</Key><Size>1</Size></Contents>", key)
		}
		fmt.Fprint(w, "</ListBucketResult>")
	})
	var got []string
	for o, err := range store.List(t.Context(), bucket, "p/") {
		if wrong := o.Key == "p/b%zz c%"; wrong != (err != nil) || err != nil && !strings.Contains(err.Error(), "invalid URL escape") {
			t.Errorf("%q: %v", o.Key, err)
		}
		got = append(got, o.Key)
	}
	if strings.Join(got, "|") != "p/a|p/b%zz c%|p/d e" {
		t.Errorf("%q", got)
	}
}

func handMadeList(t *testing.T, pages map[string][]string, next map[string]string) *objects.Store {
	t.Helper()
	return handMade(t, listing(pages, func(token string) string { return next[token] }))
}

// oddKeys cannot be written in XML, or become other keys in it.
var oddKeys = []string{"a\x01b", "tab\tkey", "line\nkey", "cr\rkey", "del\x7f", "c1\u0085", "\ufffe", "\x1b[31mred", "100%", "a+b c", "ä/<&>"}

// The store of s3test writes XML as others do: without encoding-type, one such key makes a page unreadable.
func TestOddKeysAreListedAndDeleted(t *testing.T) {
	server := start(t, s3test.Options{})
	store := open(t, server, objects.Options{})
	for _, key := range oddKeys {
		if err := server.Store(bucket, key, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	want := slices.Sorted(slices.Values(oddKeys))
	got, err := collect(store.List(t.Context(), bucket, ""))
	if slices.Sort(got); err != nil || !slices.Equal(got, want) {
		t.Errorf("List: %q, %v, want %q", got, err, want)
	}
	for key, err := range store.DeleteAll(t.Context(), bucket, slices.Values(want)) {
		if err != nil {
			t.Errorf("%q: %v", key, err)
		}
	}
	if left := server.Keys(bucket); len(left) > 0 {
		t.Errorf("%q are left", left)
	}
}

// One upload that cannot be aborted, and keys that XML cannot carry, do not stop the rest.
func TestAbortUploadsSkipsAnUpload(t *testing.T) {
	var aborted []string
	keys := append([]string{"locked"}, oddKeys...)
	store := handMade(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			key := strings.TrimPrefix(r.URL.Path, "/"+bucket+"/")
			if key == "locked" {
				w.WriteHeader(http.StatusForbidden)
				fmt.Fprint(w, "<Error><Code>AccessDenied</Code><Message>no</Message></Error>")
				return
			}
			aborted = append(aborted, key)
			w.WriteHeader(http.StatusNoContent)
			return
		}
		first := 0
		if marker := r.URL.Query().Get("key-marker"); marker != "" {
			first = slices.Index(keys, marker) + 1
		}
		write := func(key string) string {
			if r.URL.Query().Get("encoding-type") == "url" {
				return url.QueryEscape(key)
			}
			return key
		}
		fmt.Fprint(w, "<ListMultipartUploadsResult>")
		if r.URL.Query().Get("encoding-type") == "url" {
			fmt.Fprint(w, "<EncodingType>url</EncodingType>")
		}
		fmt.Fprintf(w, "<Upload><Key>%s</Key><UploadId>u</UploadId><Initiated>2020-01-01T00:00:00Z</Initiated></Upload>", write(keys[first]))
		if first < len(keys)-1 {
			fmt.Fprintf(w, "<IsTruncated>true</IsTruncated><NextKeyMarker>%s</NextKeyMarker><NextUploadIdMarker>u</NextUploadIdMarker>", write(keys[first]))
		}
		fmt.Fprint(w, "</ListMultipartUploadsResult>")
	})
	n, err := store.AbortUploads(t.Context(), bucket, "", time.Hour)
	skipped, ok := errors.AsType[*objects.UncleanError](err)
	if n != len(oddKeys) || !slices.Equal(aborted, oddKeys) || !ok || skipped.Count != 1 || skipped.Uploads[0].Key != "locked" {
		t.Errorf("%d, %q aborted, %v, want all but locked", n, aborted, err)
	}
	if text := fmt.Sprint(err); strings.Contains(text, "\n") || !strings.HasPrefix(text, "1 unfinished upload was skipped: abort s3://bikes/locked: ") {
		t.Errorf("%q", text)
	}
}

// An error that all uploads would have ends AbortUploads.
func TestCleanStopsWhenTheStoreFails(t *testing.T) {
	requests := 0
	store := handMade(t, func(w http.ResponseWriter, r *http.Request) {
		requests++
		if r.Method == http.MethodDelete {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, "<ListMultipartUploadsResult>"+strings.Repeat("<Upload><Key>k</Key><UploadId>u</UploadId></Upload>", 100)+"</ListMultipartUploadsResult>")
	})
	if n, err := store.AbortUploads(t.Context(), bucket, "", time.Hour); n != 0 || err == nil || requests > 1+quick().Attempts() {
		t.Errorf("%d, %v after %d requests, want an error after one upload's", n, err, requests)
	}
}

// The page of another web server is neither an empty listing nor an object.
func TestStoreThatIsNone(t *testing.T) {
	requests := 0
	store := handMade(t, func(w http.ResponseWriter, _ *http.Request) {
		requests++
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, "<!doctype html><html><body>Welcome</body></html>")
	})
	_, list := collect(store.List(t.Context(), bucket, ""))
	_, stat := store.Stat(t.Context(), bucket, "k")
	_, get := store.Get(t.Context(), bucket, "k", io.Discard, objects.GetOptions{})
	_, put := store.Put(t.Context(), bucket, "k", strings.NewReader("x"), objects.PutOptions{})
	_, large := store.Put(t.Context(), bucket, "k", strings.NewReader(strings.Repeat("x", 11*mib)), objects.PutOptions{})
	_, clean := store.AbortUploads(t.Context(), bucket, "", time.Hour)
	for i, err := range []error{list, stat, get, put, large, clean} {
		if !errors.As(err, new(*awsretry.NotS3Error)) || !strings.HasSuffix(err.Error(), " is not an S3 store: it responded with text/html") {
			t.Errorf("%d: %v", i, err)
		}
	}
	if requests != 6 {
		t.Errorf("%d requests, want one for each", requests)
	}
}

func TestObjectsOfImpossibleSizes(t *testing.T) {
	for _, size := range []string{"4611686018427387904", "9223372036854775807", "70368744177664"} {
		store := handMade(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"v1"`)
			w.Header().Set("Content-Length", size)
			if r.Method != http.MethodHead {
				w.WriteHeader(http.StatusOK)
				panic(http.ErrAbortHandler)
			}
		})
		if o, err := store.Stat(t.Context(), bucket, "k"); (size == "70368744177664") != (err == nil) {
			t.Errorf("Stat of %s bytes: %d, %v", size, o.Size, err)
		}
		if _, err := store.Get(t.Context(), bucket, "k", io.Discard, objects.GetOptions{}); err == nil {
			t.Errorf("Get of %s bytes: no error", size)
		}
		if _, err := store.GetFile(t.Context(), bucket, "k", filepath.Join(t.TempDir(), "f"), objects.GetOptions{}); err == nil {
			t.Errorf("GetFile of %s bytes: no error", size)
		}
	}
}

// The store of s3test ignores encoding-type here; it writes some such keys unencoded and others as U+FFFD, which
// cannot be recovered.
func TestCleanOfOddKeys(t *testing.T) {
	server := start(t, s3test.Options{})
	store := open(t, server, objects.Options{})
	for _, key := range oddKeys {
		if _, err := store.Client().CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: aws.String(bucket), Key: &key}); err != nil {
			t.Fatal(err)
		}
	}
	n, err := store.AbortUploads(t.Context(), bucket, "", 0)
	skipped, ok := errors.AsType[*objects.UncleanError](err)
	left := server.Uploads()
	if !ok || len(left) != 2 || skipped.Count != len(left) || n != len(oddKeys)-len(left) {
		t.Errorf("%d, %v, %q are left, want all but two that the store cannot name", n, err, left)
	}
}
