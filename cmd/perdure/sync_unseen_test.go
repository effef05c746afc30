package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// With nothing to copy, --delete still removes what DST has, if that is allowed.
func TestSyncWithNothingToCopy(t *testing.T) {
	s := startTestServers(t)
	old := treeOf{"a": "1", "deep/b": "2"}
	other := t.TempDir()
	treeOf{"x": "1"}.put(t, s, other)
	treeOf{"x": "1"}.put(t, s, "s3://bikes/x")
	for n, row := range []struct {
		from, to string
		args     string
		code     int
		says     string
	}{
		{t.TempDir(), "s3://bikes/0", "--allow-empty", 0, "2 deleted"},
		{"s3://bikes/none", t.TempDir(), "--allow-empty", 0, "2 deleted"},
		{"s3://bikes/none", "s3://bikes/2", "--allow-empty", 0, "2 deleted"},
		{t.TempDir(), "s3://bikes/3", "--allow-empty --dry-run", 0, "and delete 2"},
		{"s3://bikes/none", t.TempDir(), "--allow-empty --dry-run", 0, "and delete 2"},
		{t.TempDir(), "s3://bikes/5", "", 1, "nothing to copy"},
		{other, "s3://bikes/6", "--shard 1/64", 0, "0 failed"},
		{"s3://bikes/x", filepath.Join(t.TempDir(), "absent"), "--dry-run", 0, "and delete 0"},
	} {
		want := old
		if strings.HasSuffix(row.to, "absent") {
			want = nil
		} else {
			old.put(t, s, row.to)
		}
		if row.code == 0 && row.args == "--allow-empty" {
			want = nil
		}
		code, log := inProcess(t, s, append([]string{"sync", row.from, row.to, "--delete", "--max-delete", "9"}, strings.Fields(row.args)...)...)
		if code != row.code || !strings.Contains(log, row.says) {
			t.Errorf("row %d: code %d, want %d and %q:\n%s", n, code, row.code, row.says, log)
		}
		if _, err := os.Stat(row.to); errors.Is(err, os.ErrNotExist) && !strings.HasPrefix(row.to, "s3:") {
			continue
		}
		if got := readSide(t, s, row.to); !maps.Equal(got, want) {
			t.Errorf("row %d: DST has %v, want %v", n, got, want)
		}
	}
}

// Files below a directory that cannot be listed may be among the chosen: the run fails and deletes none of them, whatever the
// patterns say of the directory's own name, and in each shard. Only a directory that is excluded as a whole does not matter.
func TestSyncDeletesNothingBelowAnUnlistedDirectory(t *testing.T) {
	s := startTestServers(t)
	files := treeOf{"a.csv": "1", "b.csv": "2", "sub/c.csv": "3", "sub/d.csv": "4"}
	hide := map[string]func(sub string) (links string, err error){
		"a link":        func(sub string) (string, error) { return "fail", os.Symlink(t.TempDir(), sub) },
		"a loop":        func(sub string) (string, error) { return "follow", os.Symlink(".", sub) },
		"a lost target": func(sub string) (string, error) { return "follow", os.Symlink("not-mounted", sub) },
		"not permitted": func(sub string) (string, error) { return "fail", os.Mkdir(sub, 0) },
	}
	if runtime.GOOS == "windows" || os.Geteuid() == 0 {
		delete(hide, "not permitted") // it is
	}
	for name, of := range hide {
		dir := t.TempDir()
		treeOf{"a.csv": "1", "b.csv": "2"}.put(t, s, dir)
		links, err := of(filepath.Join(dir, "sub"))
		if err != nil {
			t.Skip(err)
		}
		for n, row := range []struct {
			args string
			code int
		}{
			{"--include *.csv", 1},
			{"--exclude * --include *.csv", 1},
			{"--exclude sub/d.csv", 1},
			{"--exclude sub/ --include c.csv", 1},
			{"--shard 1/2", 1},
			{"--shard 2/2", 1},
			{"--exclude sub/", 0},
			{"--exclude /sub", 0},
			{"--include *.csv --exclude s*/", 0},
		} {
			place := fmt.Sprintf("s3://bikes/%s/%d", strings.ReplaceAll(name, " ", "-"), n)
			files.put(t, s, place)
			code, log := inProcess(t, s, append([]string{"sync", dir, place, "--delete", "--max-delete", "9", "--links", links}, strings.Fields(row.args)...)...)
			if got := readSide(t, s, place); code != row.code || !maps.Equal(got, files) {
				t.Errorf("%s, %s: code %d, want %d; DST has %v\n%s", name, row.args, code, row.code, got, log)
			}
		}
	}
}

