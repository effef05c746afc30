package s3_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/proxy/s3"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// wireKeys are keys as clients may write them in a path.
var wireKeys = []string{
	"a/b", "c%2Fd", "e%2ff", "g//h", "i%2F/j", "k/", "l//", "m%2F", "n+o", "p%2Bq", "r%20s", "t%3Fu", "v%26w%3Dx", "y%252Fz", "a1%00b", "a2%FFb",
	"%C3%BC", "!'()*;:@&=$,~-._", "%21%27%28%29%2A%7E%2D", "a3/./b", "a4/../b", "a5/%2e%2e/b", "%2e", "%2E%2E/a6", "a7%5Cb", "a8%25", "a9%7cb", "%2Fb1", "/b2",
}

// escaped escapes all of a path but slashes, as clients sign a key.
func escaped(path string) string {
	return strings.NewReplacer("+", "%20", "%2F", "/", "%7E", "~").Replace(url.QueryEscape(path))
}

// exchangePath sends a request whose path is wire, signed as wire or, as most clients do, as the escaped path.
func exchangePath(t *testing.T, endpoint string, k s3.Key, method, wire string, asWire bool, body string) (int, string) {
	t.Helper()
	path, err := url.PathUnescape(wire)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, endpoint, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.URL.Path, req.URL.RawPath = path, wire
	if req.URL.EscapedPath() != wire {
		t.Fatalf("%s becomes %s", wire, req.URL.EscapedPath())
	}
	if !asWire {
		req.URL.RawPath = escaped(path)
	}
	req.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	if err := signer.SignHTTP(t.Context(), aws.Credentials{AccessKeyID: k.ID, SecretAccessKey: k.Secret}, req, "UNSIGNED-PAYLOAD", "s3", "us-east-1", time.Now()); err != nil {
		t.Fatal(err)
	}
	req.URL.RawPath = wire
	res, text := send(t, http.DefaultClient, req)
	return res.StatusCode, text
}

// comparePaths stores and gets each key, directly and through the proxy: one reads what the other has stored.
func comparePaths(t *testing.T, store *s3test.Server) {
	t.Helper()
	endpoint := serve(t, store, key, "127.0.0.1:0")
	own := s3.Key{ID: store.AccessKey, Secret: store.SecretKey}
	for _, wire := range wireKeys {
		path := "/bikes/" + wire
		for _, asWire := range []bool{false, true} {
			direct, _ := exchangePath(t, store.URL, own, http.MethodPut, path, false, "directly")
			got, text := exchangePath(t, endpoint, key, http.MethodGet, path, asWire, "")
			if direct == http.StatusOK && (got != http.StatusOK || text != "directly") {
				t.Errorf("GET %s, signed as it is: %t: status %d: %s", wire, asWire, got, text)
			}
			through, text := exchangePath(t, endpoint, key, http.MethodPut, path, asWire, "through")
			if through != direct {
				t.Errorf("PUT %s, signed as it is: %t: status %d, directly %d: %s", wire, asWire, through, direct, text)
			}
			want, text := exchangePath(t, store.URL, own, http.MethodGet, path, false, "")
			if want == http.StatusOK && text != "through" {
				t.Errorf("PUT %s, signed as it is: %t: the store has %q", wire, asWire, text)
			}
		}
	}
}

// The key that reaches the store is the client's, however the client escapes it.
func TestKeysAreTheClients(t *testing.T) {
	comparePaths(t, s3test.Start(t, s3test.Options{Buckets: []string{bucket}}))
}
