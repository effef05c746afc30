package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// plant writes files below dir, each with its name as the content.
func plant(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("content of "+name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// stored returns the keys of the bucket bikes below a prefix, in order.
func (s *testServers) stored(prefix string) (keys []string) {
	for _, key := range s.store.Keys("bikes") {
		if rest, ok := strings.CutPrefix(key, prefix); ok {
			keys = append(keys, rest)
		}
	}
	slices.Sort(keys)
	return keys
}

// found returns the files below dir, in order.
func found(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			names = append(names, filepath.ToSlash(rel))
		}
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// What a shell's glob expands to: files, with -r also directories, objects and URLs, each below its name. A second run copies
// nothing that has a checksum to compare.
func TestSeveralSources(t *testing.T) {
	s := startTestServers(t)
	top := t.TempDir()
	plant(t, top, "a.csv", "b.csv", "d1/x.csv", "d1/deep/y.csv", "d1.csv", "d2/x.csv")
	at := func(names ...string) (paths []string) {
		for _, name := range names {
			paths = append(paths, filepath.Join(top, name))
		}
		return paths
	}
	for key, content := range map[string]string{"in/one.csv": "1", "in/two.csv": "2", "more/one/z.csv": "3"} {
		if err := s.store.Store("bikes", key, []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct {
		name  string
		args  []string
		want  []string
		again int // files that the second run copies
	}{
		{"files", at("a.csv", "b.csv"), []string{"a.csv", "b.csv"}, 0},
		{"directories", append([]string{"-r"}, at("d2", "d1", "d1.csv")...), []string{"d1.csv", "d1/deep/y.csv", "d1/x.csv", "d2/x.csv"}, 0},
		{"objects", []string{"s3://bikes/in/two.csv", "s3://bikes/in/one.csv"}, []string{"one.csv", "two.csv"}, 0},
		{"prefixes", []string{"-r", "s3://bikes/in/", "s3://bikes/more/"}, []string{"in/one.csv", "in/two.csv", "more/one/z.csv"}, 0},
		{"of each kind", append(at("a.csv"), "s3://bikes/in/one.csv", s.web.URL+"/nine"), []string{"a.csv", "nine", "one.csv"}, 1},
		{"chosen", append(at("a.csv", "b.csv"), "--exclude", "b*"), []string{"a.csv"}, 0},
	} {
		to := "s3://bikes/out/" + row.name + "/"
		for round, copied := range []int{len(row.want), row.again} {
			code, log := inProcess(t, s, append(append([]string{"copy"}, row.args...), to)...)
			if code != 0 || !strings.Contains(log, fmt.Sprintf("Copied %d file", copied)) {
				t.Errorf("%s, round %d: code %d, want %d files: %s", row.name, round, code, copied, log)
			}
		}
		if got := s.stored("out/" + row.name + "/"); !slices.Equal(got, row.want) {
			t.Errorf("%s: %q, want %q", row.name, got, row.want)
		}
	}
	into := t.TempDir()
	down := append(append([]string{"copy"}, at("a.csv", "b.csv")...), "s3://bikes/in/one.csv", s.web.URL+"/nine", into)
	for round, copied := range []int{4, 1, 2} { // the URL has no record
		code, log := inProcess(t, s, down...)
		if got := found(t, into); code != 0 || !slices.Equal(got, []string{"a.csv", "b.csv", "nine", "one.csv"}) || !strings.Contains(log, fmt.Sprintf("Copied %d file", copied)) {
			t.Errorf("down, round %d: code %d, %q, want %d files copied: %s", round, code, got, copied, log)
		}
		const other = "CONTENT of a.csv" // of the same size, for the next round
		if got, _ := os.ReadFile(filepath.Join(into, "a.csv")); round == 2 && string(got) != other {
			t.Errorf("a file of other content and the same size is copied as %q", got)
		}
		if round == 1 {
			write(t, at("a.csv")[0], []byte(other))
		}
	}
}

// Directories are copied into a directory, as cp -r does it, each below its name. A second run copies what has changed.
func TestDirectoriesIntoADirectory(t *testing.T) {
	s := startTestServers(t)
	top, into := t.TempDir(), filepath.Join(t.TempDir(), "into")+string(filepath.Separator)
	plant(t, top, "a.csv", "d1/x.csv", "d1/deep/y.csv", "d2/x.csv")
	args := []string{"copy", "-r", filepath.Join(top, "d1"), filepath.Join(top, "a.csv"), filepath.Join(top, "d2"), into}
	if code, log := inProcess(t, s, append(args, "--dry-run")...); code != 0 || !strings.Contains(log, "Would copy 4 files") || len(found(t, into)) > 0 {
		t.Errorf("dry run: code %d: %s", code, log)
	}
	for round, copied := range []int{4, 0, 1} {
		if round == 2 {
			write(t, filepath.Join(top, "d1/x.csv"), []byte("CONTENT of d1/x.csv"))
		}
		code, log := inProcess(t, s, args...)
		if got := found(t, into); code != 0 || !slices.Equal(got, []string{"a.csv", "d1/deep/y.csv", "d1/x.csv", "d2/x.csv"}) || !strings.Contains(log, fmt.Sprintf("Copied %d file", copied)) {
			t.Errorf("round %d: code %d, %q, want %d files copied: %s", round, code, got, copied, log)
		}
	}
	if got, err := os.ReadFile(filepath.Join(into, "d1/x.csv")); string(got) != "CONTENT of d1/x.csv" {
		t.Errorf("a changed file is %q, %v", got, err)
	}
}

// A file that cannot be read does not keep the others from being copied.
func TestAFailureOfOneOfSeveral(t *testing.T) {
	s := startTestServers(t)
	top := t.TempDir()
	plant(t, top, "a.csv", "dir/x")
	manifest := filepath.Join(t.TempDir(), "m")
	code, log := inProcess(t, s, "copy", filepath.Join(top, "a.csv"), filepath.Join(top, "absent.csv"), filepath.Join(top, "dir"),
		s.web.URL+"/absent?token="+secret, "s3://bikes/out/", "--manifest", manifest)
	if code != 1 || !strings.Contains(log, "3 of 4 files were not copied") || !strings.Contains(log, "absent.csv: no such file") || !strings.Contains(log, "use -r") {
		t.Errorf("code %d: %s", code, log)
	}
	want := map[string]string{"out/a.csv": "copied", "out/absent.csv": "failed", "out/dir": "failed", "out/absent": "failed"}
	got := entries(t, manifest)
	for key, action := range want {
		if !strings.HasPrefix(got[key], action) {
			t.Errorf("%s: %q, want %s", key, got[key], action)
		}
	}
	text, err := os.ReadFile(manifest)
	if err != nil || strings.Contains(string(text)+log, secret) || !strings.Contains(string(text), `"source":"`+s.web.URL+"/absent?") {
		t.Errorf("%v: %s%s", err, text, log)
	}
	if len(got) != len(want) {
		t.Errorf("%v", slices.Collect(maps.Keys(got)))
	}
}

// Nothing is copied if the sources cannot all have a place in DST.
func TestSeveralSourcesThatAreRefused(t *testing.T) {
	s := startTestServers(t)
	top := t.TempDir()
	plant(t, top, "a.csv", "b.csv", "d/a.csv", "file")
	at := func(name string) string { return filepath.Join(top, name) }
	if err := errors.Join(os.Mkdir(at("d/in"), 0o700), os.Symlink(at("d/in"), at("link"))); err != nil {
		t.Skip(err)
	}
	for _, row := range []struct{ args, want string }{
		{"A D/a.csv s3://bikes/out/", `invalid value "a.csv" for SRC: must be names that differ`},
		{"-r D D/ s3://bikes/out/", `invalid value "d" for SRC`},
		{"A B s3://bikes/out", `invalid value "s3://bikes/out" for DST: must be a directory that exists, s3://BUCKET, or an address that ends in a slash`},
		{"A B FILE", " for DST: must be a directory that exists"},
		{"A B T/none", " for DST: must be a directory that exists"},
		{"A B -", `invalid value "-" for DST`},
		{"A B http://example.org/", " for DST: must be a directory that exists"},
		{"A - s3://bikes/out/", `for SRC: must be an address with a name`},
		{"A http://example.org/ s3://bikes/out/", "must be an address with a name"},
		{"A B T", "different from SRC"},
		{"-r D D/in T", "neither in DIR nor around it"},
		{"-r A D D/", "neither in DIR nor around it"},
		{"-r A D D/in/", "neither in DIR nor around it"},
		{"-r A D LINK/", "neither in DIR nor around it"},
		{"-r A D/.. D/in/", "neither in DIR/.. nor around it"},
		{"-r s3://bikes/a/ s3://bikes/b/ s3://bikes/", "neither in s3://bikes/a/ nor around it"},
		{"A s3://bikes/*.csv s3://bikes/out/", "must be the only SRC"},
		{"A B s3://bikes/out/ --checksum md5:00", "--checksum is for one file"},
		{"A B s3://bikes/out/ --links follow", "--links follow is for links below SRC"},
		{"s3://bikes/*.csv T/none", " for DST: must be a directory that exists"},
		{"s3://bikes/[*.csv T", "must be an address with a pattern"},
		{"s3://bikes/p/*.csv s3://bikes/p/x/", "neither in the directory of SRC nor around it"},
		{"A", "must be two or more: SRC... and DST"},
	} {
		args := strings.Fields(row.args)
		for i, arg := range args {
			switch arg {
			case "A", "B":
				args[i] = at(strings.ToLower(arg) + ".csv")
			case "D":
				args[i] = at("d")
			case "D/", "D/in", "D/in/", "D/..", "D/a.csv":
				args[i] = at("d") + arg[1:]
			case "LINK/":
				args[i] = at("link") + arg[4:]
			case "FILE":
				args[i] = at("file")
			case "T", "T/none":
				args[i] = top + arg[1:]
			}
		}
		code, log := inProcess(t, s, append([]string{"copy"}, args...)...)
		if want := strings.Replace(row.want, "DIR", at("d"), 1); code != 64 || !strings.Contains(log, want) {
			t.Errorf("%s: code %d, want 64 and %q: %s", row.args, code, want, log)
		}
	}
	if keys := s.stored(""); len(keys) > 0 {
		t.Errorf("%q were copied", keys)
	}
}

// Stars in SRC match within a name, ** also slashes; \* is a star. The path below the directory before the first wildcard is kept.
func TestPatternsAsSource(t *testing.T) {
	s := startTestServers(t)
	for _, key := range []string{"p/a.csv", "p/b.csv", "p/b.txt", "p/x/c.csv", "p/x/y/d.csv", "p/st*r.csv", "p/star.csv", "pq.csv", "p/2024-01/a", "p/2024-02/b/c", "p/2025-01/a"} {
		if err := s.store.Store("bikes", key, []byte(key)); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct {
		args string
		want []string
	}{
		{"s3://bikes/p/*.csv", []string{"a.csv", "b.csv", "st*r.csv", "star.csv"}},
		{"s3://bikes/p/**/*.csv", []string{"a.csv", "b.csv", "st*r.csv", "star.csv", "x/c.csv", "x/y/d.csv"}},
		{"s3://bikes/p*.csv", []string{"pq.csv"}},
		{`s3://bikes/p/st\*r.csv`, []string{"st*r.csv"}},
		{`s3://bikes/p/*\*r.csv`, []string{"st*r.csv"}},
		{"s3://bikes/p/2024-*/*", []string{"2024-01/a"}},
		{"-r s3://bikes/p/2024-*", []string{"2024-01/a", "2024-02/b/c"}},
		{"s3://bikes/p/*.{csv,txt} --exclude s*", []string{"a.csv", "b.csv", "b.txt"}},
		{"s3://bikes/**/a", []string{"p/2024-01/a", "p/2025-01/a"}},
	} {
		into := t.TempDir()
		code, log := inProcess(t, s, append(append([]string{"copy"}, strings.Fields(row.args)...), into)...)
		if got := found(t, into); code != 0 || !slices.Equal(got, row.want) {
			t.Errorf("%s: code %d, %q, want %q: %s", row.args, code, got, row.want, log)
		}
	}
	for _, args := range []string{"s3://bikes/p/*.json", "s3://bikes/p/2024-*", "s3://bikes/none/*"} {
		code, log := inProcess(t, s, "copy", args, t.TempDir())
		if code != 1 || !strings.Contains(log, "perdure: read "+args+": nothing to copy") {
			t.Errorf("%s: code %d, want 1: %s", args, code, log)
		}
	}
	s.store.Reset()
	code, log := inProcess(t, s, "copy", "s3://bikes/p/*.csv", "s3://bikes/flat/")
	if got := s.stored("flat/"); code != 0 || len(got) != 4 || s.store.Count("GET", "/bikes/p/") > 0 {
		t.Errorf("code %d, %q: %s", code, got, log)
	}
}

// A header field is for one server: the token of one is not sent to another.
func TestHeadersOfSeveralURLs(t *testing.T) {
	s := startTestServers(t)
	other := startTestServers(t)
	code, log := inProcess(t, s, "copy", s.web.URL+"/nine", other.web.URL+"/whole.bin", "s3://bikes/out/", "--header", "Authorization: Bearer "+secret)
	if code != 64 || !strings.Contains(log, "for --header: must be used with URLs of one scheme, host and port") || strings.Contains(log, secret) {
		t.Errorf("code %d: %s", code, log)
	}
	if n := len(s.web.Requests()) + len(other.web.Requests()); n > 0 {
		t.Errorf("%d requests were sent", n)
	}
	code, log = inProcess(t, s, "copy", s.web.URL+"/nine", s.web.URL+"/whole.bin", "s3://bikes/out/", "--header", "Authorization: Bearer "+secret)
	if code != 0 || strings.Contains(log, secret) {
		t.Errorf("code %d: %s", code, log)
	}
	for _, r := range s.web.Requests() {
		if r.Header.Get("Authorization") != "Bearer "+secret {
			t.Errorf("%s was sent without the header field", r.Target)
		}
	}
	for _, flag := range []string{"--method=POST", "--data=x", "--idempotent"} {
		if code, log := inProcess(t, s, "copy", s.web.URL+"/nine", s.web.URL+"/whole.bin", "s3://bikes/out/", flag); code != 64 || !strings.Contains(log, "is for one file") {
			t.Errorf("%s: code %d: %s", flag, code, log)
		}
	}
}
