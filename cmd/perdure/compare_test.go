package main

import (
	"fmt"
	"strings"
	"testing"
)

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
	for want, args := range map[string][]string{
		"--size-only is for many files": {"copy", "a", "s3://bikes/a", "--size-only"},
		"--no-cache is for many files":  {"copy", "a", "s3://bikes/a", "--no-cache"},
		"--no-cache is for a directory": {"sync", "s3://bikes/a", "s3://bikes/b", "--no-cache"},
		"--no-cache has no effect with": {"copy", "-r", dir, "s3://bikes/b", "--no-cache", "--size-only"},
	} {
		if code, log := inProcess(t, s, args...); code != 64 || !strings.Contains(log, want) {
			t.Errorf("%q: code %d: %s, want %q", args, code, log, want)
		}
	}
}
