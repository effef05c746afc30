//go:build unix

package main

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/pem"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/s3test"
)

// With --sse-c-key each request about an object has the key, there, back and from
// object to object, and nothing that is written has it. Without one none does.
func TestCopyWithACustomerKey(t *testing.T) {
	pair := httptest.NewUnstartedServer(nil)
	pair.StartTLS()
	defer pair.Close()
	server := s3test.Start(t, s3test.Options{Buckets: []string{"bikes"}, TLS: &tls.Config{Certificates: pair.TLS.Certificates, MinVersion: tls.VersionTLS12}})
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key := []byte("0123456789abcdef0123456789ABCDEF")
	encoded := base64.StdEncoding.EncodeToString(key)
	raw, text := write("raw.key", key), write("text.key", []byte(encoded+"\n"))
	body := bytes.Repeat([]byte("0123456789\n"), 1<<20) // in parts
	hour := write("hour.csv", body)
	for name, value := range map[string]string{
		"AWS_CA_BUNDLE": write("ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate().Raw})),
		"HOME":          dir, "AWS_EC2_METADATA_DISABLED": "true", "AWS_ENDPOINT_URL": server.URL,
		"AWS_ACCESS_KEY_ID": server.AccessKey, "AWS_SECRET_ACCESS_KEY": server.SecretKey,
		"PERDURE_STATE": filepath.Join(dir, "state"), "PERDURE_BASE_DELAY": "0.002",
	} {
		t.Setenv(name, value)
	}
	var log bytes.Buffer
	run := func(code int, args ...string) {
		t.Helper()
		output, err := os.Create(filepath.Join(dir, "log"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = output.Close() }()
		a := &app{stdin: os.Stdin, stdout: output, stderr: output, environ: os.Environ()}
		got := a.main(t.Context(), append([]string{"copy", "--log-level", "debug"}, args...))
		said, _ := os.ReadFile(output.Name())
		if log.Write(said); got != code {
			t.Fatalf("copy %v: exit code %d, want %d\n%s", args, got, code, said)
		}
	}

	run(0, "--sse-c-key", raw, hour, "s3://bikes/hour.csv")
	run(0, "--sse-c-key", text, "s3://bikes/hour.csv", filepath.Join(dir, "back.csv"))
	run(0, "--sse-c-key", text, "s3://bikes/hour.csv", "s3://bikes/again.csv")
	pipe := newVersions(t, filepath.Join(dir, "fifo"), encoded, "no key")
	run(0, "--sse-c-key", pipe.path, "s3://bikes/hour.csv", "s3://bikes/again.csv")
	if got := pipe.end(); got != 1 {
		t.Errorf("the key was read %d times, want once for both sides", got)
	}
	if err := os.MkdirAll(filepath.Join(dir, "tree", "2024"), 0o700); err != nil {
		t.Fatal(err)
	}
	write("tree/2024/day.csv", []byte("day"))
	run(0, "--sse-c-key", raw, "-r", filepath.Join(dir, "tree"), "s3://bikes/tree")
	run(0, "--sse-c-key", raw, "-r", "s3://bikes/tree", filepath.Join(dir, "tree-back"))
	if back, err := os.ReadFile(filepath.Join(dir, "back.csv")); err != nil || !bytes.Equal(back, body) {
		t.Errorf("back came %d other bytes, %v, want %d", len(back), err, len(body))
	}
	for _, r := range server.Requests() {
		if got := r.Header.Get("X-Amz-Server-Side-Encryption-Customer-Key"); (got == encoded) != (r.Operation != "ListObjectsV2") {
			t.Errorf("%s %s has the key %q", r.Operation, r.Path, got)
		}
	}

	// What leaves a state behind, and what fails.
	server.SetScript(s3test.Rules(s3test.Rule{Operation: "CompleteMultipartUpload", Fault: s3test.InternalError()}))
	run(69, "--sse-c-key", raw, hour, "s3://bikes/kept.csv")
	server.Reset()
	short := write("short.key", key[1:])
	for _, wrong := range []string{short, "", filepath.Join(dir, "none.key"), dir, os.DevNull, "/dev/zero"} {
		run(64, "--sse-c-key", wrong, hour, "s3://bikes/hour.csv")
	}
	run(64, "--sse-c-key", raw, hour, filepath.Join(dir, "local.csv"))
	run(64, "--sse-c-key", raw, hour, "s3://bikes/hour.csv", "--endpoint-url", "http://127.0.0.1:1")
	if n := len(server.Requests()); n > 0 {
		t.Errorf("what is wrong was sent in %d requests", n)
	}
	secrets := []string{string(key), string(key[1:]), encoded}
	if log.Len() == 0 || containsAny(log.String(), secrets) {
		t.Errorf("the log has the key:\n%s", log.String())
	}
	states := 0
	_ = filepath.WalkDir(filepath.Join(dir, "state"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			states++
			if content, err := os.ReadFile(path); err != nil || containsAny(string(content), secrets) {
				t.Errorf("%s has the key (%v)", path, err)
			}
		}
		return nil
	})
	if states < 2 {
		t.Errorf("there are %d state files, want those of a host and of an upload", states)
	}
}

func containsAny(text string, parts []string) bool {
	for _, part := range parts {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}
