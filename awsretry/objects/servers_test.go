//go:build integration

package objects_test

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/seed-0f2c7998/perdure/s3test"
)

// bothServers runs f with the server in the process, and with versitygw behind
// one: with the faults of o, and with a record of the requests.
func bothServers(t *testing.T, o s3test.Options, f func(t *testing.T, server *s3test.Server)) {
	t.Helper()
	t.Run("in the process", func(t *testing.T) { f(t, start(t, o)) })
	t.Run("versitygw", func(t *testing.T) { f(t, startGateway(t).behind(t, o)) })
}

// A gateway is versitygw, an S3 server of others, in a process of its own.
type gateway struct {
	url            string
	access, secret string
	data           string // the directory of its buckets
}

func startGateway(t *testing.T) gateway {
	t.Helper()
	binary := os.Getenv("PERDURE_TEST_VERSITYGW")
	if binary == "" {
		t.Skip("PERDURE_TEST_VERSITYGW does not name the versitygw binary (`make integration` installs it)")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	root := t.TempDir()
	g := gateway{data: filepath.Join(root, "data"), url: "http://" + address, access: "access", secret: "a-secret-of-no-one"}
	cmd := exec.CommandContext(t.Context(), binary, "--port", address, "--region", region, "--access", g.access, "--secret", g.secret, "--keep-alive", "--quiet",
		"posix", "--sidecar", filepath.Join(root, "meta"), g.data)
	if err := errors.Join(os.Mkdir(g.data, 0o755), os.Mkdir(filepath.Join(root, "meta"), 0o755)); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("versitygw: %s", said.String())
		}
	})
	g.await(t, address)
	if _, err := g.client().CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(bucket)}); err != nil {
		t.Fatal(err)
	}
	return g
}

// await returns when the gateway listens.
func (g gateway) await(t *testing.T, address string) {
	t.Helper()
	for range 500 {
		if conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address); err == nil {
			_ = conn.Close()
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Fatal("versitygw does not listen")
}

func (g gateway) client() *s3.Client {
	return s3.NewFromConfig(aws.Config{
		Region: region, BaseEndpoint: &g.url, Credentials: credentials.NewStaticCredentialsProvider(g.access, g.secret, ""),
	}, func(o *s3.Options) { o.UsePathStyle = true })
}

// behind puts a server with faults before the gateway.
func (g gateway) behind(t *testing.T, o s3test.Options) *s3test.Server {
	t.Helper()
	o.Upstream, o.AccessKey, o.SecretKey = g.url, g.access, g.secret
	return s3test.Start(t, o)
}
