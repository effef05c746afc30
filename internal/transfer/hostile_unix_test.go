//go:build unix

package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

const size = 3 << 20

// interrupted leaves a part of b behind for a file x in a new directory, and returns the directory and the part's own.
func interrupted(t *testing.T, b []byte) (dir, staging string) {
	t.Helper()
	dir = t.TempDir()
	m := getter(b)
	m.fail = func() int { return 2 << 20 }
	f := create(t, dir, transfer.Options{Source: "s", Piece: 1 << 20, Parallel: -1})
	if err := f.Fetch(t.Context(), m); !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	f.Close()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%v %v, want a staging directory", entries, err)
	}
	return dir, filepath.Join(dir, entries[0].Name())
}

// finish fetches x in the directory, and returns how many bytes were resumed.
func finish(t *testing.T, dir string, b []byte) int64 {
	t.Helper()
	f := create(t, dir, transfer.Options{Source: "s", Piece: 1 << 20})
	defer f.Close()
	if err := f.Fetch(t.Context(), getter(b)); err != nil {
		t.Fatal(err)
	}
	r, err := f.Commit()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "x"))
	if err != nil || !bytes.Equal(got, b) {
		t.Errorf("x has %d bytes, or others than were sent: %v", len(got), err)
	}
	return r.Resumed
}

