//go:build integration && unix

package main

import (
	"errors"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A scene is a web server, a store behind a front, and a directory.
type scene struct {
	*testServers

	dir, home string
	web       *front
	line      *front // before the store
	environ   []string
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{testServers: startTestServers(t), dir: t.TempDir(), home: t.TempDir()}
	s.web, s.line = startFront(t, "", nil), startFront(t, s.store.URL, nil)
	s.environ = append(s.testServers.environ(s.home), "AWS_ENDPOINT_URL="+s.line.URL, "AWS_REGION=us-east-1")
	return s
}

// run runs copy.
func (s *scene) run(t *testing.T, args ...string) ending {
	t.Helper()
	return copyEnds(t, s.environ, args...)
}

// runs is run, and an error if it does not end with the code.
func (s *scene) runs(t *testing.T, code int, args ...string) ending {
	t.Helper()
	e := s.run(t, args...)
	if e.code != code {
		t.Errorf("copy %q: want exit code %d, got %v", args, code, e)
	}
	return e
}

// from makes content the source of that kind, and returns how it is named. What
// is to come from standard input is in the file of that name.
func (s *scene) from(t *testing.T, kind, name string, content []byte) string {
	t.Helper()
	switch kind {
	case "http":
		s.web.mu.Lock()
		next := s.web.response
		s.web.mu.Unlock()
		s.web.responses(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/"+name {
				return page(w, r, content)
			}
			return next != nil && next(w, r)
		})
		return s.web.URL + "/" + url.PathEscape(name)
	case "s3":
		if err := s.store.Store("bikes", name, content); err != nil {
			t.Fatal(err)
		}
		return "s3://bikes/" + name
	}
	path := filepath.Join(s.home, "from-"+name)
	write(t, path, content)
	if kind == "-" {
		return "-"
	}
	return path
}

// to names a destination of that kind.
func (s *scene) to(kind, name string) string {
	return map[string]string{"file": filepath.Join(s.dir, name), "-": "-", "s3": "s3://bikes/to/" + name}[kind]
}

// copies runs copy between places that from and to have named.
func (s *scene) copies(t *testing.T, name, from, to string, flags ...string) ending {
	t.Helper()
	c := command(t, s.environ, append([]string{"copy", from, to}, flags...)...)
	if from == "-" {
		stdin, err := os.Open(filepath.Join(s.home, "from-"+name))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = stdin.Close() }()
		c.Stdin = stdin
	}
	return endOf(t, c)
}

// came returns what is at a destination; nil if nothing is.
func (s *scene) came(kind, name string, e ending) []byte {
	switch kind {
	case "-":
		return []byte(e.out)
	case "s3":
		content, _ := s.store.Object("bikes", "to/"+name)
		return content
	}
	content, _ := os.ReadFile(filepath.Join(s.dir, name))
	return content
}

// below returns what is below a directory: the content of files, and of others
// what they are. What a process removes or renames meanwhile may be missing.
func below(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if path != dir && errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		if !d.Type().IsRegular() {
			link, _ := os.Readlink(path)
			all[name] = d.Type().String() + link
			return nil
		}
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		all[name] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// sameAs compares files, or objects, by their names.
func sameAs(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	differ := 0
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if there, ok := got[name]; !ok || there != want[name] {
			if differ++; differ <= 3 {
				t.Errorf("%s: %.120q is other: %d bytes %.20q (there: %v), want %d bytes %.20q", what, name, len(there), there, ok, len(want[name]), want[name])
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[name]; !ok {
			if differ++; differ <= 6 {
				t.Errorf("%s: %.120q is there as well", what, name)
			}
		}
	}
	if differ > 6 {
		t.Errorf("%s: %d files differ in all", what, differ)
	}
}

// objects returns those below a prefix, by the rest of their keys.
func (s *testServers) objects(prefix string) map[string]string {
	all := make(map[string]string)
	for _, key := range s.store.Keys("bikes") {
		if name, ok := strings.CutPrefix(key, prefix); ok {
			content, _ := s.store.Object("bikes", key)
			all[name] = string(content)
		}
	}
	return all
}

// planted makes files, by their names below a directory.
func planted(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, path, []byte(content))
	}
}
