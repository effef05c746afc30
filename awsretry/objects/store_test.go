package objects_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/s3test"
)

func TestErrorsThatWillNotPassAreOneRequest(t *testing.T) {
	server := start(t, s3test.Options{})
	server.Deny("/bikes/secret/")
	store := open(t, server, objects.Options{})
	path := filepath.Join(t.TempDir(), "out.csv")

	_, err := store.GetFile(t.Context(), bucket, "absent", path, objects.GetOptions{})
	if _, ok := errors.AsType[*types.NoSuchKey](err); !ok || !strings.HasPrefix(err.Error(), "get s3://bikes/absent: ") {
		t.Errorf("an absent key: %v, want NoSuchKey, with the object's name first", err)
	}
	if left, _ := filepath.Glob(filepath.Dir(path) + "/*"); len(left) > 0 {
		t.Errorf("an absent key left %q", left)
	}
	if left, _ := filepath.Glob(filepath.Dir(path) + "/.*.part"); len(left) > 0 {
		t.Errorf("an absent key left %q", left)
	}
	_, err = store.Put(t.Context(), bucket, "secret/k", strings.NewReader("x"), objects.PutOptions{})
	if api, ok := errors.AsType[smithy.APIError](err); !ok || api.ErrorCode() != "AccessDenied" {
		t.Errorf("a forbidden key: %v, want AccessDenied", err)
	}
	_, err = store.Put(t.Context(), "nowhere", "k", strings.NewReader("x"), objects.PutOptions{})
	if api, ok := errors.AsType[smithy.APIError](err); !ok || api.ErrorCode() != "NoSuchBucket" {
		t.Errorf("an absent bucket: %v, want NoSuchBucket", err)
	}
	if got := server.Count("", ""); got != 3 {
		t.Errorf("%d requests for three errors that will not pass, want 3", got)
	}
	if strings.Contains(fmt.Sprint(err), server.SecretKey) {
		t.Errorf("%v shows the secret key", err)
	}
}

func TestOptionsOutOfRange(t *testing.T) {
	for _, test := range []struct {
		o    objects.Options
		want string
	}{
		{objects.Options{PartSize: 1000}, "PartSize"},
		{objects.Options{PartSize: 6 << 30}, "PartSize"},
		{objects.Options{Parallel: -1}, "Parallel"},
		{objects.Options{Stall: -1}, "Stall"},
		{objects.Options{MinRate: -1}, "MinRate"},
		{objects.Options{Policy: &retry.Policy{MaxAttempts: -7}}, "max_attempts"},
	} {
		_, err := objects.New(aws.Config{}, test.o)
		bad, ok := errors.AsType[*retry.ConfigError](err)
		if !ok || bad.Field != test.want {
			t.Errorf("New with %+v: %v, want a *retry.ConfigError about %s", test.o, err, test.want)
		}
	}
}

// S3 responds so to a request for a bucket of another region.
func TestRedirectIsTheStoresError(t *testing.T) {
	requests := 0
	store := handMade(t, func(w http.ResponseWriter, _ *http.Request) {
		requests++
		w.WriteHeader(http.StatusMovedPermanently)
		fmt.Fprint(w, "<Error><Code>PermanentRedirect</Code><Message>Use another endpoint.</Message></Error>")
	})
	_, err := store.Put(t.Context(), bucket, "k", strings.NewReader("x"), objects.PutOptions{})
	if api, ok := errors.AsType[smithy.APIError](err); !ok || api.ErrorCode() != "PermanentRedirect" || requests != 1 {
		t.Errorf("%d requests, %v, want 1, PermanentRedirect", requests, err)
	}
}

// Over TLS a body is not signed, and so is read one time less than over plain HTTP.
func TestBodiesOverTLSAndWithout(t *testing.T) {
	certificate, trusting := overTLS(t)
	for name, o := range map[string]s3test.Options{"https": {TLS: certificate}, "http": {}} {
		server := start(t, o)
		server.SetScript(s3test.Rules(s3test.Rule{Operation: "UploadPart", Nth: []int{1}, Fault: s3test.Reset()}))
		cfg := configFor(server)
		cfg.HTTPClient = trusting
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
