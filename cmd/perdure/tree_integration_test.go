//go:build integration

package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestManySmallObjects copies 10,000 small files to a store, once more, and
// back: each is one request, and one that is there is none.
func TestManySmallObjects(t *testing.T) {
	const n = 10_000
	s := startTestServers(t)
	from, back := t.TempDir(), filepath.Join(t.TempDir(), "back")
	fill(t, from, n)
	for _, c := range []struct {
		name, method string
		from, to     string
		objects      int // requests
		pages        int // of listings
	}{
		{"up", "PUT", from, "s3://bikes/raw", n, 1},
		{"up again", "PUT", from, "s3://bikes/raw", 0, 10},
		{"down", "GET", "s3://bikes/raw", back, n, 10},
		{"down again", "GET", "s3://bikes/raw", back, 0, 10},
	} {
		s.store.Reset()
		begun := time.Now()
		code, log := inProcess(t, s, "copy", "-r", c.from, c.to)
		took := time.Since(begun)
		if code != 0 {
			t.Fatalf("%s: exit code %d\n%s", c.name, code, log)
		}
		all, objects := len(s.store.Requests()), s.store.Count(c.method, "/bikes/raw/")
		t.Logf("%-10s %5.1f s, %6.0f files a second; %d requests for objects, %d in all", c.name, took.Seconds(), n/took.Seconds(), objects, all)
		if objects != c.objects || all != c.objects+c.pages {
			t.Errorf("%s: %d requests for objects, %d in all; want %d and %d", c.name, objects, all, c.objects, c.objects+c.pages)
		}
		if !strings.Contains(log, " 0 failed") {
			t.Errorf("%s: it says\n%s", c.name, log)
		}
	}
	sameTrees(t, from, back, n)
}
