package perdure_test

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestPagesNameRealTests refuses the name of a test, in a page, that no test has.
func TestPagesNameRealTests(t *testing.T) {
	there, pages := map[string]bool{}, map[string]string{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Example|Fuzz)\w+)\(`)
	eachFile(t, func(name string) {
		if !strings.HasSuffix(name, "_test.go") && path.Ext(name) != ".md" {
			return
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return // gone since the walk
		}
		if path.Ext(name) == ".md" {
			pages[name] = string(text)
			return
		}
		for _, m := range declared.FindAllStringSubmatch(string(text), -1) {
			there[m[1]] = true
		}
	})
	found := 0
	for name, text := range pages {
		for _, m := range regexp.MustCompile("`((?:Test|Example|Fuzz)[A-Z]\\w+)`").FindAllStringSubmatch(text, -1) {
			if found++; !there[m[1]] {
				t.Errorf("%s names %s, and there is no such test", name, m[1])
			}
		}
	}
	if found < 80 {
		t.Errorf("the pages name %d tests; this test no longer finds them", found)
	}
}

// TestMapsNameRealFiles refuses a path of CONTRIBUTING.md, and a link of any page, that leads nowhere.
func TestMapsNameRealFiles(t *testing.T) {
	paths := regexp.MustCompile("`([\\w.-]+(?:/[\\w.-]*)+|\\w+\\.\\w+)`")
	links := regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	blocks := regexp.MustCompile("(?s)```.*?```")
	found := 0
	eachFile(t, func(name string) {
		if path.Ext(name) != ".md" || strings.Contains(name, "testdata/") {
			return
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return // gone since the walk
		}
		named := links.FindAllStringSubmatch(blocks.ReplaceAllString(string(text), ""), -1)
		if name == "CONTRIBUTING.md" {
			named = append(named, paths.FindAllStringSubmatch(string(text), -1)...)
		}
		for _, m := range named {
			if slices.Contains([]string{"bin/", "testing/synctest", "servertest.Until", "circuit.Do", "go.mod"}, m[1]) {
				continue
			}
			found++
			if _, err := os.Stat(filepath.Join(filepath.Dir(filepath.FromSlash(name)), filepath.FromSlash(m[1]))); err != nil {
				t.Errorf("%s leads to %s: %v", name, m[1], err)
			}
		}
	})
	if found < 150 {
		t.Errorf("the pages lead to %d files; this test no longer finds them", found)
	}
}

// TestMapNamesEachPackage refuses an internal package to which CONTRIBUTING.md does not lead.
func TestMapNamesEachPackage(t *testing.T) {
	text, err := os.ReadFile("CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"internal/*", "cmd/perdure/internal/*"} {
		dirs, err := filepath.Glob(pattern)
		if err != nil || len(dirs) < 10 {
			t.Fatalf("%d packages %s: %v", len(dirs), pattern, err)
		}
		for _, dir := range dirs {
			if !strings.Contains(string(text), "`"+filepath.ToSlash(dir)+"/") {
				t.Errorf("CONTRIBUTING.md does not lead to %s", dir)
			}
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