// TestLeftoversAreBelieved tries what may be in place of the leftovers of an earlier process: the file is always
// right in the end, and foreign bytes do not count as resumed.
func TestLeftoversAreBelieved(t *testing.T) {
	b := content(3, size)
	for name, c := range map[string]struct {
		change  func(t *testing.T, dir, staging string) // what happens to it
		resumed int64
		stays   bool // what is there is not ours, and is left alone
	}{
		"as it was": {func(*testing.T, string, string) {}, 2 << 20, false},
		"copied, as by cp, tar, rsync or a bucket": {func(t *testing.T, _, staging string) {
			t.Helper()
			run(t, "cp", "-a", staging, staging+"x")
			run(t, "rm", "-r", staging)
			run(t, "mv", staging+"x", staging)
		}, 0, true},
		"the part copied": {func(t *testing.T, _, staging string) {
			t.Helper()
			part := one(t, staging, ".part")
			run(t, "cp", "-a", part, part+"x")
			run(t, "mv", part+"x", part)
		}, 0, false},
		"the part's bytes changed in place": {func(t *testing.T, _, staging string) {
			t.Helper()
			write(t, one(t, staging, ".part"), 100, "EVIL")
		}, 1 << 20, false},
		"all of its pieces changed": {func(t *testing.T, _, staging string) {
			t.Helper()
			write(t, one(t, staging, ".part"), 100, "EVIL")
			write(t, one(t, staging, ".part"), 1<<20+100, "EVIL")
		}, 0, false},
		"the part cut": {func(t *testing.T, _, staging string) {
			t.Helper()
			check(t, os.Truncate(one(t, staging, ".part"), 1<<20+5))
		}, 1 << 20, false},
		"the part is a FIFO": {func(t *testing.T, _, staging string) {
			t.Helper()
			part := one(t, staging, ".part")
			check(t, os.Remove(part))
			check(t, syscall.Mkfifo(part, 0o600))
		}, 0, false},
		"the part is a link": {func(t *testing.T, dir, staging string) {
			t.Helper()
			part := one(t, staging, ".part")
			check(t, os.Rename(part, filepath.Join(dir, "moved")))
			check(t, os.Symlink(filepath.Join(dir, "moved"), part))
		}, 0, false},
		"the state is a FIFO": {func(t *testing.T, _, staging string) {
			t.Helper()
			state := one(t, staging, ".state")
			check(t, os.Remove(state))
			check(t, syscall.Mkfifo(state, 0o600))
		}, 0, false},
		"the state is of another format": {func(t *testing.T, _, staging string) {
			t.Helper()
			state := one(t, staging, ".state")
			text, err := os.ReadFile(state)
			check(t, err)
			check(t, os.WriteFile(state, bytes.Replace(text, []byte("perdure-part-"), []byte("perdure-part-9"), 1), 0o600))
		}, 0, false},
		"the state is garbage": {func(t *testing.T, _, staging string) {
			t.Helper()
			check(t, os.WriteFile(one(t, staging, ".state"), content(9, 100_000), 0o600))
		}, 0, false},
		"the state's last line is cut": {func(t *testing.T, _, staging string) {
			t.Helper()
			state := one(t, staging, ".state")
			info, err := os.Stat(state)
			check(t, err)
			check(t, os.Truncate(state, info.Size()-3))
		}, 1 << 20, false},
		"the directory is open to others": {func(t *testing.T, _, staging string) {
			t.Helper()
			check(t, os.Chmod(staging, 0o777))
		}, 0, true},
		"the directory is a link": {func(t *testing.T, _, staging string) {
			t.Helper()
			check(t, os.Rename(staging, staging+"x"))
			check(t, os.Symlink(staging+"x", staging))
		}, 0, true},
		"the owner file is of another directory": {func(t *testing.T, _, staging string) {
			t.Helper()
			check(t, os.WriteFile(filepath.Join(staging, "owner"), []byte(`{"format":"perdure-staging-2","inode":1}`), 0o600))
		}, 0, true},
		"the owner file is damaged": {func(t *testing.T, _, staging string) {
			t.Helper()
			write(t, filepath.Join(staging, "owner"), 12, "E")
		}, 0, false},
		"the owner file is cut": {func(t *testing.T, _, staging string) {
			t.Helper()
			info, err := os.Stat(filepath.Join(staging, "owner"))
			check(t, err)
			check(t, os.Truncate(filepath.Join(staging, "owner"), info.Size()-5))
		}, 0, false},
		"the owner file is of an earlier version": {func(t *testing.T, _, staging string) {
			t.Helper()
			reversion(t, staging, "1", "")
			state := one(t, staging, ".state")
			text, err := os.ReadFile(state)
			check(t, err)
			check(t, os.WriteFile(state, bytes.Replace(text, []byte("perdure-part-"), []byte("perdure-part-9"), 1), 0o600))
		}, 0, false},
		"the owner file is of a later version": {func(t *testing.T, _, staging string) {
			t.Helper()
			reversion(t, staging, "33", " and more")
		}, 2 << 20, false},
		"copied, and the owner file of another version": {func(t *testing.T, _, staging string) {
			t.Helper()
			reversion(t, staging, "1", "")
			run(t, "cp", "-a", staging, staging+"x")
			run(t, "rm", "-r", staging)
			run(t, "mv", staging+"x", staging)
		}, 0, true},
		"copied, and the owner file damaged": {func(t *testing.T, _, staging string) {
			t.Helper()
			run(t, "cp", "-a", staging, staging+"x")
			run(t, "rm", "-r", staging)
			run(t, "mv", staging+"x", staging)
			write(t, filepath.Join(staging, "owner"), 12, "E")
		}, 0, true},
		"the owner file is a FIFO": {func(t *testing.T, _, staging string) {
			t.Helper()
			check(t, os.Remove(filepath.Join(staging, "owner")))
			check(t, syscall.Mkfifo(filepath.Join(staging, "owner"), 0o600))
		}, 0, true},
		"it is another user's": {func(t *testing.T, _, staging string) {
			t.Helper()
			if os.Geteuid() != 0 {
				t.Skip("only root can give files away")
			}
			check(t, os.Chown(staging, 12345, 12345))
		}, 0, true},
		"the part is another user's": {func(t *testing.T, _, staging string) {
			t.Helper()
			if os.Geteuid() != 0 {
				t.Skip("only root can give files away")
			}
			check(t, os.Chown(one(t, staging, ".part"), 12345, 12345))
		}, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir, staging := interrupted(t, b)
			c.change(t, dir, staging)
			if resumed := finish(t, dir, b); resumed != c.resumed {
				t.Errorf("%d bytes were resumed, want %d", resumed, c.resumed)
			}
			left, err := filepath.Glob(filepath.Join(dir, ".*"))
			if check(t, err); (len(left) > 0) != c.stays {
				t.Errorf("left: %v, want something: %v", left, c.stays)
			}
		})
	}
}

