//go:build unix && !aix && !solaris && !illumos

package hoststore_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/hoststore"
	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// Processes of two versions, in turns, each find the state of the last process of their
// own version, and change no other file.
func TestTwoVersionsSideBySide(t *testing.T) {
	dir := t.TempDir()
	store := hoststore.Open(dir)
	store.Close()
	old, err := os.ReadFile(store.Path()) // as version 2 named it
	if err != nil {
		t.Fatal(err)
	}
	binary.NativeEndian.PutUint32(old[8:], 2)
	for _, name := range []string{"cells", "cells.2"} {
		if err := os.WriteFile(filepath.Join(dir, name), old, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(store.Path()); err != nil {
		t.Fatal(err)
	}
	before := tree(t, dir)
	next := nextVersion(t)
	for i := range 10 {
		for _, program := range []string{os.Args[0], next} {
			cmd := exec.CommandContext(t.Context(), program, dir)
			cmd.Env = append(os.Environ(), roleVariable+"=fail")
			out, err := cmd.CombinedOutput()
			if want := strconv.Itoa(i+1) + "\n"; err != nil || string(out) != want {
				t.Fatalf("run %d of %s: %v, %q, want %q and no warning", i+1, filepath.Base(program), err, out, want)
			}
		}
	}
	after := tree(t, dir)
	ours := slices.DeleteFunc(slices.Clone(after), func(line string) bool { return slices.Contains(before, line) })
	if len(after) != len(before)+2 || len(ours) != 2 || !strings.HasPrefix(ours[0], "cells.3 ") || !strings.HasPrefix(ours[1], "cells.4 ") {
		t.Errorf("the files are %.60q, want cells.3 and cells.4 beside what was there", after)
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	want := []hoststore.File{{Path: path("cells"), Version: 2}, {Path: path("cells.2"), Version: 2}, {Path: path("cells.4"), Version: 4}}
	if got := hoststore.Others(dir); !slices.Equal(got, want) {
		t.Errorf("files of other versions: %v, want %v", got, want)
	}
}

// nextVersion builds this test with the next version of the format.
func nextVersion(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	const source = "../internal/cell/cell.go"
	code, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	constant := func(v int) string { return fmt.Sprintf("\nconst Version = %d\n", v) }
	raised := strings.Replace(string(code), constant(cell.Version), constant(cell.Version+1), 1)
	if raised == string(code) {
		t.Fatalf("%s has no%s", source, constant(cell.Version))
	}
	path, err := filepath.Abs(source)
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {path: filepath.Join(dir, "cell.go")}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"cell.go": []byte(raised), "overlay.json": overlay} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(dir, "next")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet=off", "-buildvcs=false", "-overlay", filepath.Join(dir, "overlay.json"), "-o", program, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build, err, out)
	}
	return program
}

// Only this user's own files count as state files.
func TestOthers(t *testing.T) {
	dir := t.TempDir()
	if got := hoststore.Others(filepath.Join(dir, "absent")); got != nil {
		t.Errorf("in no directory there are %v", got)
	}
	store := hoststore.Open(dir)
	store.Close()
	for name, content := range map[string]string{
		"cells": "perdure\n", "cells.2": "something else", "cells.4": "perdure\n\xff\xff\xff\xff", "cells.5.unusable-x": "perdure\n\x05\x00\x00\x00",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i, trap := range []trap{traps()["a FIFO"], traps()["a socket"]} {
		trap.setAt(t, filepath.Join(dir, "cells."+strconv.Itoa(50+i)))
	}
	if err := os.Symlink(store.Path(), filepath.Join(dir, "cells.99")); err != nil {
		t.Fatal(err)
	}
	got := hoststore.Others(dir)
	if len(got) != 1 || got[0].Path != filepath.Join(dir, "cells.4") || got[0].Version <= cell.Version {
		t.Errorf("files of other versions: %v, want cells.4 alone", got)
	}
}
