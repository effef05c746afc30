package main

import (
	"archive/zip"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A wheel must name each of its files, and pip must find a script it may run.
func TestWheel(t *testing.T) {
	root, out := t.TempDir(), t.TempDir()
	for _, name := range []string{"LICENSE", "README.md", "perdure"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	at := time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC)
	var first []byte
	for range 2 {
		name, err := packWheel(root, out, filepath.Join(root, "perdure"), "1.2.3", platforms()[0], at)
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(filepath.Join(out, name))
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = data
		}
		if !bytes.Equal(first, data) {
			t.Error("two wheels of one tree differ")
		}
	}
	z, err := zip.NewReader(bytes.NewReader(first), int64(len(first)))
	if err != nil {
		t.Fatal(err)
	}
	record, err := z.Open("perdure-1.2.3.dist-info/RECORD")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(record)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range z.File {
		if !strings.Contains(string(text), f.Name+",") {
			t.Errorf("RECORD does not name %s", f.Name)
		}
		if script := strings.Contains(f.Name, "/scripts/"); script != (f.Mode()&0o111 != 0) {
			t.Errorf("%s has mode %v", f.Name, f.Mode())
		}
	}
}
