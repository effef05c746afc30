//go:build unix

package main

import (
	"bytes"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/pipestest"
	"github.com/seed-0f2c7998/perdure/internal/secrettest"
)

// A secretRun is a command that has secrets, and how it ends.
type secretRun struct {
	name    string
	code    int
	args    []string
	environ []string
}

// secretRuns are commands with secrets in all places that can hold one.
func secretRuns(s *testServers, moved, keyFile string) []secretRun {
	signed := func(path string) string {
		return strings.Replace(s.web.URL, "://", "://user:"+secret+"@", 1) + path + "?X-Amz-Signature=" + secret + "&token=" + secret
	}
	store := strings.Replace(s.store.URL, "://", "://user:"+secret+"@", 1)
	elsewhere := "AWS_ENDPOINT_URL_S3=" + store
	return []secretRun{
		{"a page", 0, []string{"copy", signed("/nine"), "nine"}, nil},
		{"a page to an object", 0, []string{"copy", signed("/resumed.bin"), "s3://bikes/web"}, nil},
		{"a page that breaks", 69, []string{"copy", signed("/halves.bin"), "halves", "--max-attempts", "1"}, nil},
		{"the rest of it", 0, []string{"copy", signed("/halves.bin"), "halves"}, nil},
		{"a page that breaks on a pipe", 69, []string{"copy", signed("/never.bin"), "-", "--max-attempts", "2"}, nil},
		{"a page that there is not", 1, []string{"copy", signed("/absent"), "absent"}, nil},
		{"a page that is busy", 69, []string{"copy", signed("/busy.bin"), "busy", "--max-attempts", "2"}, nil},
		{"a page of a server that is away", 69, []string{"copy", "http://user:" + secret + "@127.0.0.1:1/x?sig=" + secret, "x", "--max-attempts", "2"}, nil},
		{"a page of no server", 1, []string{"copy", "http://user:" + secret + "@absent.invalid/x?sig=" + secret, "x"}, nil},
		{"a page that is elsewhere", 69, []string{"copy", moved, "moved", "--max-attempts", "2"}, nil},
		{"a page through a proxy", 69, []string{"copy", "http://absent.invalid/x", "x", "--max-attempts", "2"}, []string{"HTTP_PROXY=http://user:" + secret + "@127.0.0.1:1"}},
		{"a page without a name", 64, []string{"copy", signed("/"), "s3://bikes"}, nil},
		{"a URL that is none", 64, []string{"copy", "http://user:" + secret + "@host:x/?token=" + secret, "x"}, nil},
		{"a URL that lacks a slash", 64, []string{"copy", "https:/user:" + secret + "@host/x?token=" + secret, "x"}, nil},
		{"the wrong way", 64, []string{"copy", "hour.csv", signed("/x")}, nil},
		{"a checksum that differs", 1, []string{"copy", signed("/whole.bin"), "whole", "--checksum", "md5:00000000000000000000000000000000"}, nil},
		{"a page that is there later", 75, []string{"copy", signed("/later.bin"), "later"}, nil},
		{"an endpoint", 64, []string{"copy", "hour.csv", "s3://bikes/hour.csv", "--endpoint-url", store}, nil},
		{"an endpoint's query", 64, []string{"copy", "hour.csv", "s3://bikes/hour.csv", "--endpoint-url", s.store.URL + "/?token=" + secret}, nil},
		{"an endpoint of the environment", 64, []string{"copy", "large.bin", "s3://bikes/large.bin"}, []string{"AWS_ENDPOINT_URL=" + store}},
		{"an endpoint for S3", 64, []string{"copy", "large.bin", "s3://bikes/large.bin"}, []string{elsewhere}},
		{"an endpoint of objects", 64, []string{"copy", "s3://bikes/web", "web"}, []string{elsewhere}},
		{"an endpoint of many", 64, []string{"copy", "-r", ".", "s3://bikes/all", "--manifest", "m.jsonl"}, []string{elsewhere}},
		{"an endpoint to clean", 64, []string{"s3", "clean", "s3://bikes"}, []string{elsewhere}},
		{"a secret key that is wrong", 1, []string{"copy", "hour.csv", "s3://bikes/key"}, []string{"AWS_SECRET_ACCESS_KEY=" + secret + "/a/secret/key/of/forty/letters12"}},
		{"a session that is none", 1, []string{"copy", "s3://bikes/absent", "absent"}, []string{"AWS_SESSION_TOKEN=" + secret}},
		{"a customer key without TLS", 64, []string{"copy", "hour.csv", "s3://bikes/sse", "--sse-c-key", keyFile}, nil},
		{"an endpoint that is none", 64, []string{"copy", "hour.csv", "s3://bikes/x", "--endpoint-url", "ftp://user:" + secret + "@host"}, nil},
		{"a name", 1, []string{"run", "--name", "get " + signed("/x"), "--max-attempts", "2", "--", "false"}, nil},
		{"a name and its breaker", 0, []string{"breaker", "trip", "get " + signed("/x")}, nil},
		{"a name that is open", 75, []string{"run", "--name", "get " + signed("/x"), "--", "true"}, nil},
		{"status", 0, []string{"status"}, nil},
		{"a name that there is not", 64, []string{"breaker", "trip", signed("/other")}, nil},
		{"a fleet", 0, []string{"run", "--name", "x", "--store", "redis://user:" + secret + "@127.0.0.1:1", "--", "true"}, nil},
		{"a fleet's status", 0, []string{"status", "--store", "redis://user:" + secret + "@127.0.0.1:1"}, nil},
	}
}