// reversion rewrites a staging directory's owner file as that of another version, with that text after the JSON.
func reversion(t *testing.T, staging, version, behind string) {
	t.Helper()
	name := filepath.Join(staging, "owner")
	text, err := os.ReadFile(name)
	check(t, err)
	text = text[:bytes.IndexByte(text, '}')+1]
	text = bytes.Replace(text, []byte("perdure-staging-2"), []byte("perdure-staging-"+version), 1)
	check(t, os.WriteFile(name, append(text, behind...), 0o600))
}

// TestStagingCannotBeStolen replaces the files of a File while it works: Commit fails, or the file is right; nothing
// outside is written.
func TestStagingCannotBeStolen(t *testing.T) {
	b := content(4, size)
	for name, steal := range map[string]func(t *testing.T, dir, staging string){
		"the part": func(t *testing.T, _, staging string) {
			t.Helper()
			part := one(t, staging, ".part")
			check(t, os.Remove(part))
			check(t, os.WriteFile(part, []byte("EVIL"), 0o600))
		},
		"the part, by a link": func(t *testing.T, _, staging string) {
			t.Helper()
			part := one(t, staging, ".part")
			check(t, os.Remove(part))
			check(t, os.Symlink("/etc/hostname", part))
		},
		"the directory": func(t *testing.T, _, staging string) {
			t.Helper()
			part := filepath.Base(one(t, staging, ".part"))
			check(t, os.Rename(staging, staging+"x"))
			check(t, os.Mkdir(staging, 0o777))
			check(t, os.WriteFile(filepath.Join(staging, part), []byte("EVIL"), 0o600))
		},
		"the name, by a link": func(t *testing.T, dir, _ string) {
			t.Helper()
			check(t, os.Symlink(filepath.Join(dir, "victim"), filepath.Join(dir, "x")))
		},
		"the name, by a directory": func(t *testing.T, dir, _ string) {
			t.Helper()
			check(t, os.Mkdir(filepath.Join(dir, "x"), 0o777))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			check(t, os.WriteFile(filepath.Join(dir, "victim"), []byte("precious"), 0o600))
			f := create(t, dir, transfer.Options{Source: "s"})
			check(t, f.Fetch(t.Context(), getter(b)))
			steal(t, dir, one(t, dir, ".perdure-"))
			_, err := f.Commit()
			if _, ok := errors.AsType[*transfer.WriteError](err); !ok {
				t.Errorf("%v, want a WriteError", err)
			}
			f.Close()
			if got, err := os.ReadFile(filepath.Join(dir, "victim")); err != nil || string(got) != "precious" {
				t.Errorf("victim: %q, %v", got, err)
			}
			if _, bytes := f.Kept(); bytes != 0 {
				t.Error("a closed file says that it is kept")
			}
		})
	}
}

