//go:build unix

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-0f2c7998/perdure/s3test"
)

// A copy at a bandwidth at which it would take an hour, in each direction, ends at the first signal. At a high one it is whole.
func TestBandwidth(t *testing.T) {
	s := startTestServers(t)
	second := secondStore(t, "bikes")
	dir, content := t.TempDir(), generated(9<<20)
	large, small := filepath.Join(dir, "large.bin"), filepath.Join(dir, "small.bin")
	write(t, large, content)
	write(t, small, content[:5<<20])
	for _, key := range []string{"from/large.bin", "from/small.bin"} {
		body, _ := os.ReadFile(filepath.Join(dir, filepath.Base(key)))
		if err := s.store.Store("bikes", key, body); err != nil {
			t.Fatal(err)
		}
	}
	across := []string{"--endpoint-url-dst", second.URL, "--profile-dst", "second"}
	out := t.TempDir()
	for what, row := range map[string]struct {
		store *s3test.Server
		verb  string // of the requests with data
		args  []string
		got   func() []byte
	}{
		"a small file":   {s.store, "PUT", []string{"copy", small, "s3://bikes/small"}, objectOf(s.store, "small")},
		"a large file":   {s.store, "PUT", []string{"copy", large, "s3://bikes/large"}, objectOf(s.store, "large")},
		"a large object": {s.store, "GET", []string{"copy", "s3://bikes/from/large.bin", filepath.Join(out, "a")}, fileOf(filepath.Join(out, "a"))},
		"to a stream":    {s.store, "GET", []string{"copy", "s3://bikes/from/large.bin", "-"}, nil},
		"across":         {s.store, "GET", append([]string{"copy", "s3://bikes/from/large.bin", "s3://bikes/across"}, across...), objectOf(second, "across")},
		"a directory":    {s.store, "PUT", []string{"sync", dir, "s3://bikes/tree"}, objectOf(s.store, "tree/large.bin")},
		"a prefix":       {s.store, "GET", []string{"copy", "-r", "s3://bikes/from", filepath.Join(out, "b")}, fileOf(filepath.Join(out, "b", "large.bin"))},
	} {
		t.Run(what, func(t *testing.T) {
			row.store.Reset()
			var log bytes.Buffer
			home := t.TempDir()
			c := command(t, s.environ(home), append(row.args, "--bandwidth", "2.5K")...)
			c.Stderr = &log
			start(t, c)
			eventually(t, "data is requested", func() bool { return row.store.Count(row.verb, "/bikes/") > 0 })
			_ = c.Process.Signal(syscall.SIGINT)
			interrupted(t, c, &log, 130)
			if row.got == nil {
				return
			}
			if n := len(row.got()); n > 0 {
				t.Errorf("%d bytes are there", n)
			}
			want := content
			if strings.Contains(what, "small") {
				want = content[:5<<20]
			}
			if code, text := inHome(t, s, home, append(row.args, "--bandwidth", "1GiB/s")...); code != 0 || !bytes.Equal(row.got(), want) {
				t.Errorf("code %d, %d bytes, want %d: %s", code, len(row.got()), len(want), text)
			}
		})
	}
}

func objectOf(store *s3test.Server, key string) func() []byte {
	return func() []byte {
		body, _ := store.Object("bikes", key)
		return body
	}
}

func fileOf(path string) func() []byte {
	return func() []byte {
		body, _ := os.ReadFile(path)
		return body
	}
}

func TestInvalidBandwidth(t *testing.T) {
	s := startTestServers(t)
	file := filepath.Join(t.TempDir(), "x")
	write(t, file, []byte("x"))
	for _, row := range []struct {
		want string
		args []string
	}{
		{"bytes per second from 1 to 1T", []string{"10MB"}},
		{"bytes per second from 1 to 1T", []string{"0"}},
		{"bytes per second from 1 to 1T", []string{"-1M"}},
		{"bytes per second from 1 to 1T", []string{""}},
		{"bytes per second from 1 to 1T", []string{"M"}},
		{"bytes per second from 1 to 1T", []string{"NaN"}},
		{"bytes per second from 1 to 1T", []string{"Inf"}},
		{"bytes per second from 1 to 1T", []string{"0x10"}},
		{"bytes per second from 1 to 1T", []string{"2T"}},
		{"bytes per second from 1 to 1T", []string{"10M/m"}},
		{"bytes per second from 1 to 1T", []string{"1.2.3"}},
		{"at least --min-rate, which is 1024 bytes per second", []string{"1000"}},
		{"at least --min-rate, which is 4096 bytes per second", []string{"3K", "--min-rate", "4096"}},
	} {
		if code, log := inProcess(t, s, append([]string{"copy", file, "s3://bikes/x", "--bandwidth"}, row.args...)...); code != 64 || !strings.Contains(log, " for --bandwidth: must be "+row.want) {
			t.Errorf("%q: code %d, want 64 and %q: %s", row.args, code, row.want, log)
		}
	}
	if code, log := inProcess(t, s, "copy", file, file+"2", "--bandwidth", "1M"); code != 64 || !strings.Contains(log, "used with a URL or an object as SRC or DST") {
		t.Errorf("from file to file: code %d: %s", code, log)
	}
	if n := len(s.store.Requests()); n > 0 {
		t.Errorf("%d requests were sent", n)
	}
	for text, want := range map[string]float64{"1": 1, "1000B/s": 1000, "10M": 10 << 20, "10m/s": 10 << 20, "2.5MiB/s": 2.5 * (1 << 20), "1Ki": 1024, "1T": 1 << 40, "3G": 3 << 30, ".5K": 512} {
		var f bandwidthFlag
		if err := f.set(text); err != nil || f.rate != want {
			t.Errorf("%s is read as %v, %v; want %v", text, f.rate, err, want)
		}
	}
}
