package redisstore_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/redisstore"
)

// An error about Options names the field, its value and what is allowed, and shows no
// password.
func TestBadOptions(t *testing.T) {
	for _, c := range []struct {
		o    redisstore.Options
		want []string
	}{
		{redisstore.Options{}, []string{"url", `""`, "redis://host:port"}},
		{redisstore.Options{Addresses: []string{"h"}}, []string{"addresses", `"h"`, "host:port"}},
		{redisstore.Options{Addresses: []string{"h:1", "h:0"}}, []string{"addresses", `"h:0"`, "1 to 65535"}},
		{redisstore.Options{Addresses: []string{"user:hunter2@h:1"}}, []string{"addresses", "@h:1", "host:port"}},
		{redisstore.Options{Addresses: []string{"h:1"}, DB: -1}, []string{"db", "-1", "at least 0"}},
		{redisstore.Options{Addresses: []string{"h:1"}, Username: "me"}, []string{"username", `"me"`, "with a password"}},
		{redisstore.Options{Addresses: []string{"h:1"}, SentinelPassword: "hunter2"}, []string{"sentinel_username", "with a master_set"}},
		{redisstore.Options{URL: "redis://h", Addresses: []string{"h:1"}}, []string{"addresses", "must be absent with a url"}},
		{redisstore.Options{URL: "redis://h", Username: "me"}, []string{"username", "must be absent with a url"}},
		{redisstore.Options{URL: "redis://h", Password: "hunter2"}, []string{"password", "must be absent with a url"}},
		{redisstore.Options{URL: "redis://h", DB: 1}, []string{"db", "must be absent with a url"}},
		{redisstore.Options{URL: "redis://h", MasterSet: "main"}, []string{"master_set", "must be absent with a url"}},
		{redisstore.Options{URL: "redis://h", SentinelUsername: "me"}, []string{"sentinel_username", "must be absent with a url"}},
		{redisstore.Options{URL: "redis://h", SentinelPassword: "hunter2"}, []string{"sentinel_password", "must be absent with a url"}},
		{redisstore.Options{URL: "unix:///run/redis.sock", TLS: &tls.Config{MinVersion: tls.VersionTLS12}}, []string{"tls", "socket"}},
		{redisstore.Options{URL: "http://user:hunter2@h"}, []string{"url", "http://", "redis://"}},
		{redisstore.Options{URL: "localhost:6379"}, []string{"url", "localhost:6379", "redis://"}},
		{redisstore.Options{URL: "redis://"}, []string{"url", "redis://"}},
		{redisstore.Options{URL: "redis://user:hunter2@h:port"}, []string{"url", "port"}},
		{redisstore.Options{URL: "redis://user:hunter2@h:99999"}, []string{"url", "a port from 1 to 65535"}},
		{redisstore.Options{URL: "redis://h:1?addr=user:hunter2@h"}, []string{"url option", "addr", "host:port"}},
		{redisstore.Options{URL: "redis://h:1?addr=hunter2@h:1"}, []string{"url option", "addr", "host:port"}},
		{redisstore.Options{URL: "redis:user:hunter2@h"}, []string{"url", "redis://"}},
		{redisstore.Options{URL: "redis:/user:hunter2@h"}, []string{"url", "redis://"}},
		{redisstore.Options{URL: "redis://user:hunter2@h/zero"}, []string{"url", "database"}},
		{redisstore.Options{URL: "redis://user:hunter2@h/1/2"}, []string{"url"}},
		{redisstore.Options{URL: "redis://user:hunter2@h?dial_timeout=soon"}, []string{"url"}},
		{redisstore.Options{URL: "redis://user:hunter2@h?master_sett=x"}, []string{"url option", "master_sett", "did you mean master_set?"}},
		{redisstore.Options{URL: "unix://"}, []string{"url", "unix:///run/redis.sock"}},
		{redisstore.Options{URL: "unix:///"}, []string{"url", "unix:///run/redis.sock"}},
		{redisstore.Options{URL: "unix://user:hunter2@run/redis.sock"}, []string{"url", "after three slashes"}},
		{redisstore.Options{URL: "unix:///run/redis.sock?db=zero"}, []string{"url", "database"}},
		{redisstore.Options{URL: "unix:///run/redis.sock?addr=h:1"}, []string{"url option", "addr", "client_name, db"}},
		{redisstore.Options{URL: "redis://h", Quorum: -1}, []string{"quorum", "-1", "at least 1"}},
		{redisstore.Options{URL: "redis://h", Sync: -1}, []string{"sync", "-1ns", "at least 10ms"}},
		{redisstore.Options{URL: "redis://h", Stale: time.Second}, []string{"stale", "1s", "more than sync (2s)"}},
	} {
		s, err := redisstore.Open(c.o)
		if err == nil {
			s.Close()
			t.Errorf("Open(%+v) is allowed", c.o)
			continue
		}
		if e := (*circuit.ConfigError)(nil); !errors.As(err, &e) {
			t.Errorf("Open(%+v): %T, want a ConfigError", c.o, err)
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("Open(%+v): %q says nothing of %q", c.o, err, want)
			}
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error shows the password: %v", err)
		}
	}
}