// What DST has of a skipped link stays, as what is not chosen does.
func TestSyncKeepsWhatIsBelowSkippedLinks(t *testing.T) {
	s := startTestServers(t)
	dir := t.TempDir()
	treeOf{"a": "1", "z": "2"}.put(t, s, dir)
	if err := os.Symlink(t.TempDir(), filepath.Join(dir, "sub")); err != nil {
		t.Skip(err)
	}
	treeOf{"a": "1", "sub": "3", "sub-x/y": "4", "sub/b": "5", "sub/d/e": "6", "subx": "7"}.put(t, s, "s3://bikes/x")
	want := treeOf{"a": "1", "sub": "3", "sub/b": "5", "sub/d/e": "6", "z": "2"}
	code, log := inProcess(t, s, "sync", dir, "s3://bikes/x", "--delete", "--max-delete", "9", "--links", "skip")
	if got := readSide(t, s, "s3://bikes/x"); code != 0 || !maps.Equal(got, want) {
		t.Errorf("code %d, DST has %v, want %v\n%s", code, got, want, log)
	}
}

// A SRC that goes away during the copy, as when it is no longer mounted, is not taken for one that has lost its files.
func TestSyncDeletesNothingIfSourceGoesAway(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a directory in use cannot be renamed")
	}
	s := startTestServers(t)
	for name, row := range map[string]struct {
		then func(dir string) error // after dir was moved
		says string
	}{
		"absent":  {func(string) error { return nil }, "another directory was moved or mounted there"},
		"empty":   {func(dir string) error { return os.Mkdir(dir, 0o700) }, "another directory was moved or mounted there"},
		"another": {func(dir string) error { treeOf{"else": "1"}.put(t, s, dir); return nil }, "another directory was moved or mounted there"},
		"back":    {func(dir string) error { return os.Rename(dir+".away", dir) }, ""},
		"emptied": {func(dir string) error {
			return errors.Join(os.Rename(dir+".away", dir), os.Remove(filepath.Join(dir, "new")))
		}, "SRC had files when the copy began, and now has none"},
	} {
		dir, place := filepath.Join(t.TempDir(), "data"), "s3://bikes/"+name
		treeOf{"new": "1"}.put(t, s, dir)
		treeOf{"old": "1"}.put(t, s, place)
		s.store.Reset()
		s.store.SetScript(func(r s3test.Request) s3test.Fault {
			if r.Operation == "PutObject" {
				if err := errors.Join(os.Rename(dir, dir+".away"), row.then(dir)); err != nil {
					t.Error(err)
				}
			}
			return s3test.Fault{}
		})
		code, log := inProcess(t, s, "sync", dir, place, "--delete", "--max-delete", "9")
		s.store.SetScript(nil)
		_, kept := readSide(t, s, place)["old"]
		if kept != (row.says != "") || (code != 0) != kept || !strings.Contains(log, row.says) {
			t.Errorf("%s: code %d, old files are kept: %v\n%s", name, code, kept, log)
		}
	}
}

// A deletion that fails is not called a copy.
func TestSyncSaysWhatWasNotDeleted(t *testing.T) {
	s := startTestServers(t)
	dir := t.TempDir()
	treeOf{"a": "1"}.put(t, s, dir)
	treeOf{"a": "1", "b": "2"}.put(t, s, "s3://bikes/x")
	s.store.SetScript(s3test.Rules(s3test.Rule{Operation: "DeleteObjects", Fault: s3test.InternalError()}))
	if code, log := inProcess(t, s, "sync", dir, "s3://bikes/x", "--delete", "--max-attempts", "1"); code != 69 || !strings.Contains(log, "1 of 2 files were not deleted: x/b") {
		t.Errorf("code %d: %s", code, log)
	}
}

// What the store has deleted of an interrupted request is not known: it is neither deleted nor failed.
func TestSyncInterruptedWhileItDeletes(t *testing.T) {
	s := startTestServers(t)
	dir := t.TempDir()
	treeOf{"a": "1"}.put(t, s, dir)
	treeOf{"a": "1", "b": "2", "c": "3", "d": "4"}.put(t, s, "s3://bikes/x")
	ctx, interrupt := context.WithCancelCause(t.Context())
	s.store.SetScript(func(r s3test.Request) s3test.Fault {
		if r.Operation != "DeleteObjects" {
			return s3test.Fault{}
		}
		interrupt(&exit.Interrupted{Signal: os.Interrupt})
		return s3test.StallBody(10, 0)
	})
	code, log := inContext(ctx, t, s, t.TempDir(), "sync", dir, "s3://bikes/x", "--delete", "--max-delete", "9")
	if code != 130 || strings.Contains(log, "Failed") || !strings.Contains(log, " 1 skipped, 0 failed\n") || !strings.Contains(log, "stopped by signal: interrupt") {
		t.Errorf("code %d, want 130 and no failure:\n%s", code, log)
	}
}
