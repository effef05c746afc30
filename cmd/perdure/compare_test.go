package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/seed-0f2c7998/perdure/s3test"
)

// aged writes files below dir that were last modified an hour ago.
func aged(t *testing.T, dir string, files treeOf) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		write(t, path, []byte(content))
		old := time.Now().Add(-time.Hour)
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
}

// With --size-only, files of the same size are the same, in each direction; files of other sizes and missing ones are copied.
func TestSizeOnly(t *testing.T) {
	s := startTestServers(t)
	for _, row := range []struct{ from, to string }{
		{t.TempDir(), "s3://bikes/up"}, {"s3://bikes/down", t.TempDir()}, {"s3://bikes/from", "s3://bikes/to"},
	} {
		source := treeOf{"same size": "first", "longer": "second", "new": "third"}
		source.put(t, s, row.from)
		treeOf{"same size": "FIRST", "longer": "2nd"}.put(t, s, row.to)
		code, log := inProcess(t, s, "sync", row.from, row.to, "--size-only", "--dry-run")
		if code != 0 || !strings.Contains(log, "same size (same size)") || !strings.Contains(log, "longer (other size)") || !strings.Contains(log, "new (not in DST)") {
			t.Errorf("%v, dry run: code %d: %s", row, code, log)
		}
		if code, log = inProcess(t, s, "sync", row.from, row.to, "--size-only"); code != 0 || !strings.Contains(log, "Copied 2 files") || !strings.Contains(log, "1 skipped") {
			t.Errorf("%v: code %d: %s", row, code, log)
		}
		if got, want := fmt.Sprint(readSide(t, s, row.to)), "map[longer:second new:third same size:FIRST]"; got != want {
			t.Errorf("%v: %s, want %s", row, got, want)
		}
		if code, log = inProcess(t, s, "copy", "-r", row.from, row.to); code != 0 || !strings.Contains(log, "Copied 1 file ") {
			t.Errorf("%v, with checksums: code %d: %s", row, code, log)
		}
	}
}

// A flag of the comparison that would have no effect is refused.
func TestCompareUsage(t *testing.T) {
	s := startTestServers(t)
	dir := t.TempDir()
	list := filepath.Join(dir, "list")
	write(t, list, []byte(s.web.URL+"/a\n"))
	for want, args := range map[string][]string{
		"--size-only is for many files":   {"copy", "a", "s3://bikes/a", "--size-only"},
		"--no-cache is for many files":    {"copy", "a", "s3://bikes/a", "--no-cache"},
		"--no-cache is for a directory":   {"sync", "s3://bikes/a", "s3://bikes/b", "--no-cache"},
		"cannot be used with --from-file": {"copy", "--from-file", list, "s3://bikes/b/", "--mtime"},
		"--size-only and --mtime cannot":  {"copy", "-r", dir, "s3://bikes/b", "--mtime", "--size-only"},
		"--no-cache has no effect with":   {"copy", "-r", dir, "s3://bikes/b", "--no-cache", "--size-only"},
	} {
		if code, log := inProcess(t, s, args...); code != 64 || !strings.Contains(log, want) {
			t.Errorf("%q: code %d: %s, want %q", args, code, log, want)
		}
	}
}

// Objects that another program has uploaded in parts, without a checksum, are compared by the MD5s of the parts, if the store
// tells their size. Otherwise they are copied, and the summary says how many.
func TestObjectsInParts(t *testing.T) {
	s := startTestServers(t)
	content := generated(3<<20 + 5)
	other := append([]byte(nil), content...)
	other[2<<20] ^= 1
	if err := errors.Join(s.store.StoreParts("bikes", "raw/same", content, 1<<20), s.store.StoreParts("bikes", "raw/differs", other, 1<<20),
		s.store.StoreParts("bikes", "raw/one", content, 4<<20), s.store.StoreParts("bikes", "raw/silent", content, 1<<20)); err != nil {
		t.Fatal(err)
	}
	s.store.SetScript(func(r s3test.Request) s3test.Fault {
		if r.Method == "HEAD" && strings.Contains(r.Path, "silent") && r.Query.Has("partNumber") {
			return s3test.Failure(501, "NotImplemented")
		}
		return s3test.Fault{}
	})
	dir := t.TempDir()
	for _, name := range []string{"same", "differs", "one", "silent"} {
		aged(t, dir, treeOf{name: string(content)})
	}
	for _, pair := range [][2]string{{dir, "s3://bikes/raw"}, {"s3://bikes/raw", dir}} {
		code, log := inProcess(t, s, "sync", pair[0], pair[1], "--dry-run")
		for _, want := range []string{"same (same checksum)", "one (same checksum)", "differs (other checksum)", "silent (no checksum to compare)"} {
			if code != 0 || !strings.Contains(log, want) {
				t.Errorf("%v: code %d: %s, want %q", pair, code, log, want)
			}
		}
	}
	code, log := inProcess(t, s, "sync", dir, "s3://bikes/raw")
	if code != 0 || !strings.Contains(log, "Copied 2 files") || !strings.Contains(log, "2 skipped, 0 failed, 1 copied without a checksum") {
		t.Errorf("code %d: %s", code, log)
	}
	if got, _ := s.store.Object("bikes", "raw/differs"); !bytes.Equal(got, content) {
		t.Error("the object that differed is not replaced")
	}
}

