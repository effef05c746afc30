package objects_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"iter"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/s3test"
)

const (
	bucket = "bikes"
	region = "eu-central-1"
	mib    = 1 << 20
)

// quick is a policy with short waits.
func quick() *retry.Policy {
	return &retry.Policy{
		Name: "transfer", MaxAttempts: 10, BaseDelay: time.Millisecond, MaxDelay: 5 * time.Millisecond,
		Jitter: retry.NoJitter, Observe: func(context.Context, retry.Event) {},
	}
}

func start(t *testing.T, o s3test.Options) *s3test.Server {
	t.Helper()
	o.Buckets = append(o.Buckets, bucket)
	return s3test.Start(t, o)
}

func configFor(server *s3test.Server) aws.Config {
	return aws.Config{
		Region: region, BaseEndpoint: aws.String(server.URL),
		Credentials: credentials.NewStaticCredentialsProvider(server.AccessKey, server.SecretKey, ""),
	}
}

func open(t *testing.T, server *s3test.Server, o objects.Options) *objects.Store {
	t.Helper()
	if o.Policy == nil {
		o.Policy = quick()
	}
	store, err := objects.New(configFor(server), o)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// handMade returns a Store for a server with that handler.
func handMade(t *testing.T, serve http.HandlerFunc) *objects.Store {
	t.Helper()
	server := httptest.NewServer(serve)
	t.Cleanup(server.Close)
	store, err := objects.New(aws.Config{
		Region: region, BaseEndpoint: &server.URL,
		Credentials: credentials.NewStaticCredentialsProvider("access", "secret", ""),
	}, objects.Options{Policy: quick(), PartSize: 5 * mib})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// overTLS returns the configuration of a TLS server, and a client that trusts it.
func overTLS(t *testing.T) (*tls.Config, aws.HTTPClient) {
	t.Helper()
	pair := httptest.NewUnstartedServer(nil)
	pair.StartTLS()
	t.Cleanup(pair.Close)
	roots := x509.NewCertPool()
	roots.AddCert(pair.Certificate())
	return &tls.Config{Certificates: pair.TLS.Certificates, MinVersion: tls.VersionTLS12},
		awshttp.NewBuildableClient().WithTransportOptions(func(tr *http.Transport) {
			tr.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
		})
}

// content returns n pseudorandom bytes.
func content(seed uint64, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}

func script(rules ...s3test.Rule) s3test.Options {
	return s3test.Options{Script: s3test.Rules(rules...)}
}

// stored fails the test unless the server has exactly these bytes, and no unfinished upload.
func stored(t *testing.T, server *s3test.Server, key string, want []byte) {
	t.Helper()
	got, ok := server.Object(bucket, key)
	if !ok || !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes stored (found: %v), want the %d that were sent", key, len(got), ok, len(want))
	}
	if left := server.Uploads(); len(left) > 0 {
		t.Errorf("%s: unfinished uploads are left: %v", key, left)
	}
}

// A stream hides all methods of a reader but Read.
type stream struct{ io.Reader }

func collect(seq iter.Seq2[objects.Object, error]) (keys []string, err error) {
	for o, err := range seq {
		if err != nil {
			return keys, err
		}
		keys = append(keys, o.Key)
	}
	return keys, nil
}
