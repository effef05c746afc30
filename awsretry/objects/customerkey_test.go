package objects_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// A vault is a server over TLS that refuses, as S3 does, requests without the key in the right headers, and any
// others with it.
type vault struct {
	*s3test.Server

	plain, keyed *objects.Store
	key          []byte
}

const (
	keyHeader    = "X-Amz-Server-Side-Encryption-Customer-"
	sourceHeader = "X-Amz-Copy-Source-Server-Side-Encryption-Customer-"
)

// startVault starts a vault with the faults of rules.
func startVault(t *testing.T, rules ...s3test.Rule) *vault {
	t.Helper()
	v := &vault{key: content(7, 32)}
	certificate, trusting := overTLS(t)
	faults := s3test.Rules(rules...)
	v.Server = start(t, s3test.Options{TLS: certificate, Script: func(r s3test.Request) s3test.Fault {
		if !v.opens(r) {
			return s3test.Failure(http.StatusBadRequest, "InvalidRequest")
		}
		return faults(r)
	}})
	cfg := configFor(v.Server)
	cfg.HTTPClient = trusting
	var err error
	if v.plain, err = objects.New(cfg, objects.Options{Policy: quick(), PartSize: 5 * mib}); err == nil {
		v.keyed, err = v.plain.WithCustomerKey(v.key)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// opens reports whether a request has the key where it must, and nowhere else.
func (v *vault) opens(r s3test.Request) bool {
	object := slices.Contains([]string{
		"PutObject", "GetObject", "HeadObject", "CreateMultipartUpload", "UploadPart", "ListParts", "CompleteMultipartUpload",
	}, r.Operation)
	source := r.Operation == "CopyObject" || r.Operation == "UploadPartCopy"
	return v.has(r.Header, keyHeader) == (object || source) && v.has(r.Header, sourceHeader) == source &&
		(object || source || !strings.Contains(fmt.Sprint(r.Header), "Customer-Key"))
}

func (v *vault) has(h http.Header, prefix string) bool {
	digest := md5.Sum(v.key)
	return h.Get(prefix+"Algorithm") == "AES256" && h.Get(prefix+"Key") == base64.StdEncoding.EncodeToString(v.key) &&
		h.Get(prefix+"Key-Md5") == base64.StdEncoding.EncodeToString(digest[:])
}

// leaks fails the test if text contains the key or its MD5.
func (v *vault) leaks(t *testing.T, where, text string) {
	t.Helper()
	digest := md5.Sum(v.key)
	for _, secret := range [][]byte{v.key, digest[:]} {
		for _, form := range []string{string(secret), fmt.Sprintf("%x", secret), fmt.Sprintf("%d", secret), base64.StdEncoding.EncodeToString(secret)} {
			if strings.Contains(text, form) {
				t.Errorf("%s has the key, or its MD5: %q", where, text)
			}
		}
	}
}

// Each attempt of each request for an object has the key.
func TestCustomerKeyGoesWithEachRequest(t *testing.T) {
	v := startVault(t,
		s3test.Rule{Operation: "PutObject", Nth: []int{1}, Fault: s3test.SlowDown()},
		s3test.Rule{Operation: "UploadPart", Nth: []int{1}, Fault: s3test.Reset()},
		s3test.Rule{Operation: "CompleteMultipartUpload", Nth: []int{1}, Fault: s3test.LostResponse()},
		s3test.Rule{Operation: "GetObject", Nth: []int{1}, Fault: s3test.CutBody(mib / 2)},
		s3test.Rule{Operation: "CopyObject", Nth: []int{1}, Fault: s3test.InternalError()},
		s3test.Rule{Operation: "UploadPartCopy", Nth: []int{1}, Fault: s3test.SlowDown()})
	v.keyed.SetCopyLimit(5 * mib)
	for key, body := range map[string][]byte{"small": content(1, mib), "large": content(2, 33*mib)} {
		put, err := v.keyed.Put(t.Context(), bucket, key, bytes.NewReader(body), objects.PutOptions{})
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		if stat, err := v.keyed.Stat(t.Context(), bucket, key); err != nil || stat.ETag != put.ETag {
			t.Errorf("Stat, %s: %+v, %v, want ETag %s", key, stat, err, put.ETag)
		}
		if _, err := v.keyed.Copy(t.Context(), objects.Address{Bucket: bucket, Key: key}, objects.Address{Bucket: bucket, Key: key + "-copy"}); err != nil {
			t.Errorf("Copy, %s: %v", key, err)
		}
		for _, key := range []string{key, key + "-copy"} {
			path := filepath.Join(t.TempDir(), "back")
			if _, err := v.keyed.GetFile(t.Context(), bucket, key, path, objects.GetOptions{}); err != nil {
				t.Errorf("GetFile, %s: %v", key, err)
			}
			fetched(t, path, body)
			if err := v.keyed.Delete(t.Context(), bucket, key); err != nil {
				t.Errorf("Delete, %s: %v", key, err)
			}
		}
	}
	if _, err := collect(v.keyed.List(t.Context(), bucket, "")); err != nil {
		t.Error(err)
	}
	for _, operation := range []string{"UploadPartCopy", "CopyObject", "DeleteObject", "ListObjectsV2"} {
		if !slices.ContainsFunc(v.Requests(), func(r s3test.Request) bool { return r.Operation == operation }) {
			t.Errorf("no request was a %s", operation)
		}
	}
}

// An interrupted upload resumes with the key, and the state file does not
// have it. A Store of another key, or none, begins from scratch.
func TestCustomerKeyIsInNoStateFile(t *testing.T) {
	v := startVault(t)
	dir := t.TempDir()
	path, state, body := filepath.Join(dir, "src"), filepath.Join(dir, "state"), content(1, 22*mib)
	if err := os.WriteFile(path, body, 0o600); err != nil {
		t.Fatal(err)
	}
	o := objects.PutOptions{State: state}
	interrupt := func(what string, f func(context.Context, func(int64, int64)) error) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		err := f(ctx, func(done, _ int64) {
			if done > 9*mib {
				cancel()
			}
		})
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("%s, interrupted: %v", what, err)
		}
		text, err := os.ReadFile(state)
		if err != nil || !strings.Contains(string(text), "perdure-upload") {
			t.Fatalf("%s: the state is %q, %v", what, text, err)
		}
		v.leaks(t, "the state of a "+what, string(text))
	}
	put := func(ctx context.Context, progress func(int64, int64)) error {
		o := o
		o.Progress = progress
		_, err := v.keyed.PutFile(ctx, bucket, "k", path, o)
		return err
	}
	interrupt("put", put)
	v.Reset()
	if _, err := v.keyed.PutFile(t.Context(), bucket, "k", path, o); err != nil {
		t.Fatal(err)
	}
	// A part that was on its way when the first put was interrupted may get its response only now.
	if sent := slices.Compact(sentParts(v.Server)); len(sent) > 3 {
		t.Errorf("parts %q were sent, want those that are missing", sent)
	}
	stored(t, v.Server, "k", body)

	// A download's state is in the directory that it is written to.
	back := filepath.Join(t.TempDir(), "back")
	interrupted(t, v.keyed, "k", back, 9*mib)
	states, err := filepath.Glob(filepath.Join(filepath.Dir(back), ".perdure-*", "*.state"))
	if err != nil || len(states) != 1 {
		t.Fatalf("states %q, %v; want one", states, err)
	}
	text, err := os.ReadFile(states[0])
	if err != nil || len(text) == 0 {
		t.Fatalf("%q, %v; want the state", text, err)
	}
	v.leaks(t, "the state of a get", string(text))
	if _, err := v.keyed.GetFile(t.Context(), bucket, "k", back, objects.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	fetched(t, back, body)

	// Who has no key has the object made without one, and none of its parts.
	interrupt("put", put)
	v.SetScript(nil)
	v.Reset()
	if _, err := v.plain.PutFile(t.Context(), bucket, "k", path, o); err != nil {
		t.Fatal(err)
	}
	if sent := slices.Compact(sentParts(v.Server)); len(sent) != 5 {
		t.Errorf("without the key parts %q were sent, want all 5", sent)
	}
	stored(t, v.Server, "k", body)
}

// The error of a refused request does not contain the key.
func TestWrongCustomerKeyIsAnError(t *testing.T) {
	v := startVault(t)
	if _, err := v.keyed.Put(t.Context(), bucket, "k", strings.NewReader("x"), objects.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	other, err := v.plain.WithCustomerKey(content(8, 32))
	if err != nil {
		t.Fatal(err)
	}
	again, err := other.WithCustomerKey(v.key) // in the place of the other
	if err == nil {
		_, err = again.Get(t.Context(), bucket, "k", io.Discard, objects.GetOptions{})
	}
	if err != nil {
		t.Error(err)
	}
	for name, store := range map[string]*objects.Store{"another": other, "none": v.plain} {
		v.Reset()
		_, err := store.Get(t.Context(), bucket, "k", io.Discard, objects.GetOptions{})
		if err == nil || !strings.Contains(err.Error(), "InvalidRequest") || v.Count("GET", "/") != 1 {
			t.Errorf("with %s: %v after %d requests, want InvalidRequest after 1", name, err, v.Count("GET", "/"))
		}
		v.leaks(t, "an error", fmt.Sprintf("%v %+v %#v", err, err, err))
	}
	v.leaks(t, "the Store", fmt.Sprintf("%+v", v.keyed))
}

func TestCustomerKeyThatCannotBeUsed(t *testing.T) {
	v := startVault(t)
	server := start(t, s3test.Options{})
	for want, f := range map[string]func() error{
		"invalid value of 31 bytes for customer key: must be 32 bytes": func() error { _, err := v.plain.WithCustomerKey(v.key[1:]); return err },
		"invalid value of 0 bytes for customer key: must be 32 bytes":  func() error { _, err := v.plain.WithCustomerKey(nil); return err },
		"must be https": func() error {
			_, err := open(t, server, objects.Options{}).WithCustomerKey(v.key)
			return err
		},
		"must be none: the Store has a customer key": func() error {
			_, err := v.keyed.Put(t.Context(), bucket, "k", strings.NewReader("x"), objects.PutOptions{Encryption: types.ServerSideEncryptionAwsKms})
			return err
		},
	} {
		err := f()
		if _, ok := errors.AsType[*retry.ConfigError](err); !ok || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want a ConfigError: %q", err, want)
		}
		v.leaks(t, "an error", fmt.Sprint(err))
	}
	if n := len(v.Requests()) + len(server.Requests()); n > 0 {
		t.Errorf("%d requests were sent", n)
	}
}

// An ETag may look like an MD5 without being one.
func TestETagWithACustomerKeyIsNoChecksum(t *testing.T) {
	for _, size := range []int{1000, 6 * mib} {
		server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("ETag", `"0123456789abcdef0123456789abcdef"`)
			if r.Method == http.MethodHead {
				w.Header().Set("Content-Length", strconv.Itoa(size))
			}
			if r.Method == http.MethodPost {
				fmt.Fprint(w, `<Result><UploadId>1</UploadId></Result>`)
			}
		}))
		t.Cleanup(server.Close)
		store, err := objects.New(aws.Config{
			Region: region, BaseEndpoint: &server.URL, HTTPClient: server.Client(),
			Credentials: credentials.NewStaticCredentialsProvider("access", "secret", ""),
		}, objects.Options{Policy: quick(), PartSize: 5 * mib})
		if err == nil {
			store, err = store.WithCustomerKey(content(7, 32))
		}
		if err != nil {
			t.Fatal(err)
		}
		put, err := store.Put(t.Context(), bucket, "k", bytes.NewReader(content(1, size)), objects.PutOptions{})
		if err != nil || put.Verified != "size" {
			t.Errorf("%d bytes: %v, verified by %q, want the size alone", size, err, put.Verified)
		}
	}
}
