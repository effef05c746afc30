package main

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/testseed"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// secondStore starts another store, with credentials of its own in the profile "second".
func secondStore(t *testing.T, buckets ...string) *s3test.Server {
	t.Helper()
	store := s3test.Start(t, s3test.Options{Buckets: buckets})
	path := filepath.Join(t.TempDir(), "credentials")
	text := fmt.Sprintf("[second]\naws_access_key_id = %s\naws_secret_access_key = %s\n", store.AccessKey, store.SecretKey)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", path)
	return store
}

// From store to store, the store itself copies if it has both sides, and what the destination has is not copied again.
func TestTreesBetweenStores(t *testing.T) {
	s := startTestServers(t)
	if err := s.store.CreateBucket("other"); err != nil {
		t.Fatal(err)
	}
	second := secondStore(t, "bikes")
	want := map[string]string{"a": "first", "deep/b c": "second", "deep/ä": "", "deep/z": strings.Repeat("third", 1<<20)}
	for key, content := range want {
		if err := s.store.Store("bikes", "raw/"+key, []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct {
		to    *s3test.Server
		args  []string
		moved bool // through this process
	}{
		{s.store, []string{"s3://other/raw"}, false},
		{second, []string{"s3://bikes/raw", "--endpoint-url-dst", second.URL, "--profile-dst", "second"}, true},
	} {
		for round, copied := range []int{4, 0} {
			s.store.Reset()
			code, log := inProcess(t, s, append([]string{"copy", "-r", "s3://bikes/raw"}, row.args...)...)
			if code != 0 || !strings.Contains(log, fmt.Sprintf("Copied %d file", copied)) || !strings.Contains(log, fmt.Sprintf("%d skipped", 4-copied)) {
				t.Fatalf("to %q, round %d: code %d: %s", row.args, round, code, log)
			}
			if n := s.store.Count("GET", "/bikes/raw/"); n > 0 != (row.moved && round == 0) {
				t.Errorf("to %q, round %d: %d objects were read", row.args, round, n)
			}
		}
		bucket := strings.TrimSuffix(strings.TrimPrefix(row.args[0], "s3://"), "/raw")
		for key, content := range want {
			if got, ok := row.to.Object(bucket, "raw/"+key); !ok || string(got) != content {
				t.Errorf("to %q: %q has %d bytes, want %d", row.args, key, len(got), len(content))
			}
		}
	}
}

// A copy of a prefix into itself would have no end.
func TestATreeIsNotCopiedIntoItself(t *testing.T) {
	s := startTestServers(t)
	for _, pair := range [][2]string{{"s3://bikes/a", "s3://bikes/a"}, {"s3://bikes/a", "s3://bikes/a/b/"}, {"s3://bikes/a/b", "s3://bikes/a"}, {"s3://bikes", "s3://bikes/a"}} {
		if code, log := inProcess(t, s, "copy", "-r", pair[0], pair[1]); code != 64 || !strings.Contains(log, "neither in SRC nor around it") {
			t.Errorf("%q: code %d: %s", pair, code, log)
		}
	}
	if code, log := inProcess(t, s, "copy", "-r", "s3://bikes/a", "s3://bikes/ab", "--allow-empty"); code != 0 {
		t.Errorf("code %d: %s", code, log)
	}
}

// A treeOf is the content of one side of a sync, by name.
type treeOf map[string]string

// put makes a side, a directory or a prefix of a bucket, have these files.
func (c treeOf) put(t *testing.T, s *testServers, side string) {
	t.Helper()
	for name, content := range c {
		path, isObject := strings.CutPrefix(side, "s3://bikes/")
		path += "/" + name
		var err error
		if isObject {
			err = s.store.Store("bikes", path, []byte(content))
		} else if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			err = os.WriteFile(path, []byte(content), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// readSide returns the content of a side.
func readSide(t *testing.T, s *testServers, side string) treeOf {
	t.Helper()
	all := treeOf{}
	prefix, isObject := strings.CutPrefix(side, "s3://bikes/")
	if isObject {
		for _, key := range s.store.Keys("bikes") {
			if name, below := strings.CutPrefix(key, prefix+"/"); below {
				content, _ := s.store.Object("bikes", key)
				all[name] = string(content)
			}
		}
		return all
	}
	err := filepath.WalkDir(side, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		name, _ := filepath.Rel(side, path)
		all[filepath.ToSlash(name)] = string(content)
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return all
}

// randomTrees returns two trees that have some files in common, some of them with other bytes.
func randomTrees(r *rand.Rand) (from, to treeOf) {
	from, to = treeOf{}, treeOf{}
	for range 3 + r.IntN(12) {
		name := []string{"a", "b c", "ä", "x.csv", "a.b", "a-b", "%41", "d+e"}[r.IntN(8)]
		for range r.IntN(3) {
			name = []string{"dir", "a-", "z", "2024"}[r.IntN(4)] + "/" + name
		}
		content := strings.Repeat(name, 1+r.IntN(3))
		switch r.IntN(4) {
		case 0:
			from[name] = content
		case 1:
			to[name] = content
		case 2:
			from[name], to[name] = content, content
		default:
			from[name], to[name] = content, strings.ToUpper(content)
		}
	}
	return from, to
}

// After a sync, DST has all files of SRC; with --delete, no others. A dry run changes nothing and announces what is done.
func TestSync(t *testing.T) {
	s := startTestServers(t)
	seed := testseed.Of(t, 16)
	r := rand.New(rand.NewPCG(seed, 0))
	for n := range 24 {
		from, to := randomTrees(r)
		if len(from) == 0 {
			continue
		}
		sides := [][2]string{
			{filepath.Join(t.TempDir(), "from"), fmt.Sprintf("s3://bikes/%d/to", n)},
			{fmt.Sprintf("s3://bikes/%d/from", n), filepath.Join(t.TempDir(), "to")},
			{fmt.Sprintf("s3://bikes/%d/from", n), fmt.Sprintf("s3://bikes/%d/to", n)},
		}[n%3]
		from.put(t, s, sides[0])
		to.put(t, s, sides[1])
		args, want := []string{"sync", sides[0], sides[1]}, maps.Clone(to)
		if n%2 == 0 {
			args, want = append(args, "--delete", "--max-delete", "100"), treeOf{}
		}
		maps.Copy(want, from)
		_, dry := inProcess(t, s, append(args, "--dry-run")...)
		if got := readSide(t, s, sides[1]); !maps.Equal(got, to) {
			t.Fatalf("tree %d: a dry run changed %v to %v", n, to, got)
		}
		code, log := inProcess(t, s, args...)
		if got := readSide(t, s, sides[1]); code != 0 || !maps.Equal(got, want) {
			t.Errorf("tree %d, %q: code %d, DST has %v, want %v\n%s", n, args, code, got, want, log)
		}
		changed, deleted := 0, 0
		for name, content := range from {
			if had, ok := to[name]; !ok || had != content {
				changed++
			}
		}
		for name := range to {
			if _, ok := want[name]; !ok {
				deleted++
			}
		}
		if strings.Contains(dry, "()") {
			t.Errorf("tree %d: no reason:\n%s", n, dry)
		}
		if strings.Count(dry, "Would copy ") != changed+1 || strings.Count(dry, "Would delete ") != deleted {
			t.Errorf("tree %d: want %d to copy and %d to delete, announced:\n%s", n, changed, deleted, dry)
		}
	}
}

// Nothing is deleted when that would be too much, or when not all of SRC could be copied or listed.
func TestSyncDeletesNothingInDoubt(t *testing.T) {
	s := startTestServers(t)
	hundred := treeOf{}
	for n := range 100 {
		hundred[fmt.Sprintf("f%02d", n)] = "x"
	}
	dir := t.TempDir()
	treeOf{"f00": "x", "new": "y"}.put(t, s, dir)
	for name, row := range map[string]struct {
		args   []string
		script s3test.Script
		code   int
		says   string
	}{
		"more than half":  {nil, nil, 1, "nothing is deleted: 99 of the 101 files in DST are not in SRC, and at most 50 may be deleted; check SRC, or use --max-delete 99"},
		"more than asked": {[]string{"--max-delete", "98"}, nil, 1, "at most 98 may be deleted"},
		"none":            {[]string{"--max-delete", "0"}, nil, 1, "at most 0 may be deleted"},
		"a file failed":   {[]string{"--max-delete", "99"}, s3test.Rules(s3test.Rule{Method: "PUT", Fault: s3test.AccessDenied()}), 1, "1 of 2 files were not copied"},
		"no listing":      {[]string{"--max-delete", "99"}, s3test.Rules(s3test.Rule{Method: "GET", Nth: []int{2, 3, 4, 5, 6}, Fault: s3test.AccessDenied()}), 1, "list s3://bikes/"},
	} {
		t.Run(name, func(t *testing.T) {
			place := "s3://bikes/" + strings.ReplaceAll(name, " ", "-")
			hundred.put(t, s, place)
			s.store.Reset()
			s.store.SetScript(row.script)
			code, log := inProcess(t, s, append([]string{"sync", dir, place, "--delete"}, row.args...)...)
			s.store.SetScript(nil)
			if code != row.code || !strings.Contains(log, row.says) {
				t.Errorf("code %d, want %d and %q:\n%s", code, row.code, row.says, log)
			}
			got := readSide(t, s, place)
			for name := range hundred {
				if _, ok := got[name]; !ok {
					t.Errorf("%s was deleted", name)
				}
			}
		})
	}
	if code, log := inProcess(t, s, "sync", t.TempDir(), "s3://bikes/none", "--delete"); code != 1 || !strings.Contains(log, "nothing to copy") {
		t.Errorf("an empty SRC: code %d: %s", code, log)
	}
}

// A tree that has the state directory in it, as a home directory has, is copied without the files of the state: those
// change meanwhile. They are not deleted either.
func TestStateDirectoryInATree(t *testing.T) {
	s, home := startTestServers(t), t.TempDir()
	want := []string{"home/a", "home/large", "home/state/mine", "home/state/uploads/photo.json"}
	for _, key := range want {
		path := filepath.Join(home, strings.TrimPrefix(key, "home/"))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, path, generated(1+len(path)))
	}
	write(t, filepath.Join(home, "large"), generated(9<<20))
	for _, args := range [][]string{
		{"copy", "-r", home, "s3://bikes/home"},
		{"copy", "-r", home, "s3://bikes/home"},
		{"sync", "s3://bikes/home", home, "--delete"},
	} {
		if code, log := inHome(t, s, home, append(args, "--store", "host")...); code != 0 {
			t.Errorf("%q: exit code %d\n%s", args, code, log)
		}
		if got := slices.Sorted(slices.Values(s.store.Keys("bikes"))); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", args, got, want)
		}
	}
	if cells, _ := filepath.Glob(filepath.Join(home, "state", "cells.*")); len(cells) != 1 {
		t.Errorf("the state directory has %q, want one file of breakers", cells)
	}
}

// What --include, --exclude and --shard do not choose is neither copied nor deleted.
func TestChosenFiles(t *testing.T) {
	s := startTestServers(t)
	from := treeOf{"a.csv": "1", "b.tmp": "2", "tmp/c.csv": "3", "2024/d.csv": "4", "2024/e.txt": "5"}
	dir := t.TempDir()
	from.put(t, s, dir)
	list := filepath.Join(t.TempDir(), "patterns")
	if err := os.WriteFile(list, []byte("# not these\n*.tmp\n/2024/**\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for n, row := range []struct{ args, want string }{
		{"--include *.csv", "2024/d.csv a.csv old.tmp old.txt tmp/c.csv"},
		{"--exclude * --include *.csv", "2024/d.csv a.csv old.tmp old.txt tmp/c.csv"},
		{"--exclude *.tmp --exclude tmp/", "2024/d.csv 2024/e.txt a.csv old.tmp"},
		{"--exclude-from " + list, "a.csv old.tmp tmp/c.csv"},
		{"--include *.csv --exclude tmp/ --dry-run", "old.csv old.tmp old.txt"},
	} {
		place := fmt.Sprintf("s3://bikes/%d", n)
		treeOf{"old.csv": "o", "old.tmp": "o", "old.txt": "o"}.put(t, s, place)
		code, log := inProcess(t, s, append([]string{"sync", dir, place, "--delete", "--max-delete", "9"}, strings.Fields(row.args)...)...)
		if got := strings.Join(slices.Sorted(maps.Keys(readSide(t, s, place))), " "); code != 0 || got != row.want {
			t.Errorf("%s: code %d, DST has %s, want %s\n%s", row.args, code, got, row.want, log)
		}
	}
	for shard := 1; shard <= 16; shard++ {
		if code, log := inProcess(t, s, "copy", "-r", dir, "s3://bikes/shards", "--shard", fmt.Sprintf("%d/16", shard)); code != 0 {
			t.Errorf("shard %d: code %d: %s", shard, code, log)
		}
	}
	if got := readSide(t, s, "s3://bikes/shards"); !maps.Equal(got, from) {
		t.Errorf("16 shards copied %v, want %v", got, from)
	}
	if code, log := inProcess(t, s, "copy", "-r", dir, "s3://bikes/none", "--include", "*.xml"); code != 1 || !strings.Contains(log, "--include and --exclude leave nothing to copy") {
		t.Errorf("no file chosen: code %d: %s", code, log)
	}
	for _, bad := range [][2]string{{"--include", "[a"}, {"--exclude", ""}, {"--exclude-from", "absent"}, {"--shard", "0/3"}} {
		if code, log := inProcess(t, s, "copy", "-r", dir, "s3://bikes/none", bad[0], bad[1]); code != 64 || !strings.Contains(log, "for "+bad[0]+":") {
			t.Errorf("%q: code %d: %s", bad, code, log)
		}
	}
}