// A store connected to the server's socket shares breakers with one connected to its port.
func TestSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "redis.sock")
	srv := startServer(t, "--unixsocket", path, "--requirepass", "swordfish")
	c := circuit.Config{FailureThreshold: 1, RecoveryTimeout: time.Minute}
	near := fleet(t, 1, redisstore.Options{URL: "unix://:swordfish@" + path + "?db=3", Quorum: 1}, c)[0]
	far := fleet(t, 1, redisstore.Options{URL: "redis://:swordfish@" + srv.addr() + "/3", Quorum: 1}, c)[0]
	fail(t, near.Breaker)
	eventually(t, func() bool { return far.State() == circuit.Open }, "a trip through the socket arrives through the port")
	seen, err := redisstore.Inspect(t.Context(), redisstore.Options{URL: "unix://:swordfish@" + path + "?db=3"}, []string{"backend"})
	if err != nil || seen["backend"].State != circuit.Open {
		t.Errorf("Inspect through the socket: %v, %v; want it open", seen, err)
	}
}

// A wrong password for the server does not affect the breaker.
func TestWrongPassword(t *testing.T) {
	srv := startServer(t, "--requirepass", "swordfish")
	s := open(t, redisstore.Options{URL: "redis://:hunter2@" + srv.addr(), Sync: 100 * time.Millisecond})
	b := circuit.New("backend", circuit.Config{Store: s, FailureThreshold: 1, RecoveryTimeout: 10 * time.Millisecond, Observe: func(context.Context, circuit.Transition) {}})
	eventually(t, func() bool { return s.Err() != nil }, "noticed")
	if text := s.Err().Error(); !strings.Contains(text, "WRONGPASS") || strings.Contains(text, "hunter2") {
		t.Errorf("the error is %q", text)
	}
	fail(t, b)
	awaitProbe(t, b).Success()

	good := fleet(t, 1, redisstore.Options{URL: "redis://:swordfish@" + srv.addr()}, circuit.Config{})
	if err := good[0].Err(); err != nil {
		t.Errorf("with the right password: %v", err)
	}
}

// A user with access to the keys and not to the channel gets changes by reading.
func TestNoChannel(t *testing.T) {
	srv := startServer(t, "--user", "poor", "on", ">poverty", "~circuit_breaker:*", "resetchannels", "+@all")
	o := steady(srv)
	o.URL = "redis://poor:poverty@" + srv.addr()
	f := fleet(t, 2, o, circuit.Config{FailureThreshold: 1})
	fail(t, f[0].Breaker)
	eventually(t, func() bool { return f[1].State() == circuit.Open }, "the other opens")
}

// The user of the server needs no commands but those in the package's doc.
func TestLeastUser(t *testing.T) {
	srv := startServer(t, "--user", "lean", "on", ">leanness", "~circuit_breaker:*", "resetchannels", "&circuit_breaker:*", "-@all",
		"+eval", "+evalsha", "+hgetall", "+hset", "+hdel", "+pexpire", "+time", "+publish", "+subscribe", "+ping", "+hello")
	f := fleet(t, 2, redisstore.Options{URL: "redis://lean:leanness@" + srv.addr(), Sync: time.Second, Quorum: 1},
		circuit.Config{FailureThreshold: 1, RecoveryTimeout: 20 * time.Millisecond, Budget: 10})
	opens(t, f[0])
	eventually(t, func() bool { return f[1].State() != circuit.Closed }, "the other opens, by push")
	awaitProbe(t, f[1].Breaker).Success()
	f[0].Isolate()
	eventually(t, func() bool { return f[1].State() == circuit.Isolated }, "the other is isolated")
	seen, err := redisstore.Inspect(t.Context(), redisstore.Options{URL: "redis://lean:leanness@" + srv.addr()}, []string{"backend", "unknown"})
	if err != nil || len(seen) != 1 || seen["backend"].State != circuit.Isolated {
		t.Errorf("a look sees %v; %v", seen, err)
	}
	for _, name := range commandsRun(t, srv.client()) {
		if !slices.Contains(needed, name) {
			t.Errorf("the server has run %q, which is none of %v", name, needed)
		}
	}
}

// needed holds the commands in the package's doc, which all exist in Redis 6.2, and those
// that clients try and that may be refused.
var needed = []string{
	"eval", "evalsha", "hgetall", "hset", "hdel", "pexpire", "time", "publish", "subscribe", "ping", "hello",
	"client", "cluster", "info",
}

