package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"syscall"
	"testing"
)

// reads returns a function that returns the names of the files in dir, not below it, that were read since its last call. The
// kernel counts, so no reader is missed.
func reads(t *testing.T, dir string) func() map[string]int {
	t.Helper()
	fd, err := syscall.InotifyInit1(syscall.IN_NONBLOCK | syscall.IN_CLOEXEC)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if _, err := syscall.InotifyAddWatch(fd, dir, syscall.IN_ACCESS); err != nil {
		t.Fatal(err)
	}
	return func() map[string]int {
		names := make(map[string]int)
		buffer := make([]byte, 64<<10)
		for {
			n, err := syscall.Read(fd, buffer)
			if err != nil || n <= 0 {
				return names
			}
			for event := buffer[:n]; len(event) >= syscall.SizeofInotifyEvent; {
				mask, length := binary.NativeEndian.Uint32(event[4:]), binary.NativeEndian.Uint32(event[12:])
				name := event[syscall.SizeofInotifyEvent:][:length]
				if mask&syscall.IN_ISDIR == 0 {
					names[string(bytes.TrimRight(name, "\x00"))]++
				}
				event = event[syscall.SizeofInotifyEvent+int(length):]
			}
		}
	}
}

// An unchanged tree costs a listing: no file is read, and no object is requested. The first run has remembered the checksums,
// whether it uploaded or compared.
func TestUnchangedTreeIsNotRead(t *testing.T) {
	s := startTestServers(t)
	dir, home := t.TempDir(), t.TempDir()
	files := treeOf{"a": "first", "b c": "second", "large": string(generated(20 << 20)), "empty": ""}
	aged(t, dir, files)
	read := reads(t, dir)
	run := func(home string, copied, requests int, args ...string) {
		t.Helper()
		s.store.Reset()
		code, log := inHome(t, s, home, append([]string{"copy", "-r", dir, "s3://bikes/raw"}, args...)...)
		if code != 0 || !strings.Contains(log, fmt.Sprintf("Copied %d file", copied)) || !strings.Contains(log, fmt.Sprintf("%d skipped", len(files)-copied)) {
			t.Fatalf("code %d: %s", code, log)
		}
		if n := len(s.store.Requests()); requests > 0 && n != requests {
			t.Errorf("%d requests, want %d: %s", n, requests, log)
		}
	}
	want := func(names ...string) {
		t.Helper()
		got := read()
		for _, name := range names {
			if got[name] == 0 {
				t.Errorf("%q was not read", name)
			}
			delete(got, name)
		}
		if len(got) > 0 {
			t.Errorf("these were read: %v", got)
		}
	}

	run(home, 4, 0)
	want("a", "b c", "large")
	run(home, 0, 1)
	want()
	if code, log := inHome(t, s, home, "copy", "-r", dir, "s3://bikes/raw", "--dry-run"); code != 0 || strings.Count(log, "(same checksum)") != 4 {
		t.Errorf("code %d: %s", code, log)
	}
	want()

	other := t.TempDir() // another user, who has not uploaded
	run(other, 0, 0)
	want("a", "b c", "large")
	run(other, 0, 1)
	want()
	run(other, 0, 0, "--no-cache")
	want("a", "b c", "large")

	// One byte changes; size and modification time stay.
	aged(t, dir, treeOf{"a": "FIRST"})
	run(home, 1, 0)
	want("a")
	if got := readSide(t, s, "s3://bikes/raw"); got["a"] != "FIRST" {
		t.Errorf("the store has %q", got["a"])
	}
	run(home, 0, 1)
	want()
}
