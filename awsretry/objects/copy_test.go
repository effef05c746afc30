package objects_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/smithy-go"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/s3test"
)

func TestCopyIsTheSame(t *testing.T) {
	server := start(t, script(
		s3test.Rule{Operation: "CopyObject", Nth: []int{1}, Fault: s3test.ErrorIn200()},
		s3test.Rule{Operation: "CopyObject", Nth: []int{2}, Fault: s3test.LostAnswer()},
		s3test.Rule{Operation: "UploadPartCopy", Nth: []int{1}, Fault: s3test.SlowDown()},
		s3test.Rule{Operation: "CompleteMultipartUpload", Nth: []int{1}, Fault: s3test.LostAnswer()}))
	store := open(t, server, objects.Options{PartSize: 20 * mib})
	body := content(1, 12*mib)
	from := objects.Address{Bucket: bucket, Key: "a b/ü+%.csv"}
	if _, err := store.Put(t.Context(), bucket, from.Key, bytes.NewReader(body), objects.PutOptions{Metadata: map[string]string{"step": "raw"}}); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"whole", "parts"} {
		copied, err := store.Copy(t.Context(), from, objects.Address{Bucket: bucket, Key: key})
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		stored(t, server, key, body)
		if copied.Verified == "" || copied.Size != int64(len(body)) || copied.Metadata["step"] != "raw" {
			t.Errorf("%s: %+v, want it verified, with size and metadata", key, copied)
		}
		store.SetCopyLimit(5 * mib)
	}
	if _, err := store.Copy(t.Context(), objects.Address{Bucket: bucket, Key: "none"}, from); err == nil || !strings.Contains(err.Error(), "s3://bikes/none") {
		t.Errorf("a copy of what is not there: %v, want an error that names it", err)
	}
	stored(t, server, from.Key, body)
}

func TestDeleteAllTellsOfEachKey(t *testing.T) {
	server := start(t, script(s3test.Rule{Operation: "DeleteObjects", Nth: []int{1, 2}, Fault: s3test.InternalError()}))
	store := open(t, server, objects.Options{})
	var keys []string
	for i := range 1500 {
		keys = append(keys, fmt.Sprintf("k%04d", i))
		if i%2 == 0 {
			if err := server.Store(bucket, keys[i], nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	var told []string
	for key, err := range store.DeleteAll(t.Context(), bucket, slices.Values(keys)) {
		told = append(told, key)
		if err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
	if !slices.Equal(told, keys) || len(server.Keys(bucket)) > 0 {
		t.Errorf("told of %d keys, %d are left, want %d, none", len(told), len(server.Keys(bucket)), len(keys))
	}
	if got := server.Count("POST", ""); got != 4 {
		t.Errorf("1,500 keys, with two failures: %d requests, want 4", got)
	}
}

// A store that refuses some keys of a batch: some for a while, one for ever.
func TestDeleteAllRepeatsWhatMayPass(t *testing.T) {
	var requests []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body bytes.Buffer
		_, _ = body.ReadFrom(r.Body)
		requests = append(requests, body.String())
		fmt.Fprint(w, "<DeleteResult>")
		for key, code := range map[string]string{"busy": "SlowDown", "locked": "AccessDenied", "gone": "NoSuchKey"} {
			if strings.Contains(body.String(), key) && (code != "SlowDown" || len(requests) < 3) {
				fmt.Fprintf(w, "<Error><Key>%s</Key><Code>%s</Code></Error>", key, code)
			}
		}
		fmt.Fprint(w, "</DeleteResult>")
	}))
	defer server.Close()
	store, err := objects.New(aws.Config{
		Region: "eu-central-1", BaseEndpoint: &server.URL,
		Credentials: credentials.NewStaticCredentialsProvider("access", "secret", ""),
	}, objects.Options{Policy: quick()})
	if err != nil {
		t.Fatal(err)
	}
	for key, err := range store.DeleteAll(t.Context(), bucket, slices.Values([]string{"fine", "busy", "locked", "gone"})) {
		coded, ok := errors.AsType[interface {
			error
			ErrorCode() string
		}](err)
		if locked := key == "locked"; ok != locked || locked && coded.ErrorCode() != "AccessDenied" || !locked && err != nil {
			t.Errorf("%s: %v, want an error, AccessDenied, for locked alone", key, err)
		}
	}
	if len(requests) != 3 || strings.Contains(requests[1], "locked") || strings.Contains(requests[2], "fine") {
		t.Errorf("requests %q, want three, the later ones for what was busy", requests)
	}
}

// A store behind a proxy that does not pass the length on.
func TestObjectOfUnknownLength(t *testing.T) {
	body := content(1, mib)
	requests := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests++
		w.Header().Set("ETag", `"1"`)
		_, _ = w.Write(body[:mib/2])
		_ = http.NewResponseController(w).Flush()
		if requests == 2 {
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write(body[mib/2:])
	}))
	defer server.Close()
	store, err := objects.New(aws.Config{
		Region: "eu-central-1", BaseEndpoint: &server.URL,
		Credentials: credentials.NewStaticCredentialsProvider("access", "secret", ""),
	}, objects.Options{Policy: quick()})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	object, err := store.Get(t.Context(), bucket, "k", &out, objects.GetOptions{})
	if err != nil || !bytes.Equal(out.Bytes(), body) || object.Size != mib {
		t.Errorf("%d bytes, %v, size %d, want all %d", out.Len(), err, object.Size, mib)
	}
	if _, err := store.Get(t.Context(), bucket, "k", &out, objects.GetOptions{}); err == nil {
		t.Error("cut, and nobody knows at which length: no error")
	}
}

