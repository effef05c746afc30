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
	"github.com/seed-0f2c7998/perdure/internal/storetest"
	"github.com/seed-0f2c7998/perdure/redisstore"
)

// agreeOver checks that two nodes share a breaker through that server.
func agreeOver(t *testing.T, url string) {
	t.Helper()
	f := fleet(t, 2, redisstore.Options{URL: url}, circuit.Config{FailureThreshold: 1, RecoveryTimeout: 20 * time.Millisecond})
	opens(t, f...)
	eventually(t, func() bool { // the probe may be this process's own, before it applies the fleet's state
		if p, err := f[1].Acquire(); err == nil {
			p.Success()
		}
		return f[0].State() == circuit.Closed
	}, "it closes")
}

// startCluster starts a cluster of three servers.
func startCluster(t *testing.T) (nodes []*server) {
	t.Helper()
	create := []string{"--cluster", "create"}
	for range 3 {
		srv := startServer(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-require-full-coverage", "no")
		nodes, create = append(nodes, srv), append(create, srv.addr())
	}
	out, err := exec.CommandContext(t.Context(), tool("cli"), append(create, "--cluster-yes")...).CombinedOutput()
	if err != nil {
		t.Fatalf("create a cluster: %v\n%s", err, out)
	}
	for _, srv := range nodes {
		c := srv.client()
		eventually(t, func() bool {
			text, err := c.Do(t.Context(), c.B().Arbitrary("CLUSTER", "INFO").Build()).ToString()
			return err == nil && strings.Contains(text, "cluster_state:ok") && strings.Contains(text, "cluster_size:3")
		}, "the cluster works")
	}
	return nodes
}

// tool returns the path of a program that is installed with the server.
func tool(name string) string {
	family, _, _ := strings.Cut(filepath.Base(redisstore.ServerBinary()), "-")
	return filepath.Join(filepath.Dir(redisstore.ServerBinary()), family+"-"+name)
}

// A cluster, by the address of any of its nodes, with keys on all of them. When one node
// dies, only the breakers with a key on that node are not shared.
func TestCluster(t *testing.T) {
	nodes := startCluster(t)
	url := nodes[0].url() + "?addr=" + nodes[1].addr()
	agreeOver(t, url)
	f := fleet(t, 2, redisstore.Options{URL: url, Quorum: 1}, circuit.Config{})
	var pairs [][2]*circuit.Breaker
	for i := range 12 {
		var pair [2]*circuit.Breaker
		for j := range pair {
			pair[j] = circuit.New("backend-"+strconv.Itoa(i), circuit.Config{Store: f[j].Store, Observe: func(context.Context, circuit.Transition) {}})
		}
		pairs = append(pairs, pair)
	}
	ready(t, f[0].Store)
	ready(t, f[1].Store)
	shared := func(enough int) (n int) {
		for _, p := range pairs {
			p[0].Isolate()
		}
		eventually(t, func() bool {
			n = 0
			for _, p := range pairs {
				if p[1].State() == circuit.Isolated {
					n++
				}
			}
			return n >= enough
		}, "%d of %d breakers are shared", enough, len(pairs))
		for _, p := range pairs {
			p[0].Reset()
			p[1].Reset()
		}
		return n
	}
	shared(len(pairs))
	for _, srv := range nodes {
		c := srv.client()
		n, err := c.Do(t.Context(), c.B().Dbsize().Build()).AsInt64()
		if t.Logf("%d keys on a node; %v", n, err); n == 0 {
			t.Error("a node has no key")
		}
	}
	nodes[2].kill()
	for _, srv := range nodes[:2] {
		c := srv.client()
		eventually(t, func() bool {
			text, err := c.Do(t.Context(), c.B().Arbitrary("CLUSTER", "INFO").Build()).ToString()
			return err == nil && !strings.Contains(text, "cluster_slots_fail:0")
		}, "the two other nodes report it as failed")
	}
	n := shared(4)
	if t.Logf("with one of three nodes dead, %d of %d breakers are shared", n, len(pairs)); n == len(pairs) {
		t.Errorf("with one of three nodes dead, %d of %d breakers are shared", n, len(pairs))
	}
}

// The contract of a store, with a cluster.
func TestClusterContract(t *testing.T) {
	nodes := startCluster(t)
	n := 0
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		t.Helper()
		for _, srv := range nodes {
			c := srv.client()
			if err := c.Do(t.Context(), c.B().Flushall().Build()).Error(); err != nil {
				t.Fatal(err)
			}
		}
		n++
		return storetest.Subject{Open: processes(nodes[n%len(nodes)].url())}
	})
}

// A server or proxy that supports only RESP2.
func TestOldProtocol(t *testing.T) { agreeOver(t, startServer(t).url()+"?protocol=2") }

// Sentinels lead to the server, also after a failover.
func TestSentinel(t *testing.T) {
	srv := startServer(t)
	replica := startServer(t, "--replicaof", "127.0.0.1", strconv.Itoa(srv.port))
	c := replica.client()
	eventually(t, func() bool {
		text, err := c.Do(t.Context(), c.B().Info().Section("replication").Build()).ToString()
		return err == nil && strings.Contains(text, "master_link_status:up")
	}, "the replica follows")
	port := strconv.Itoa(freePort(t))
	config := filepath.Join(t.TempDir(), "sentinel.conf")
	text := "bind 127.0.0.1\nport " + port + "\nsentinel monitor main 127.0.0.1 " + strconv.Itoa(srv.port) + " 1\n" +
		"sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 2000\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), redisstore.ServerBinary(), config, "--sentinel")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	url := "redis://127.0.0.1:" + port + "?master_set=main"
	agreeOver(t, url)
	f := fleet(t, 2, redisstore.Options{URL: url, Prefix: "failover:"}, circuit.Config{})
	f[0].Isolate()
	eventually(t, func() bool { return f[1].State() == circuit.Isolated }, "isolated")
	srv.kill()
	eventually(t, func() bool {
		role, err := c.Do(t.Context(), c.B().Role().Build()).ToArray()
		if err != nil || len(role) == 0 {
			return false
		}
		name, _ := role[0].ToString()
		return name == "master"
	}, "the replica takes over")
	f[1].Breaker.Reset()
	took := eventually(t, func() bool { return f[0].State() == circuit.Closed }, "they agree after the failover")
	t.Logf("they agree %v after the failover", took)
}
