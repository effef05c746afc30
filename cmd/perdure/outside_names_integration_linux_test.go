//go:build integration

package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// namesMade returns a function that returns the names of all that came to be in a
// directory since, also of what is gone again.
func namesMade(t *testing.T, dir string) func() []string {
	t.Helper()
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if _, err := syscall.InotifyAddWatch(fd, dir, syscall.IN_CREATE|syscall.IN_MOVED_TO); err != nil {
		t.Fatal(err)
	}
	return func() (names []string) {
		buffer := make([]byte, 1<<20)
		n, _ := syscall.Read(fd, buffer) // an error ends the list
		for events := buffer[:max(n, 0)]; len(events) >= syscall.SizeofInotifyEvent; {
			end := syscall.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(events[12:]))
			names = append(names, string(bytes.TrimRight(events[syscall.SizeofInotifyEvent:end], "\x00")))
			events = events[end:]
		}
		return names
	}
}

// madeUp returns the names that the command has, or might have, for what it makes
// for a file of that name.
func madeUp(name string) (names []string) {
	for _, pattern := range []string{".%s.part", ".%s.part.json", ".%s.part.json.new", ".%s.part.new", ".%s.part.lock", ".%s.new", ".%s.tmp", "%s.part", "%s.part.json", ".%s"} {
		names = append(names, fmt.Sprintf(pattern, name))
	}
	return names
}

// ours returns the names that the command makes for itself beside a file of that
// name: those that are known, and those that it is seen to make now, again and again, when it
// fetches a page and an object of 20 MiB, and fails to.
func ours(t *testing.T, name string) []string {
	t.Helper()
	s := newScene(t)
	names := map[string]bool{}
	for _, known := range madeUp(name) {
		names[known] = true
	}
	made := namesMade(t, s.dir)
	for _, kind := range []string{"http", "s3", "file"} {
		from := s.from(t, kind, "x", mib20())
		s.copies(t, "x", from, filepath.Join(s.dir, name))
		s.copies(t, "x", from, filepath.Join(s.dir, name), "--checksum", "md5:00000000000000000000000000000000")
	}
	seen := map[string]int{}
	for _, found := range made() {
		if seen[found]++; seen[found] > 1 || seen[found] == 1 && len(names) < 14 { // most of what is seen once is random
			names[found] = true
		}
	}
	delete(names, name)
	t.Logf("names beside %s: %q", name, slices.Sorted(maps.Keys(names)))
	return slices.Sorted(maps.Keys(names))
}

// Keys whose names are those of our own files come down like any other, whatever
// they hold and whatever else is on its way.
func TestKeysNamedLikeOurOwnComeDown(t *testing.T) {
	names := ours(t, "x.bin")
	for _, c := range []struct {
		name        string
		large, ours int
	}{{"large, and small ones of our names", 20_000_000, 9}, {"all are large", 20_000_000, 17_000_000}, {"small, and large ones", 9, 17_000_000}, {"all are empty", 0, 0}} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t)
			want := map[string]string{"x.bin": string(generated(c.large))}
			for i, name := range names {
				content := generated(c.ours + i)
				slices.Reverse(content)
				want[name] = string(content)
				if i%4 != 0 && name != ".x.bin.part" { // the others cost time only
					want[name] = string(content[:len(content)/1000])
				}
			}
			for _, name := range names {
				want["sub/"+name+"/owner"], want["sub/"+name+"/x.bin"] = "a directory has such a name", name
			}
			for name, content := range want {
				s.from(t, "s3", "c1/"+name, []byte(content))
			}
			for range 2 {
				s.runs(t, 0, "-r", "s3://bikes/c1", s.dir)
				sameAs(t, "down", below(t, s.dir), want)
			}
		})
	}
}

// Files with such names go up like any other.
func TestFilesNamedLikeOurOwnGoUp(t *testing.T) {
	s := newScene(t)
	want := map[string]string{"x.bin": string(mib20())}
	for i, name := range ours(t, "x.bin") {
		want[name] = fmt.Sprint("file ", i)
		want["sub/"+name+"/owner"], want["sub/"+name+"/x.bin"] = "a directory has such a name", name
	}
	maps.Copy(want, map[string]string{
		"large/.x.bin.part": string(generated(17_000_000)), "large/x.bin": string(mib20()), ".d.part/.x.part.json": "{}", ".x.part.d/x": "",
		"json/.x.bin.part.json": `{"version":1}`, "json/.x.bin.part": "x",
	})
	planted(t, s.dir, want)
	for range 2 {
		s.runs(t, 0, "-r", s.dir, "s3://bikes/up")
		sameAs(t, "up", s.objects("up/"), want)
		sameAs(t, "what went up", below(t, s.dir), want)
	}
}

