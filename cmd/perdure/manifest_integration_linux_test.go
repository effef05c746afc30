//go:build integration

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// mount mounts something, and unmounts it at the end.
func mount(t *testing.T, at string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "mount", append(args, at)...).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: nothing can be mounted: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(at, 0); err != nil {
			t.Error(err)
		}
	})
}

// A manifest that is mounted by itself, as containers have it, perhaps in a directory that takes no other file, is written all the same.
func TestManifestThatIsMounted(t *testing.T) {
	for _, options := range []string{"rw", "ro"} {
		t.Run(options, func(t *testing.T) {
			s := startTestServers(t)
			dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "outside")
			inside := filepath.Join(dir, "m.jsonl")
			mount(t, dir, "-t", "tmpfs", "tmpfs")
			for _, name := range []string{outside, inside} {
				if err := os.WriteFile(name, []byte(strings.Repeat("what was there\n", 1000)), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			mount(t, inside, "--bind", outside)
			if out, err := exec.CommandContext(t.Context(), "mount", "-o", "remount,"+options, dir).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			code, log := inProcess(t, s, "copy", "-r", someFiles(t, 3), "s3://bikes/raw", "--manifest", inside)
			if all := entries(t, outside); code != 0 || len(all) != 3 {
				t.Errorf("exit code %d, the manifest tells of %d files\n%s", code, len(all), log)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// When there is no room for the manifest, that is said, and it is as it was.
func TestManifestOnAFullDisk(t *testing.T) {
	s := startTestServers(t)
	dir := t.TempDir()
	mount(t, dir, "-t", "tmpfs", "-o", "size=16k", "tmpfs")
	manifest := filepath.Join(dir, "m.jsonl")
	if err := os.WriteFile(manifest, []byte("what was there\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, log := inProcess(t, s, "copy", "-r", someFiles(t, 40), "s3://bikes/raw", "--manifest", manifest)
	if code != 1 || !strings.Contains(log, "perdure: write "+manifest+": no space left on device\n") || !strings.Contains(log, "Copied 40 files") {
		t.Errorf("exit code %d, want 1\n%s", code, log)
	}
	if old, err := os.ReadFile(manifest); err != nil || string(old) != "what was there\n" {
		t.Errorf("the manifest is %.60q (%v), want it as it was", old, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