// commandsRun returns the names of all commands that the server has run.
func commandsRun(t *testing.T, c rueidis.Client) (names []string) {
	t.Helper()
	text, err := c.Do(t.Context(), c.B().Info().Section("commandstats").Build()).ToString()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(line, "cmdstat_"); ok {
			name, _, _ = strings.Cut(name, ":")
			name, _, _ = strings.Cut(name, "|")
			names = append(names, name)
		}
	}
	if len(names) < 8 {
		t.Fatalf("the server says that it has run %v alone", names)
	}
	return names
}

// A key of another type does not affect other keys.
func TestForeignKey(t *testing.T) {
	srv := startServer(t)
	c := srv.client()
	if err := c.Do(t.Context(), c.B().Set().Key("circuit_breaker:taken").Value("x").Build()).Error(); err != nil {
		t.Fatal(err)
	}
	f := fleet(t, 2, brisk(srv), circuit.Config{FailureThreshold: 1})
	b := circuit.New("taken", circuit.Config{Store: f[0].Store, FailureThreshold: 1, Observe: func(context.Context, circuit.Transition) {}})
	fail(t, b)
	fail(t, f[0].Breaker)
	eventually(t, func() bool { return f[1].State() == circuit.Open }, "the other opens")
	if b.State() != circuit.Open {
		t.Errorf("the breaker without a key is %v", b.State())
	}
}

// TLS, with a certificate that is trusted and one that is not.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certify(t, cert, key)
	port := strconv.Itoa(freePort(t))
	startServer(t, "--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-auth-clients", "no")
	url := "rediss://127.0.0.1:" + port
	fleet(t, 2, redisstore.Options{URL: url + "?skip_verify=true"}, circuit.Config{})
	s := open(t, redisstore.Options{URL: url})
	eventually(t, func() bool { return s.Err() != nil && strings.Contains(s.Err().Error(), "certificate") },
		"an untrusted certificate is refused")
}

// Fields configure what a URL does, and what it cannot: trusted roots. Stores with fields
// and stores with a URL share breakers.
func TestAddresses(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certify(t, cert, key)
	text, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	port := strconv.Itoa(freePort(t))
	srv := startServer(t, "--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-auth-clients", "no",
		"--user", "me", "on", ">swordfish", "~*", "&*", "+@all")
	trusted := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	c := circuit.Config{FailureThreshold: 1, RecoveryTimeout: time.Minute}
	plain := redisstore.Options{Addresses: []string{srv.addr()}, Username: "me", Password: "swordfish", DB: 3, Quorum: 1}
	secured := plain
	secured.Addresses, secured.TLS = []string{"127.0.0.1:" + port}, trusted
	first := fleet(t, 1, plain, c)[0]
	others := []member{
		fleet(t, 1, secured, c)[0],
		fleet(t, 1, redisstore.Options{URL: "redis://me:swordfish@127.0.0.1:" + port + "/3", TLS: trusted, Quorum: 1}, c)[0],
		fleet(t, 1, redisstore.Options{URL: "redis://me:swordfish@" + srv.addr() + "/3", Quorum: 1}, c)[0],
	}
	fail(t, first.Breaker)
	for i, m := range others {
		eventually(t, func() bool { return m.State() == circuit.Open }, "the other %d opens", i)
	}
	untrusting := secured
	untrusting.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	s := open(t, untrusting)
	eventually(t, func() bool { return s.Err() != nil && strings.Contains(s.Err().Error(), "certificate") },
		"an untrusted certificate is refused")
}

// Printed or logged in any way, Options show no password.
func TestOptionsShowNoPassword(t *testing.T) {
	for _, o := range []redisstore.Options{
		{URL: "redis://me:hunter2-hunter2@h/1"},
		{Addresses: []string{"me:hunter2-hunter2@h:1", "h:2"}, Username: "me", Password: "hunter2-hunter2", SentinelPassword: "hunter2-hunter2"},
	} {
		var text bytes.Buffer
		fmt.Fprintf(&text, "%v %+v %#v %s %q %v %+v\n", o, o, o, o, o, &o, []redisstore.Options{o})
		for _, h := range []slog.Handler{slog.NewTextHandler(&text, nil), slog.NewJSONHandler(&text, nil)} {
			slog.New(h).Info("options", "o", o, "p", &o)
		}
		if s := text.String(); strings.Contains(s, "hunter2") || strings.Count(s, "h:")+strings.Count(s, "@h") < 10 {
			t.Errorf("printed: %s", s)
		}
	}
}

// certify writes a self-signed certificate for 127.0.0.1.
func certify(t *testing.T, cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		cert: {Type: "CERTIFICATE", Bytes: der},
		key:  {Type: "PRIVATE KEY", Bytes: secret},
	} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