// TestTreeWritesThroughNoLink writes files below directories that are links, or become links meanwhile.
func TestTreeWritesThroughNoLink(t *testing.T) {
	for _, inside := range []bool{true, false} {
		for _, name := range []string{"link/x", "link/a/x", "a/link/x", "x", "a/x"} {
			dir, outside := t.TempDir(), t.TempDir()
			check(t, os.MkdirAll(filepath.Join(dir, "a"), 0o777))
			check(t, os.MkdirAll(filepath.Join(dir, "elsewhere", "a"), 0o777))
			check(t, os.MkdirAll(filepath.Join(outside, "a"), 0o777))
			to := outside
			if inside {
				to = filepath.Join(dir, "elsewhere")
			}
			link := filepath.Join(dir, name[:strings.Index(name+"link", "link")]+"link")
			if !strings.Contains(name, "link") {
				link, to = filepath.Join(dir, name), filepath.Join(to, "victim")
				check(t, os.WriteFile(to, []byte("precious"), 0o600))
			}
			check(t, os.Symlink(to, link))
			tree, err := transfer.OpenTree(dir, false)
			check(t, err)
			if f, err := tree.Create(name, transfer.Options{}); !errors.Is(err, transfer.ErrLink) {
				t.Errorf("%s, inside %v: %v, want ErrLink", name, inside, err)
				f.Close()
			} else if !strings.Contains(err.Error(), link) {
				t.Errorf("%v: want the name %s", err, link)
			}
			if f, err := tree.Open(name); err == nil {
				t.Errorf("%s was opened", name)
				_ = f.Close()
			}
			check(t, tree.Close(true))
			for _, d := range []string{outside, filepath.Join(dir, "elsewhere")} {
				_ = filepath.WalkDir(d, func(path string, e fs.DirEntry, err error) error {
					if err == nil && !e.IsDir() && e.Name() != "victim" {
						t.Errorf("%s was written", path)
					}
					return err
				})
			}
		}
	}
}

// TestTreeMeetsItsOwnNames writes files with the names of staging directories and of their content while those are in
// use; no leftovers remain.
func TestTreeMeetsItsOwnNames(t *testing.T) {
	dir := t.TempDir()
	for _, complete := range []bool{false, true} {
		tree, err := transfer.OpenTree(dir, false)
		check(t, err)
		big := createIn(t, tree, "d/x")
		m := getter(content(5, size))
		m.fail = func() int { return 1 << 20 }
		if err := big.Fetch(t.Context(), m); !complete && !errors.Is(err, errBroken) {
			t.Fatal(err)
		}
		staging := filepath.Base(one(t, filepath.Join(dir, "d"), ".perdure-"))
		for _, name := range []string{"d/.x.part", "d/.x.part.json", "d/.perdure-AAAAAAAAAAAAAAAAAAAAAAAAAA/owner"} {
			f := createIn(t, tree, name)
			check(t, f.Fetch(t.Context(), getter([]byte(name))))
			_, err := f.Commit()
			check(t, err)
			f.Close()
		}
		if !transfer.IsStaging(filepath.Join(dir, "d"), staging) {
			t.Errorf("%s is not known as a staging directory", staging)
		}
		if transfer.IsStaging(filepath.Join(dir, "d"), ".perdure-AAAAAAAAAAAAAAAAAAAAAAAAAA") {
			t.Error("a directory of a user's is taken for a staging directory")
		}
		big.Close()
		check(t, tree.Close(complete))
		if _, err := os.Stat(filepath.Join(dir, "d", staging)); (err == nil) == complete {
			t.Errorf("complete %v: %v", complete, err)
		}
	}
}

// An empty owner file is that of a process that was killed before it wrote the file, but not if it has the mode of a
// file of the user's own, in a directory of the user's own that no other user may enter.
func TestEmptyOwnerFile(t *testing.T) {
	for mode, ours := range map[fs.FileMode]bool{0o600: false, 0o700: true} {
		dir, name := t.TempDir(), ".perdure-AAAAAAAAAAAAAAAAAAAAAAAAAA"
		owner := filepath.Join(dir, name, "owner")
		check(t, os.Mkdir(filepath.Join(dir, name), 0o700))
		check(t, os.WriteFile(owner, nil, mode))
		if got := transfer.IsStaging(dir, name); got != ours {
			t.Errorf("mode %v: it is a staging directory: %v, want %v", mode, got, ours)
		}
		tree, err := transfer.OpenTree(dir, false)
		check(t, err)
		f := createIn(t, tree, "x")
		check(t, f.Fetch(t.Context(), getter([]byte("x"))))
		_, err = f.Commit()
		check(t, err)
		f.Close()
		check(t, tree.Close(true))
		if _, err := os.Lstat(owner); errors.Is(err, fs.ErrNotExist) != ours {
			t.Errorf("mode %v, after a copy: %v", mode, err)
		}
	}
}

