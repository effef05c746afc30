//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// ends runs a command that must not wait for anybody, and returns what it wrote
// and its exit code.
func ends(t *testing.T, dir string, args ...string) (out string, code int) {
	t.Helper()
	c := command(t, []string{"PERDURE_STATE=" + dir}, args...)
	var b bytes.Buffer
	c.Stdout, c.Stderr = &b, &b
	start(t, c)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = c.Process.Kill() })()
	_ = c.Wait() // the code tells
	return b.String(), c.ProcessState.ExitCode()
}

// Whatever another user may have put in the place of the state file: a run
// continues in memory with one warning, status says what is wrong, and neither waits.
func TestAStateFileThatIsNotToBeTrusted(t *testing.T) {
	for name, row := range map[string]struct {
		set func(dir, file string) error
		why string
	}{
		"a FIFO": {func(_, file string) error { return syscall.Mkfifo(file, 0o600) }, "cells.3 is a named pipe (FIFO), not a regular file"},
		"a socket": {func(_, file string) error {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: file})
			if err == nil {
				l.SetUnlinkOnClose(false)
				err = l.Close()
			}
			return err
		}, "cells.3 is a socket, not a regular file"},
		"a device": {func(_, file string) error { return syscall.Mknod(file, syscall.S_IFCHR|0o600, 1<<8|5) }, "cells.3 is a device, not a regular file"},
		"a link":   {func(_, file string) error { return os.Symlink("/etc/hostname", file) }, "cells.3 is a symbolic link, not a regular file"},
		"another user's": {func(_, file string) error {
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				return err
			}
			return os.Chown(file, 54321, -1)
		}, "cells.3 belongs to another user (uid 54321, "},
		"one that others write": {func(_, file string) error {
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				return err
			}
			return os.Chmod(file, 0o666)
		}, "cells.3 (mode 0666): delete it"},
		"in a directory that others write": {func(dir, _ string) error { return os.Chmod(dir, 0o777) }, "(mode 0777): make it writable by its owner only"},
		"in another user's directory":      {func(dir, _ string) error { return os.Chown(dir, 54321, -1) }, "belongs to another user (uid 54321, "},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := row.set(dir, filepath.Join(dir, "cells.3")); err != nil {
				if os.Geteuid() != 0 {
					t.Skipf("SKIPPED: only root can make it: %v", err)
				}
				t.Fatal(err)
			}
			out, code := ends(t, dir, "run", "--name", "load", "--", "echo", "ran")
			if code != 0 || !strings.Contains(out, "ran\n") || strings.Count(out, "\n") != 2 ||
				!strings.Contains(out, "WARN: Circuit breakers are not shared with other processes: ") || !strings.Contains(out, row.why) {
				t.Errorf("run: exit code %d and\n%s\nwant 0, and one warning with %q", code, out, row.why)
			}
			out, code = ends(t, dir, "status")
			if code != 1 || !strings.Contains(out, row.why) || strings.Count(out, "\n") != 1 {
				t.Errorf("status: exit code %d and\n%s\nwant 1, and one line with %q", code, out, row.why)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 1 {
				t.Errorf("left there: %v, %v", left, err)
			}
		})
	}
}

// Files of other versions are named, whether this one has a file yet or not, and
// left alone.
func TestStatusNamesFilesOfOtherVersions(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	written := map[string][]byte{}
	for name, version := range map[string]uint32{"cells": 2, "cells.4": 4} {
		written[name] = append(binary.NativeEndian.AppendUint32([]byte("perdure\n"), version), "and the rest"...)
		if err := os.WriteFile(file(name), written[name], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	lines := ""
	for name, version := range map[string]int{"cells": 2, "cells.4": 4} {
		lines += fmt.Sprintf("Another version of perdure has its own circuit breakers in %s (format version %d). They are not shared with this version, which uses %s (format version 3).\n",
			file(name), version, file("cells.3"))
	}
	for _, want := range []string{"No circuit breakers yet on this host: " + file("cells.3") + " does not exist.\n", "op:load  closed"} {
		out, code := ends(t, dir, "status")
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("exit code %d, want 0 and %q in\n%s", code, want, out)
		}
		for line := range strings.Lines(lines) {
			if strings.Count(out, line) != 1 {
				t.Errorf("want once %q in\n%s", line, out)
			}
		}
		if out, code := ends(t, dir, "run", "--name", "load", "--", "true"); code != 0 || out != "" {
			t.Errorf("a run: exit code %d and %q", code, out)
		}
	}
	out, _ := ends(t, dir, "status", "--json")
	want := fmt.Sprintf(`"path":%q,"version":3,"other_versions":[{"path":%q,"version":2},{"path":%q,"version":4}]`, file("cells.3"), file("cells"), file("cells.4"))
	if !strings.Contains(out, want) {
		t.Errorf("want %s in\n%s", want, out)
	}
	for name, content := range written {
		if now, err := os.ReadFile(file(name)); err != nil || !bytes.Equal(now, content) {
			t.Errorf("%s has changed (%v)", name, err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 3 {
		t.Errorf("the directory has %v (%v), want three files", entries, err)
	}
}
