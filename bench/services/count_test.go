package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// Each program needs less code than with failsafe-go, and docs/choosing.md has the table of this tree.
func TestLessCode(t *testing.T) {
	const root = "../.."
	for _, p := range programs() {
		ours, theirs, err := both(root, p[0])
		if err != nil {
			t.Fatal(err)
		}
		if ours.lines >= theirs.lines || ours.tokens >= theirs.tokens {
			t.Errorf("%s: %+v, with failsafe-go %+v", p[1], ours, theirs)
		}
	}
	var table bytes.Buffer
	if err := write(&table, root); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(root + "/docs/choosing.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), table.String()) {
		t.Errorf("docs/choosing.md has another table than\n%s", table.String())
	}
}