// S3 answers so to a request for a bucket of another region.
func TestRedirectIsTheStoresError(t *testing.T) {
	requests := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests++
		w.WriteHeader(http.StatusMovedPermanently)
		fmt.Fprint(w, "<Error><Code>PermanentRedirect</Code><Message>Use another endpoint.</Message></Error>")
	}))
	defer server.Close()
	store, err := objects.New(aws.Config{
		Region: "eu-central-1", BaseEndpoint: &server.URL,
		Credentials: credentials.NewStaticCredentialsProvider("access", "secret", ""),
	}, objects.Options{Policy: quick()})
	if err != nil {
		t.Fatal(err)
	}
	_, err = store.Put(t.Context(), bucket, "k", strings.NewReader("x"), objects.PutOptions{})
	if api, ok := errors.AsType[smithy.APIError](err); !ok || api.ErrorCode() != "PermanentRedirect" || requests != 1 {
		t.Errorf("%d requests, %v, want 1, PermanentRedirect", requests, err)
	}
}

func TestDeleteAllWhenNothingWorks(t *testing.T) {
	server := start(t, script(s3test.Rule{Fault: s3test.AccessDenied()}))
	store := open(t, server, objects.Options{})
	for key, err := range store.DeleteAll(t.Context(), bucket, slices.Values([]string{"a", "b"})) {
		if api, ok := errors.AsType[smithy.APIError](err); !ok || api.ErrorCode() != "AccessDenied" {
			t.Errorf("%s: %v, want AccessDenied", key, err)
		}
		if errors.As(err, new(*retry.Error)) {
			t.Errorf("%s: %v, want the SDK's own error", key, err)
		}
	}
	if got := server.Count("", ""); got != 1 {
		t.Errorf("%d requests, want 1", got)
	}
}

// On TLS a body is not signed: it is read once less. On plain HTTP it is.
func TestBodiesOverTLSAndWithout(t *testing.T) {
	pair := httptest.NewUnstartedServer(nil)
	pair.StartTLS()
	defer pair.Close()
	for name, o := range map[string]s3test.Options{"https": {TLS: &tls.Config{Certificates: pair.TLS.Certificates}}, "http": {}} {
		server := start(t, o)
		server.Script(s3test.Rules(s3test.Rule{Operation: "UploadPart", Nth: []int{1}, Fault: s3test.Reset()}))
		cfg := configFor(server)
		roots := x509.NewCertPool()
		roots.AddCert(pair.Certificate())
		cfg.HTTPClient = awshttp.NewBuildableClient().WithTransportOptions(func(tr *http.Transport) {
			tr.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
		})
		store, err := objects.New(cfg, objects.Options{Policy: quick(), PartSize: 5 * mib})
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{1000, 11 * mib} {
			body := content(1, size)
			if _, err := store.Put(t.Context(), bucket, "k", bytes.NewReader(body), objects.PutOptions{}); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			stored(t, server, "k", body)
			var out bytes.Buffer
			if _, err := store.Get(t.Context(), bucket, "k", &out, objects.GetOptions{}); err != nil || !bytes.Equal(out.Bytes(), body) {
				t.Errorf("%s: %d bytes, %v, want %d", name, out.Len(), err, size)
			}
		}
		for _, r := range server.Requests() {
			unsigned := r.Header.Get("X-Amz-Content-Sha256") == "UNSIGNED-PAYLOAD"
			if r.Method == http.MethodPut && unsigned != (name == "https") {
				t.Errorf("%s: a body with X-Amz-Content-Sha256: %s", name, r.Header.Get("X-Amz-Content-Sha256"))
			}
			if r.Header.Get("Expect") != "" {
				t.Errorf("%s: %s asks for leave to send", name, r.Operation)
			}
		}
	}
}
