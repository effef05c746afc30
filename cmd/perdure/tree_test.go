package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/seed-0f2c7998/perdure/s3test"
)

// inProcess runs the command in this process, with the servers, and returns its
// code and what it said.
func inProcess(t *testing.T, s *testServers, args ...string) (int, string) {
	t.Helper()
	return inHome(t, s, t.TempDir(), args...)
}

// inHome is inProcess with a home directory, which has the state of earlier runs.
func inHome(t *testing.T, s *testServers, home string, args ...string) (int, string) {
	t.Helper()
	return inContext(t.Context(), t, s, home, args...)
}

// inContext is inHome with the context of the command.
func inContext(ctx context.Context, t *testing.T, s *testServers, home string, args ...string) (int, string) {
	t.Helper()
	s.setenv(home, t.Setenv)
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	a := &app{stdin: os.Stdin, stdout: log, stderr: log, environ: os.Environ()}
	code := a.main(ctx, args)
	text, err := os.ReadFile(log.Name())
	if err != nil {
		t.Fatal(err)
	}
	return code, string(text)
}

// entries reads a manifest, by key.
func entries(t *testing.T, path string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	actions := make(map[string]string)
	for line := range bytes.Lines(text) {
		var e struct{ Path, Key, Action, Error string }
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		actions[e.Key] = e.Action + e.Error
	}
	return actions
}

// Keys that would lead elsewhere, or to a file that can't be, are refused one by
// one; the others are copied, and nothing is written outside of the directory.
func TestUnsafeKeys(t *testing.T) {
	s := startTestServers(t)
	keys := map[string]string{ // what the manifest says, in part
		"raw/good.csv": "copied", "raw/2024/a b ä.csv": "copied", "raw/..good/x..": "copied", "raw/dir/": "skipped",
		"raw/../escape": `failed refuse s3://bikes/raw/../escape at ADDRESS: ".." cannot be a file name`,
		"raw/a/../../b": "failed", "raw//abs": "failed", "raw/x//y": "failed the key has an empty part between slashes",
		"raw/./z": "failed", "raw/..": "failed",
		"raw/both": "failed the file would also have to be a directory, for both/c", "raw/both/c": "copied",
		"raw/full/": "failed the key has an empty part",
	}
	for key, want := range keys {
		content := []byte("content of " + key)
		if want == "skipped" {
			content = nil
		}
		if err := s.store.Store("bikes", key, content); err != nil {
			t.Fatal(err)
		}
	}
	top := t.TempDir()
	manifest := filepath.Join(top, "manifest")
	code, log := inProcess(t, s, "copy", "-r", "s3://bikes/raw", filepath.Join(top, "one", "two"), "--manifest", manifest)
	if code != 1 || !strings.Contains(log, "8 of 13 files were not copied: ") {
		t.Errorf("exit code %d, want 1\n%s", code, log)
	}
	got := entries(t, manifest)
	for key, want := range keys {
		action, why, _ := strings.Cut(strings.ReplaceAll(want, "ADDRESS", s.store.URL), " ")
		if text := got[key]; !strings.HasPrefix(text, action) || !strings.Contains(text, why) {
			t.Errorf("%s: %q, want %s: %s", key, text, action, why)
		}
	}
	for path, want := range map[string]int{"*": 2, "one/*": 1, "one/two/*": 5} {
		if files, _ := filepath.Glob(filepath.Join(top, path)); len(files) != want {
			t.Errorf("%s has %v, want %d", path, files, want)
		}
	}
}