// What the user has beside DST stays as it is, also where it has a name of ours,
// whether the copy succeeds, fails or is killed.
func TestFilesBesideDSTStay(t *testing.T) {
	names := ours(t, "big")
	for _, kind := range []string{"http", "s3", "file", "-"} {
		for how, flags := range map[string][]string{
			"success": nil, "another checksum": {"--checksum", "md5:00000000000000000000000000000000"}, "no resume": {"--no-resume"},
		} {
			for _, content := range []string{"{}", string(generated(100_000))} {
				if (kind == "file" || kind == "-") && (content == "{}" || how == "no resume") {
					continue // they cost time, and are the same
				}
				t.Run(fmt.Sprintf("%s, %s, %d bytes", kind, how, len(content)), func(t *testing.T) {
					s := newScene(t)
					before := map[string]os.FileInfo{}
					want := map[string]string{}
					for _, name := range names {
						path := filepath.Join(s.dir, name)
						write(t, path, []byte(content))
						before[path], _ = os.Stat(path)
						want[name] = content
					}
					e := s.copies(t, "big", s.from(t, kind, "big", mib20()), s.to("file", "big"), flags...)
					if failed := how == "another checksum"; failed != (e.code == 1) || !failed && e.code != 0 {
						t.Errorf("%v", e)
					} else if !failed {
						want["big"] = string(mib20())
					}
					sameAs(t, "after it", below(t, s.dir), want)
					for path, info := range before {
						if now, err := os.Lstat(path); err != nil || !os.SameFile(now, info) || now.Mode() != info.Mode() {
							t.Errorf("%s is another file (%v)", path, err)
						}
					}
				})
			}
		}
	}
}

// Names up to the longest that a directory takes come down, and go up, as they
// are; longer ones are refused by name.
func TestLongestNames(t *testing.T) {
	s := newScene(t)
	want := map[string]string{}
	for n := 235; n <= 255; n++ {
		want[strings.Repeat("n", n)] = fmt.Sprint(n)
		want["d/"+strings.Repeat("日", n/3)+strings.Repeat("x", n%3)] = fmt.Sprint("wide ", n)
	}
	for _, n := range []int{241, 248, 255} {
		want["large/"+strings.Repeat("l", n)] = string(generated(17_000_000 + n))
	}
	for name, content := range want {
		s.from(t, "s3", "long/"+name, []byte(content))
	}
	s.runs(t, 0, "-r", "s3://bikes/long", s.dir)
	sameAs(t, "down", below(t, s.dir), want)
	s.runs(t, 0, "-r", s.dir, "s3://bikes/again")
	sameAs(t, "up", s.objects("again/"), want)
	for _, kind := range []string{"http", "s3", "file", "-"} {
		for _, size := range []int{3, 17_000_000} {
			name := strings.Repeat("y", 255)
			content := generated(size)
			from := s.from(t, kind, "y", content)
			if e := s.copies(t, "y", from, s.to("file", name)); e.code != 0 || !bytes.Equal(s.came("file", name, e), content) {
				t.Errorf("%s, %d bytes, to a name of 255: %v", kind, size, e)
			}
		}
		tooLong := strings.Repeat("z", 256)
		if e := s.copies(t, "y", s.from(t, kind, "y", []byte("y")), s.to("file", tooLong)); e.code != 1 || !strings.Contains(e.log, tooLong) {
			t.Errorf("%s to a name of 256: want exit code 1 and the name, got %v", kind, e)
		}
	}
}

// What a process has left in the state directory that was killed while it made the
// file of the shared breakers is gone when a later one has run, though the file
// has been made since.
func TestLeftoversOfSharedBreakersGo(t *testing.T) {
	s := newScene(t)
	s.environ = append(s.environ, "PERDURE_STORE=host")
	state, from := filepath.Join(s.home, "state"), s.from(t, "file", "x", []byte("x"))
	if err := os.MkdirAll(state, 0o700); err != nil {
		t.Fatal(err)
	}
	made := namesMade(t, state)
	s.runs(t, 0, from, "s3://bikes/x")
	for _, name := range made() {
		if path := filepath.Join(state, name); strings.HasPrefix(name, ".") {
			write(t, path, make([]byte, 1000))
			if old := time.Now().Add(-time.Hour); os.Chtimes(path, old, old) != nil {
				t.Fatal("it gets no time")
			}
		}
	}
	s.runs(t, 0, from, "s3://bikes/x")
	for name := range below(t, state) {
		if strings.HasPrefix(name, ".") {
			t.Errorf("%s is left", name)
		}
	}
}