// What is secret in a URL is in nothing that the command writes: what it says, the files that it leaves, and what Dagster is
// told.
func TestSecretsStaySecret(t *testing.T) {
	mover := httptest.NewServer(http.RedirectHandler("http://127.0.0.1:1/x?X-Amz-Signature="+secret, http.StatusFound))
	t.Cleanup(mover.Close)
	for _, flags := range []string{"", "--json", "--log-level=debug"} {
		t.Run("flags "+flags, func(t *testing.T) {
			s := startTestServers(t)
			step := newStepWith(t, pipestest.Context("my_asset"), nil)
			step.environ = append(step.environ, s.environ(step.dir)...)
			step.environ = append(step.environ, "PERDURE_STORE=host")
			for name, size := range map[string]int{"hour.csv": 100, "large.bin": 9 << 20} {
				if err := os.WriteFile(filepath.Join(step.dir, name), generated(size), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			keyFile := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(keyFile, []byte(secret+" is the SSE-C key's begin"), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, r := range secretRuns(s, mover.URL, keyFile) {
				args := r.args
				if flags != "" {
					args = append(r.args[:1:1], append([]string{flags}, r.args[1:]...)...)
				}
				var out bytes.Buffer
				c := command(t, append(step.environ, r.environ...), args...)
				c.Dir, c.Stdout, c.Stderr = step.dir, &out, &out
				_ = c.Run() // the code tells
				if got := c.ProcessState.ExitCode(); got != r.code {
					t.Errorf("%s: exit code %d, want %d\n%.1000s", r.name, got, r.code, &out)
				}
				if bytes.Contains(out.Bytes(), []byte(secret)) {
					t.Errorf("%s: it says\n%.1000s", r.name, &out)
				}
				for _, file := range withSecret(t, step.dir) {
					t.Errorf("%s: a secret in %s", r.name, file)
				}
			}
		})
	}
}

// withSecret returns what is below a directory and shows a secret, in its path or in its bytes. It removes those files.
func withSecret(t *testing.T, dir string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if len(content) > 1<<20 { // data
			content = nil
		}
		shows := secrettest.Find(path + ": " + string(content))
		if found = append(found, shows...); len(shows) > 0 {
			return os.Remove(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
