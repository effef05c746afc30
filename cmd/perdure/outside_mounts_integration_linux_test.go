//go:build integration

package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

// A DST that is mounted by itself, as containers have it, can't have another file
// put in its place: the error says how to do it, whatever the source.
func TestDSTThatIsMounted(t *testing.T) {
	s := newScene(t)
	file, outside := filepath.Join(s.dir, "x"), filepath.Join(t.TempDir(), "outside")
	write(t, file, []byte("below"))
	write(t, outside, []byte("old"))
	mount(t, file, "--bind", outside)
	for _, kind := range []string{"http", "s3", "file", "-"} {
		for _, size := range []int{10, 17 << 20} {
			t.Run(fmt.Sprintf("%s, %d bytes", kind, size), func(t *testing.T) {
				saysTheWay(t, s.copies(t, "x", s.from(t, kind, "x", generated(size)), file), file)
				for name := range below(t, s.dir) {
					if name != "x" {
						t.Errorf("%s is left behind", name)
						_ = os.Remove(filepath.Join(s.dir, name))
					}
				}
			})
		}
	}
	e := shell(t, s.environ, "> "+file, s.from(t, "s3", "x", mib20()), "-")
	if content, err := os.ReadFile(outside); e.code != 0 || !bytes.Equal(content, mib20()) {
		t.Errorf("the way does not lead there: %d bytes (%v); %v", len(content), err, e)
	}
}

// What a killed copy has left in a directory is known, and does not go up, also if
// the directory is mounted read-only, as for a backup.
func TestLeftoversInAReadOnlyMount(t *testing.T) {
	s := newScene(t)
	planted(t, s.dir, map[string]string{"x": "x"})
	left, err := transfer.Create(filepath.Join(s.dir, "left"), transfer.Options{Source: "s"})
	if err != nil {
		t.Fatal(err)
	}
	defer left.Close()
	at := t.TempDir()
	mount(t, at, "-o", "bind,ro", s.dir)
	s.runs(t, 0, "-r", at, "s3://bikes/up")
	sameAs(t, "up", s.objects("up/"), map[string]string{"x": "x"})
}

// Files go up below a prefix with a million keys in no more memory than below an
// empty one. `make long` runs it.
func TestMillionKeys(t *testing.T) {
	if number(t, "PERDURE_TEST_LONG", 0) == 0 {
		t.Skip("SKIPPED: the million keys take a while: make long")
	}
	const pages = 1000
	s := newScene(t)
	s.line.responses(func(w http.ResponseWriter, r *http.Request) bool {
		if !r.URL.Query().Has("list-type") {
			return false
		}
		n, _ := strconv.Atoi(r.URL.Query().Get("continuation-token")) // none: the first
		keys := make([]string, 1000)
		for i := range keys {
			keys[i] = fmt.Sprintf("many/%07d", n*1000+i)
		}
		fmt.Fprint(w, listing(strings.Repeat(strconv.Itoa(n+1), min(1, pages-n-1)), keys...))
		return true
	})
	many := filepath.Join(s.home, "many")
	planted(t, many, map[string]string{"0000000": "first", "0999999": "last.", "9": "9"})
	e := s.runs(t, 0, "-r", many, "s3://bikes/many")
	sameAs(t, "up", s.objects("many/"), below(t, many))
	if t.Logf("%d MiB of memory", e.memory>>20); e.memory > 64<<20 {
		t.Errorf("%d MiB of memory, want 64", e.memory>>20)
	}
}
