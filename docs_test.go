package perdure_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSeedPageNamesRealTests holds docs/seed.md to its word: a test that it
// names must be there.
func TestSeedPageNamesRealTests(t *testing.T) {
	page, err := os.ReadFile("docs/seed.md")
	if err != nil {
		t.Fatal(err)
	}
	there := make(map[string]bool)
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Example|Fuzz)\w+)\(`)
	err = filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range declared.FindAllStringSubmatch(string(text), -1) {
			there[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((?:Test|Example|Fuzz)\\w+)`").FindAllStringSubmatch(string(page), -1)
	if len(named) < 30 {
		t.Errorf("docs/seed.md names %d tests; this test no longer finds them", len(named))
	}
	for _, m := range named {
		if !there[m[1]] {
			t.Errorf("docs/seed.md names %s as the test that shows something, and there is no such test", m[1])
		}
	}
}

// TestDecisionsAreShort holds each decision to a page: a heading with the number of its file, numbers without holes, and
// at most 40 lines.
func TestDecisionsAreShort(t *testing.T) {
	files, err := filepath.Glob("docs/decisions/*.md")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d decisions: %v", len(files), err)
	}
	for i, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		number := fmt.Sprintf("%04d", i+1)
		if !strings.HasPrefix(filepath.Base(path), number+"-") || !strings.HasPrefix(string(text), "# "+number+": ") {
			t.Errorf("%s: the name and the heading of decision %d must begin with %s", path, i+1, number)
		}
		if lines := strings.Count(string(text), "\n"); lines > 40 {
			t.Errorf("%s has %d lines, want at most 40: say what was decided, and what the evidence is", path, lines)
		}
	}
}
