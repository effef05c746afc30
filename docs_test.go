package perdure_test

import (
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
