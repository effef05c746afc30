//go:build integration && unix

package main

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/s3test"
)

// Another project's store keeps the attributes, also the longest that S3 allows, and replaces them in its own copies.
func TestAttributesInAnotherStore(t *testing.T) {
	s := behindGateway(t, s3test.Faults{})
	s.web = startTestServers(t).web
	dir := t.TempDir()
	write(t, filepath.Join(dir, "small"), []byte("x"))
	write(t, filepath.Join(dir, "large"), generated(9<<20))
	long := strings.Repeat("k", 128) + "=" + strings.Repeat("v", 256)
	given := append(slices.Clone(allAttributes), "--tag", long)
	want := maps.Clone(allStored)
	want["tag "+strings.Repeat("k", 128)] = strings.Repeat("v", 256)
	for _, args := range [][]string{
		append([]string{"copy", "-r", dir, "s3://bikes/from", "--storage-class", "STANDARD", "--acl", "private"}, given...),
		{"sync", "s3://bikes/from", "s3://bikes/to", "--content-type", "a/b", "--metadata", "run=" + strings.Repeat("x", 2045), "--tag", "x=y"},
	} {
		if code, log := inProcess(t, s, args...); code != 0 {
			t.Fatalf("%q: code %d: %s", args, code, log)
		}
	}
	changed := maps.Clone(allStored)
	maps.DeleteFunc(changed, func(name, _ string) bool { return strings.Contains(name, " ") })
	changed["type"], changed["metadata run"], changed["tag x"] = "a/b", strings.Repeat("x", 2045), "y"
	for _, name := range []string{"small", "large"} {
		if got := storedAttributes(t, s.client(), "bikes", "from/"+name); !maps.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
		if got := storedAttributes(t, s.client(), "bikes", "to/"+name); !maps.Equal(got, changed) {
			t.Errorf("the copy of %s: %q, want %q", name, got, changed)
		}
	}
}