// Several interrupted copies of one tree leave a staging directory each: the next complete copy removes them all, and
// no other directory.
func TestTreeClearsWhatSeveralHaveLeft(t *testing.T) {
	dir := t.TempDir()
	var trees []*transfer.Tree
	for range 3 {
		tree, err := transfer.OpenTree(dir, false)
		check(t, err)
		trees = append(trees, tree)
		f, m := createIn(t, tree, "d/x"), getter(content(5, size))
		m.fail = func() int { return 1 << 20 }
		if err := f.Fetch(t.Context(), m); !errors.Is(err, errBroken) {
			t.Fatal(err)
		}
		f.Close()
	}
	for _, tree := range trees {
		check(t, tree.Close(false))
	}
	check(t, os.Mkdir(filepath.Join(dir, "d", ".perdure-AAAAAAAAAAAAAAAAAAAAAAAAAA"), 0o755)) // a user's
	if left, _ := filepath.Glob(filepath.Join(dir, "d", ".perdure-*")); len(left) != 4 {
		t.Fatalf("%v; want one of each copy, and the user's", left)
	}
	tree, err := transfer.OpenTree(dir, false)
	check(t, err)
	f := createIn(t, tree, "d/x")
	check(t, f.Fetch(t.Context(), getter(content(5, size))))
	_, err = f.Commit()
	check(t, errors.Join(err, tree.Close(true)))
	if left, _ := filepath.Glob(filepath.Join(dir, "d", ".perdure-*")); len(left) != 1 || !strings.HasSuffix(left[0], "AAAA") {
		t.Errorf("%v; want only the user's", left)
	}
}

func createIn(t *testing.T, tree *transfer.Tree, name string) *transfer.File {
	t.Helper()
	f, err := tree.Create(name, transfer.Options{Source: name, Piece: 1 << 20, Parallel: -1})
	check(t, err)
	return f
}

// TestSizeBeyondTheDisk announces sizes that no disk has: nothing is allocated for them.
func TestSizeBeyondTheDisk(t *testing.T) {
	for _, announced := range []int64{1 << 62, 1<<63 - 1, 1 << 50} {
		dir := t.TempDir()
		f := create(t, dir, transfer.Options{Source: "s"})
		m := getter([]byte("short"))
		m.version.Size = announced
		m.ranges = false
		if err := f.Fetch(t.Context(), m); err == nil {
			t.Errorf("%d bytes were fetched", announced)
		} else if e, ok := errors.AsType[*transfer.SizeError](err); !ok || e.Size != announced {
			t.Errorf("%d: %v, want a SizeError", announced, err)
		}
		f.Close()
	}
}

// TestChangesDuringTransfer serves another version from some request on: the file has one version only.
func TestChangesDuringTransfer(t *testing.T) {
	first, second := content(6, size), content(7, size+1)
	other := getter(second)
	other.version.ETag = `"b"`
	for after := range int64(5) {
		dir := t.TempDir()
		f := create(t, dir, transfer.Options{Source: "s", Piece: 256 << 10})
		check(t, f.Fetch(t.Context(), &changing{after: after, first: getter(first), second: other}))
		r, err := f.Commit()
		check(t, err)
		f.Close()
		got, err := os.ReadFile(filepath.Join(dir, "x"))
		check(t, err)
		if !bytes.Equal(got, first) && !bytes.Equal(got, second) {
			t.Errorf("after %d requests: %d bytes that are of neither version", after, r.Bytes)
		}
	}
}

// A changing Getter serves another resource after some requests.
type changing struct {
	after         int64
	requests      atomic.Int64
	first, second *memory
}

func (c *changing) Get(ctx context.Context, r transfer.Range, of *transfer.Version) (*transfer.Response, error) {
	m := c.first
	if c.requests.Add(1) > c.after {
		m = c.second
	}
	return m.Get(ctx, r, of)
}

