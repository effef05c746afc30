//go:build unix

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// docs/simulate.md shows commands that run, an output that the command has but for its figures, each key of a
// scenario's file, and each of the JSON.
func TestSimulatePage(t *testing.T) {
	text, err := os.ReadFile("../../docs/simulate.md")
	if err != nil {
		t.Fatal(err)
	}
	page, dir := string(text), t.TempDir()
	for _, file := range regexp.MustCompile("(?s)```yaml\n# (\\S+)\n(.*?)```").FindAllStringSubmatch(page, -1) {
		if err := os.WriteFile(filepath.Join(dir, file[1]), []byte(file[2]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(line string) string {
		c := command(t, nil, strings.Fields(strings.TrimPrefix(line, "perdure "))...)
		c.Dir = dir
		out, err := c.Output()
		if err != nil {
			t.Errorf("%s: %v", line, err)
		}
		return string(out)
	}
	lines := regexp.MustCompile(`(?m)^perdure [^#\n]*`).FindAllString(page, -1)
	for _, line := range lines {
		if out := run(line); strings.Contains(line, "--json") {
			documented(t, page, out)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "brownout.html")); err != nil || len(lines) != 6 {
		t.Errorf("docs/simulate.md has %d commands; its page: %v", len(lines), err)
	}
	shown := regexp.MustCompile("(?s)```\n\\$ (perdure [^\n]*)\n(.*?)```").FindStringSubmatch(page)
	figures := regexp.MustCompile(`[\d.]+m?s?|never| +`)
	if got, want := figures.ReplaceAllString(run(shown[1]), "0"), figures.ReplaceAllString(shown[2], "0"); got != want {
		t.Errorf("%s prints\n%s\nand docs/simulate.md shows\n%s", shown[1], got, want)
	}
	for _, section := range []string{"x: 1", "load: {x: 1}", "clients: {x: 1}", "backend: {x: 1}", "backend: {service: {x: 1}}", "faults: [{x: 1}]"} {
		file := filepath.Join(dir, "x.yaml")
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(section, "x:", "zzzzzzzzzzzz:")), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := command(t, nil, "simulate", "--scenario", file).CombinedOutput()
		_, list, found := strings.Cut(strings.SplitN(string(out), "\n", 2)[0], "must be one of ")
		if err == nil || !found {
			t.Fatalf("%s: %s", section, out)
		}
		for name := range strings.SplitSeq(list, ", ") {
			if !regexp.MustCompile("[`.]" + name + "[`.]").MatchString(page) {
				t.Errorf("docs/simulate.md lacks %s, of %s", name, section)
			}
		}
	}
}

// documented looks for the names of a JSON object in the page.
func documented(t *testing.T, page, out string) {
	t.Helper()
	_, page, _ = strings.Cut(page, "## JSON")
	first, _, _ := strings.Cut(out, "\n")
	var object map[string]json.RawMessage
	if err := json.Unmarshal([]byte(first), &object); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for name, value := range object {
		names[name] = true
		var inner map[string]json.RawMessage
		_ = json.Unmarshal(value, &inner) // most are no objects
		for name := range inner {
			names[name] = true
		}
	}
	for name := range names {
		if !strings.Contains(page, "`"+name+"`") {
			t.Errorf("docs/simulate.md lacks %s of the JSON", name)
		}
	}
}
