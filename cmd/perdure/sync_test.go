package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/s3test"
)

// secondStore starts another store, with credentials of its own in the profile "second".
func secondStore(t *testing.T, buckets ...string) *s3test.Server {
	t.Helper()
	store := s3test.Start(t, s3test.Options{Buckets: buckets})
	path := filepath.Join(t.TempDir(), "credentials")
	text := fmt.Sprintf("[second]\naws_access_key_id = %s\naws_secret_access_key = %s\n", store.AccessKey, store.SecretKey)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", path)
	return store
}

// From store to store, the store itself copies if it has both sides, and what the destination has is not copied again.
func TestTreesBetweenStores(t *testing.T) {
	s := startTestServers(t)
	if err := s.store.CreateBucket("other"); err != nil {
		t.Fatal(err)
	}
	second := secondStore(t, "bikes")
	want := map[string]string{"a": "first", "deep/b c": "second", "deep/ä": "", "deep/z": strings.Repeat("third", 1<<20)}
	for key, content := range want {
		if err := s.store.Store("bikes", "raw/"+key, []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct {
		to    *s3test.Server
		args  []string
		moved bool // through this process
	}{
		{s.store, []string{"s3://other/raw"}, false},
		{second, []string{"s3://bikes/raw", "--endpoint-url-dst", second.URL, "--profile-dst", "second"}, true},
	} {
		for round, copied := range []int{4, 0} {
			s.store.Reset()
			code, log := inProcess(t, s, append([]string{"copy", "-r", "s3://bikes/raw"}, row.args...)...)
			if code != 0 || !strings.Contains(log, fmt.Sprintf("Copied %d file", copied)) || !strings.Contains(log, fmt.Sprintf("%d skipped", 4-copied)) {
				t.Fatalf("to %q, round %d: code %d: %s", row.args, round, code, log)
			}
			if n := s.store.Count("GET", "/bikes/raw/"); n > 0 != (row.moved && round == 0) {
				t.Errorf("to %q, round %d: %d objects were read", row.args, round, n)
			}
		}
		bucket := strings.TrimSuffix(strings.TrimPrefix(row.args[0], "s3://"), "/raw")
		for key, content := range want {
			if got, ok := row.to.Object(bucket, "raw/"+key); !ok || string(got) != content {
				t.Errorf("to %q: %q has %d bytes, want %d", row.args, key, len(got), len(content))
			}
		}
	}
}

// A copy of a prefix into itself would have no end.
func TestATreeIsNotCopiedIntoItself(t *testing.T) {
	s := startTestServers(t)
	for _, pair := range [][2]string{{"s3://bikes/a", "s3://bikes/a"}, {"s3://bikes/a", "s3://bikes/a/b/"}, {"s3://bikes/a/b", "s3://bikes/a"}, {"s3://bikes", "s3://bikes/a"}} {
		if code, log := inProcess(t, s, "copy", "-r", pair[0], pair[1]); code != 64 || !strings.Contains(log, "neither in SRC nor around it") {
			t.Errorf("%q: code %d: %s", pair, code, log)
		}
	}
	if code, log := inProcess(t, s, "copy", "-r", "s3://bikes/a", "s3://bikes/ab", "--allow-empty"); code != 0 {
		t.Errorf("code %d: %s", code, log)
	}
}