// Between stores, objects in equal parts are the same. Those in other parts cannot be compared.
func TestObjectsInPartsBetweenStores(t *testing.T) {
	s := startTestServers(t)
	content := generated(3 << 20)
	for key, size := range map[string]int{"from/equal": 1 << 20, "to/equal": 1 << 20, "from/other": 1 << 20, "to/other": 2 << 20} {
		if err := s.store.StoreParts("bikes", key, content, size); err != nil {
			t.Fatal(err)
		}
	}
	code, log := inProcess(t, s, "sync", "s3://bikes/from", "s3://bikes/to", "--dry-run")
	if code != 0 || !strings.Contains(log, "to/equal (same checksum)") || !strings.Contains(log, "to/other (no checksum to compare)") {
		t.Errorf("code %d: %s", code, log)
	}
}

// With --mtime, objects have the times of files, files get those of objects, and what has the same size and time is the same,
// in each direction. If the times differ, or an object has none, the checksums decide.
func TestModTimes(t *testing.T) {
	s := startTestServers(t)
	dir, back := t.TempDir(), filepath.Join(t.TempDir(), "back")
	at := time.Date(2024, 1, 2, 3, 4, 5, 123456700, time.UTC)
	names := []string{"small", "deep/large"}
	treeOf{"small": "first", "deep/large": string(generated(20 << 20))}.put(t, s, dir)
	setTime := func(dir string, when time.Time) {
		t.Helper()
		for _, name := range names {
			if err := os.Chtimes(filepath.Join(dir, name), when, when); err != nil {
				t.Fatal(err)
			}
		}
	}
	sync := func(from, to, want string, more ...string) {
		t.Helper()
		code, log := inProcess(t, s, append([]string{"sync", from, to, "--mtime"}, more...)...) // without the cache of an earlier run
		if code != 0 || strings.Count(log, want) == 0 || len(more) > 0 && strings.Count(log, want) != len(names) {
			t.Errorf("%s to %s: code %d: %s, want %q", from, to, code, log, want)
		}
	}
	setTime(dir, at)
	sync(dir, "s3://bikes/raw", "Copied 2 files")
	for _, name := range names {
		head, err := s.client().HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String("bikes"), Key: aws.String("raw/" + name)})
		if err != nil || head.Metadata["mtime"] != "1704164645.1234567" {
			t.Errorf("%s: %+v, %v", name, head, err)
		}
	}
	sync(dir, "s3://bikes/raw", "(same size and time)", "--dry-run")
	treeOf{"small": "FIRST"}.put(t, s, dir) // the time is taken at its word
	setTime(dir, at)
	sync(dir, "s3://bikes/raw", "Copied 0 files")
	treeOf{"small": "first"}.put(t, s, dir)
	setTime(dir, at.Add(time.Hour))
	sync(dir, "s3://bikes/raw", "(same checksum)", "--dry-run")

	for _, want := range []string{"Copied 2 files", "Copied 0 files", "Copied 0 files"} {
		sync("s3://bikes/raw", back, want)
		for _, name := range names {
			info, err := os.Stat(filepath.Join(back, name))
			if err != nil || !info.ModTime().Equal(at) {
				t.Errorf("%s: %v, %v, want %v", name, info.ModTime(), err, at)
			}
		}
		setTime(back, at.Add(time.Hour)) // the next run sets the time again
	}
	setTime(back, at)
	sync("s3://bikes/raw", back, "(same size and time)", "--dry-run")
	sync("s3://bikes/raw", "s3://bikes/copy", "Copied 2 files")
	client := s.client()
	for _, prefix := range []string{"copy/", "raw/"} { // objects that differ, of one time in seconds, as of s3fs
		for _, name := range names {
			if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("bikes"), Key: aws.String(prefix + name), Body: strings.NewReader(prefix[:3] + "!"), Metadata: map[string]string{"mtime": "1704164645"}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	sync("s3://bikes/raw", "s3://bikes/copy", "(same size and time)", "--dry-run")
	for _, name := range names {
		if err := s.store.Store("bikes", "copy/"+name, []byte("cop?")); err != nil { // without a time
			t.Fatal(err)
		}
	}
	sync("s3://bikes/raw", "s3://bikes/copy", "(other checksum)", "--dry-run")
}
