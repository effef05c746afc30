package main

import (
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// made makes the site in a temporary directory.
func made(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	perdure := filepath.Join(dir, "perdure")
	compile := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", perdure, "./cmd/perdure")
	compile.Dir, compile.Env = "../../..", append(os.Environ(), "GOWORK=", "GOFLAGS=")
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	out := filepath.Join(dir, "site")
	if n, err := build(t.Context(), "../../..", perdure, out); err != nil || n < 60 {
		t.Fatalf("%d pages: %v", n, err)
	}
	return out
}

// TestSite refuses links of the site that lead nowhere, whatever would be requested from elsewhere, names that two
// elements have, and pages of docs/ that navigation lacks.
func TestSite(t *testing.T) {
	out := made(t)
	text := make(map[string]string) // by the name of a file, "" for one that is no page
	err := fs.WalkDir(os.DirFS(out), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text[name] = ""
		if path.Ext(name) == ".html" {
			data, err := os.ReadFile(filepath.Join(out, name))
			text[name] = string(data)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, page := range text {
		for _, fault := range faults(name, page, text) {
			t.Errorf("%s: %s", name, fault)
		}
	}
	docs, err := filepath.Glob("../../../docs/*.md")
	if err != nil || len(docs) < 20 {
		t.Fatalf("%d pages of docs: %v", len(docs), err)
	}
	for _, file := range docs {
		if to := `href="` + target("docs/"+filepath.Base(file)) + `"`; !strings.Contains(text["index.html"], to) {
			t.Errorf("navigation lacks %s: a link of README.md must lead to the page", file)
		}
	}
}

// TestFaultsOfAPage holds the test above to what it must find.
func TestFaultsOfAPage(t *testing.T) {
	pages := map[string]string{"a.html": `<p id="x">`, "b/c.html": "", "d.svg": ""}
	for page, want := range map[string]string{
		`<a href="c.html">`:                          "",
		`<a href="../a.html#x">`:                     "",
		`<img src="../d.svg">`:                       "",
		`<a href="https://example.com/">`:            "",
		`<a href="../a.html#y">`:                     "leads to no element",
		`<a href="#y">`:                              "leads to no element",
		`<a href="d.svg">`:                           "leads to no file",
		`<a href="../docs/copy.md">`:                 "leads to no file",
		`<a href="/a.html">`:                         "is not relative",
		`<img src="https://example.com/x.png">`:      "is requested from elsewhere",
		`<link href="//example.com/x.css">`:          "is requested from elsewhere",
		`<script src="x.js"></script>`:               "script",
		`<p id="x"><p id="x">`:                       `two elements are named "x"`,
		`<p style="background: url(//example.com)">`: "has a style",
	} {
		found := strings.Join(faults("b/c.html", page, pages), "\n")
		if want == "" != (found == "") || !strings.Contains(found, want) {
			t.Errorf("%s: found %q, want %q", page, found, want)
		}
	}
}

// faults returns what is wrong with the text of a page, among the files of the site.
func faults(name, page string, files map[string]string) (found []string) {
	if strings.Contains(page, "<script") {
		found = append(found, "has a script")
	}
	if strings.Contains(page, "url(") && strings.Contains(page, "style=\"background") {
		found = append(found, "has a style")
	}
	names := make(map[string]bool)
	for _, m := range regexp.MustCompile(` id="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if names[m[1]] {
			found = append(found, `two elements are named "`+m[1]+`"`)
		}
		names[m[1]] = true
	}
	for _, m := range regexp.MustCompile(`<(\w+)[^>]* (?:href|src)="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if fault := linkFault(name, page, m[1], m[2], files); fault != "" {
			found = append(found, m[2]+" "+fault)
		}
	}
	return found
}

// linkFault returns what is wrong with a link of the page, or "".
func linkFault(name, page, tag, to string, files map[string]string) string {
	u, err := url.Parse(strings.ReplaceAll(to, "&amp;", "&"))
	switch {
	case err != nil:
		return err.Error()
	case tag == "a" && slices.Contains([]string{"https", "http"}, u.Scheme) || u.Scheme == "data":
		return ""
	case u.Scheme != "" || u.Host != "":
		return "is requested from elsewhere"
	case strings.HasPrefix(u.Path, "/"):
		return "is not relative"
	}
	text := page
	if u.Path != "" {
		var ok bool
		if text, ok = files[path.Join(path.Dir(name), u.Path)]; !ok {
			return "leads to no file"
		}
	}
	if u.Fragment != "" && !strings.Contains(text, ` id="`+u.Fragment+`"`) {
		return "leads to no element"
	}
	return ""
}

// TestSlug compares the names of headings with those that GitHub gives them.
func TestSlug(t *testing.T) {
	for text, want := range map[string]string{
		"The map":                      "the-map",
		"From `curl --retry`":          "from-curl---retry",
		"Refusals, and failures":       "refusals-and-failures",
		"A cron job in 5 minutes":      "a-cron-job-in-5-minutes",
		"snake_case: 20 % of it; ünot": "snake_case-20--of-it-ünot",
	} {
		if got := slug(text); got != want {
			t.Errorf("slug(%q) = %q, want %q", text, got, want)
		}
	}
}