// fill makes n small files in as many directories as there are hundreds.
func fill(t *testing.T, dir string, n int) {
	t.Helper()
	for i := range n {
		path := filepath.Join(dir, fmt.Sprint(i/100), fmt.Sprintf("%d.csv", i))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, fmt.Appendf(nil, "station,%d\n", i), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// sameTrees checks that two directories have the same files.
func sameTrees(t *testing.T, a, b string, want int) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(a, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		n++
		rel, _ := filepath.Rel(a, path)
		one, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		two, err := os.ReadFile(filepath.Join(b, rel))
		if err != nil || !bytes.Equal(one, two) {
			t.Errorf("%s differs (%v)", rel, err)
		}
		return nil
	})
	if err != nil || n != want {
		t.Errorf("%d files, %v; want %d", n, err, want)
	}
}

// TestTreeThroughWeather carries a directory to a store and back while every
// fourth request fails. The breaker, which five failures in a row would open, is
// not opened by what 16 requests at a time meet by chance.
func TestTreeThroughWeather(t *testing.T) {
	s := startTestServers(t)
	const n = 200
	from, back := t.TempDir(), t.TempDir()
	fill(t, from, n)
	if err := s.store.SetFaults(weather(11)); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{from, "s3://bikes/raw"}, {"s3://bikes/raw", back}} {
		code, log := inProcess(t, s, append([]string{"copy", "-r", "--max-attempts", "20"}, args...)...)
		if code != 0 || !strings.Contains(log, "Copied 200 files ") {
			t.Fatalf("%v: exit code %d\n%s", args, code, log)
		}
	}
	sameTrees(t, from, back, n)
}

// What is left is not only what was listed when the copy stopped, and the last line does not say so.
func TestTreeCountsOnlyWhatWasListed(t *testing.T) {
	s := startTestServers(t)
	for i := range 1001 { // two pages
		if err := s.store.Store("bikes", fmt.Sprintf("many/%04d", i), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	failed := make(chan struct{})
	s.store.SetScript(func(r s3test.Request) s3test.Fault {
		switch {
		case strings.HasPrefix(r.Path, "/bikes/many/"):
			return s3test.Failure(403, "ExpiredToken")
		case r.Query.Has("continuation-token"):
			<-failed
		}
		return s3test.Fault{}
	})
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	var lines []string
	var reader sync.WaitGroup
	reader.Go(func() {
		for scan := bufio.NewScanner(in); scan.Scan(); {
			if strings.HasPrefix(scan.Text(), "ERROR: Failed: ") && !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "ERROR: ") }) {
				close(failed)
			}
			lines = append(lines, scan.Text())
		}
	})
	s.setenv(t.TempDir(), t.Setenv)
	a := &app{stdin: os.Stdin, stdout: out, stderr: out, environ: os.Environ()}
	code := a.main(t.Context(), []string{"copy", "-r", "s3://bikes/many", t.TempDir(), "--parallel", "1"})
	_ = out.Close()
	reader.Wait()
	if last := lines[len(lines)-1]; code != 1 || !strings.Contains(last, "not listed yet") {
		t.Errorf("exit code %d, want 1: %s", code, last)
	}
}

// When it is in vain the rest is not asked for, and the manifest says what is
// left.
func TestTreeStopsWhenInVain(t *testing.T) {
	s := startTestServers(t)
	from := t.TempDir()
	fill(t, from, 500)
	s.store.SetScript(func(r s3test.Request) s3test.Fault {
		if r.Method == "PUT" {
			return s3test.Failure(403, "ExpiredToken")
		}
		return s3test.Fault{}
	})
	manifest := filepath.Join(t.TempDir(), "manifest")
	code, log := inProcess(t, s, "copy", "-r", from, "s3://bikes/raw", "--parallel", "4", "--manifest", manifest)
	if code != 1 || !strings.Contains(log, "403 ExpiredToken") || !strings.Contains(log, "of 500 files were not tried") {
		t.Errorf("exit code %d, want 1\n%s", code, log)
	}
	if puts := s.store.Count("PUT", "/bikes/"); puts > 20 {
		t.Errorf("%d requests were made, want a few", puts)
	}
	if got := entries(t, manifest); len(got) != 500 {
		t.Errorf("the manifest has %d files, want 500", len(got))
	}
}
