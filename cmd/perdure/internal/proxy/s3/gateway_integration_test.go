//go:build integration

package s3_test

import (
	"net/http"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/versitygwtest"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// A server of another project accepts each aws-chunked form as the proxy signs it again, with its trailer.
func TestGatewayAcceptsStreams(t *testing.T) {
	g := versitygwtest.Start(t, "us-east-1", bucket)
	store := s3test.Start(t, s3test.Options{Upstream: g.URL, AccessKey: g.Access, SecretKey: g.Secret, Script: s3test.Rules(s3test.Rule{Nth: []int{1}, Fault: s3test.SlowDown()})})
	endpoint := serve(t, store, key, "127.0.0.1:0")
	for name, s := range map[string]sent{
		"signed":           {payload: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", decoded: 6, chunks: signedChunks([]string{"abc", "def"}, "", nil)},
		"signed trailer":   {payload: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", trailer: crcTrailer, decoded: 6, chunks: signedChunks([]string{"abc", "def"}, crcOf("abcdef"), nil)},
		"unsigned trailer": {payload: "STREAMING-UNSIGNED-PAYLOAD-TRAILER", trailer: crcTrailer, decoded: 6, body: "6\r\nabcdef\r\n0\r\nx-amz-checksum-crc32:" + crcOf("abcdef") + "\r\n\r\n"},
	} {
		res, text := send(t, http.DefaultClient, s.request(t, endpoint))
		got, err := get(t, client(t, endpoint, key), "k")
		if res.StatusCode != http.StatusOK || err != nil || string(got) != "abcdef" {
			t.Errorf("%s: status %d, %q, %v: %s", name, res.StatusCode, got, err, text)
		}
	}
}

// So is the key that reaches a server of another project.
func TestGatewayKeysAreTheClients(t *testing.T) {
	g := versitygwtest.Start(t, "us-east-1", bucket)
	comparePaths(t, &s3test.Server{URL: g.URL, AccessKey: g.Access, SecretKey: g.Secret})
}
