// Package versitygwtest runs versitygw, an S3 server of another project, in a process of its own, for tests and
// measurements.
package versitygwtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/servertest"
)

// Variable is the environment variable with the path of the binary.
const Variable = "PERDURE_TEST_VERSITYGW"

// A Gateway is a running server. Make one with [New] or [Start].
type Gateway struct {
	URL, Access, Secret string
	Data                string // a directory with a directory for each bucket and a file for each object

	root   string
	cmd    *exec.Cmd
	ended  chan struct{} // closed when the process has ended
	output bytes.Buffer  // of the process; read it only when it has ended
}

// New starts the binary with these buckets, and returns when it listens. The server stores its data in a directory of
// its own below dir, which Close removes.
func New(ctx context.Context, binary, dir, region string, buckets ...string) (*Gateway, error) {
	root, err := os.MkdirTemp(dir, "versitygw-")
	if err != nil {
		return nil, err
	}
	g := &Gateway{
		Access: "access", Secret: "a-secret-of-no-one", Data: filepath.Join(root, "data"),
		root: root, ended: make(chan struct{}),
	}
	if err := g.start(ctx, binary, region, buckets); err != nil {
		g.Close()
		return nil, fmt.Errorf("versitygw: %w: %s", err, g.output.String())
	}
	return g, nil
}

func (g *Gateway) start(ctx context.Context, binary, region string, buckets []string) error {
	meta := filepath.Join(g.root, "meta")
	err := errors.Join(os.Mkdir(g.Data, 0o755), os.Mkdir(meta, 0o755))
	for _, bucket := range buckets {
		err = errors.Join(err, os.Mkdir(filepath.Join(g.Data, bucket), 0o755))
	}
	port, failed := servertest.FreePort()
	if err = errors.Join(err, failed); err != nil {
		return err
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	g.URL = "http://" + address
	cmd := exec.CommandContext(context.WithoutCancel(ctx), binary, "--port", address, "--region", region,
		"--access", g.Access, "--secret", g.Secret, "--keep-alive", "--quiet", "posix", "--sidecar", meta, g.Data)
	cmd.Stdout, cmd.Stderr = &g.output, &g.output
	if err := cmd.Start(); err != nil {
		return err
	}
	g.cmd = cmd
	go func() {
		defer close(g.ended)
		_ = cmd.Wait() // Close kills the process
	}()
	return servertest.Await(ctx, address, g.ended)
}

// Close stops the server and removes its data.
func (g *Gateway) Close() {
	if g.cmd != nil {
		_ = g.cmd.Process.Kill()
		<-g.ended
	}
	_ = os.RemoveAll(g.root)
}

// Start is New for a test, and closes the server when the test ends. It skips the test if the environment does not
// name the binary.
func Start(tb testing.TB, region string, buckets ...string) *Gateway {
	tb.Helper()
	binary := os.Getenv(Variable)
	if binary == "" {
		tb.Skipf("%s does not name the versitygw binary (`make integration` installs it)", Variable)
	}
	g, err := New(tb.Context(), binary, tb.TempDir(), region, buckets...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		g.Close()
		if tb.Failed() {
			tb.Logf("versitygw: %s", g.output.String())
		}
	})
	return g
}