// one returns the only entry of a directory whose name contains text.
func one(t *testing.T, dir, text string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	check(t, err)
	found := ""
	for _, e := range entries {
		if strings.Contains(e.Name(), text) && e.Name() != ".perdure-AAAAAAAAAAAAAAAAAAAAAAAAAA" {
			if found != "" {
				t.Fatalf("%s holds several %s", dir, text)
			}
			found = filepath.Join(dir, e.Name())
		}
	}
	if found == "" {
		t.Fatalf("%s holds no %s", dir, text)
	}
	return found
}

func write(t *testing.T, path string, at int64, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	check(t, err)
	_, err = f.WriteAt([]byte(text), at)
	check(t, errors.Join(err, f.Close()))
}

func run(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A file, or its directory, that another process replaces during the transfer is an error, and stays.
func TestReplacedMeanwhile(t *testing.T) {
	for name, replace := range map[string]func(dir string) error{
		"another file": func(dir string) error {
			other := filepath.Join(dir, "other")
			return errors.Join(os.WriteFile(other, []byte("precious"), 0o600), os.Rename(other, filepath.Join(dir, "sub", "x")))
		},
		"a link": func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "sub", "x")), os.Symlink("../precious", filepath.Join(dir, "sub", "x")))
		},
		"the directory, by a link": func(dir string) error {
			return errors.Join(os.Rename(filepath.Join(dir, "sub"), filepath.Join(dir, "away")), os.Symlink(".", filepath.Join(dir, "sub")))
		},
		"the directory, by another": func(dir string) error {
			return errors.Join(os.Rename(filepath.Join(dir, "sub"), filepath.Join(dir, "away")), os.Mkdir(filepath.Join(dir, "sub"), 0o700))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, err := range []error{os.Mkdir(filepath.Join(dir, "sub"), 0o700), os.WriteFile(filepath.Join(dir, "sub", "x"), []byte("old"), 0o600), os.WriteFile(filepath.Join(dir, "precious"), []byte("precious"), 0o600)} {
				if err != nil {
					t.Fatal(err)
				}
			}
			tree, err := transfer.OpenTree(dir, false)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tree.Close(true) }()
			f, err := tree.Create("sub/x", transfer.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			_, err = f.Write([]byte("new"))
			if err := errors.Join(err, replace(dir)); err != nil {
				t.Fatal(err)
			}
			if _, err := f.Commit(); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "sub")) {
				t.Errorf("error %v, want one with the name", err)
			}
			for _, path := range []string{"sub/x", "away/x", "precious", "x"} {
				if got, err := os.ReadFile(filepath.Join(dir, path)); err == nil && string(got) == "new" {
					t.Errorf("%s was written", path)
				}
			}
		})
	}
}

// The leftovers of a process that was killed after its rename are removed by the next one that writes the file, also if
// it keeps the staging directory, as in a tree: there each next one used to fail, because the state existed.
func TestKilledAfterTheRename(t *testing.T) {
	b := content(7, size)
	for _, inTree := range []bool{false, true} {
		dir := t.TempDir()
		fetch := func(m *memory) error {
			tree, err := transfer.OpenTree(dir, false)
			check(t, err)
			var f *transfer.File
			if inTree {
				f = createIn(t, tree, "x")
			} else {
				f = create(t, dir, transfer.Options{Source: "x"})
			}
			if err = f.Fetch(t.Context(), m); err == nil {
				_, err = f.Commit()
			}
			f.Close()
			check(t, tree.Close(err == nil))
			return err
		}
		broken := getter(b)
		broken.fail = func() int { return 2 << 20 }
		if err := fetch(broken); !errors.Is(err, errBroken) {
			t.Fatal(err)
		}
		part := one(t, one(t, dir, ".perdure-"), ".part")
		check(t, os.Rename(part, filepath.Join(dir, "x")))
		check(t, fetch(getter(b)))
		only(t, dir, b)
	}
}
