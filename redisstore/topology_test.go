//go:build integration

package redisstore_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/redisstore"
)

// agreeOver shows that two nodes share a breaker through that server.
func agreeOver(t *testing.T, url string) {
	t.Helper()
	f := fleet(t, 2, redisstore.Options{URL: url}, circuit.Config{FailureThreshold: 1, RecoveryTimeout: 20 * time.Millisecond})
	fail(t, f[0].Breaker, 1)
	fail(t, f[1].Breaker, 1)
	eventually(t, time.Second, func() bool { st, _ := f[0].Status("backend"); return st.State == circuit.Open }, "the fleet opens")
	awaitProbe(t, f[1].Breaker).Success()
	eventually(t, time.Second, func() bool { return f[0].State() == circuit.Closed }, "it closes")
}

// A cluster, of which any node may be named; keys are on all of its nodes.
func TestCluster(t *testing.T) {
	srv := startServer(t, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(freePort(t)))
	c := srv.client()
	if err := c.Do(t.Context(), c.B().Arbitrary("CLUSTER", "ADDSLOTSRANGE", "0", "16383").Build()).Error(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func() bool {
		text, err := c.Do(t.Context(), c.B().Arbitrary("CLUSTER", "INFO").Build()).ToString()
		return err == nil && strings.Contains(text, "cluster_state:ok")
	}, "the cluster works")
	agreeOver(t, srv.url()+"?addr="+srv.addr())
}

// A server, or something before it, that speaks the old protocol alone.
func TestOldProtocol(t *testing.T) { agreeOver(t, startServer(t).url()+"?protocol=2") }

// Sentinels say where the server is.
func TestSentinel(t *testing.T) {
	srv := startServer(t)
	port := strconv.Itoa(freePort(t))
	config := filepath.Join(t.TempDir(), "sentinel.conf")
	text := "bind 127.0.0.1\nport " + port + "\nsentinel monitor main 127.0.0.1 " + strconv.Itoa(srv.port) + " 1\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "redis-server", config, "--sentinel")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	agreeOver(t, "redis://127.0.0.1:"+port+"?master_set=main")
}
