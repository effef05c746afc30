package perdure_test

import (
	"bytes"
	"fmt"
	"go/scanner"
	"go/token"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// refused holds the words that the project once had of its own, and for each the term of the field that takes its
// place. A word is matched whole, in any case, in text, names and messages; the words of a phrase may stand on two lines.
var refused = []struct{ words, use string }{
	{`anew`, `"again" or "from scratch"`},
	{`shall`, `"must", or the future tense`},
	{`for want of`, `"without"`},
	{`no matter`, `"regardless of"`},
	{`is had|are had`, `"exists", "is obtained"`},
	{`purses?`, `"budget share"`},
	{`lent|lends?|lending`, `"lease" or "grant"`},
	{`paroles?`, `"probation"`},
	{`pardon(s|ed)?`, `"the end of the probation"`},
	{`entity|entities`, `"representation" or "resource"`},
	{`answer(s|ed|ing)?`, `"response", "responds"`},
	{`(go|goes|went|going|gone) on`, `"resumes", "continues", "proceeds"`},
	{`fates?`, `"shared key"`},
	{`by hand`, `"manually", "manual override"`},
	{`whoever`, `the noun: "the caller", "a program that ..."`},
	{`nobody`, `the noun: "no caller", "no process"; of a zero value "0 means ..."`},
	{`there (is|are) none`, `what is absent: "no X", "nil if ...", "0 if ..."`},
	{`untold`, `"unreported"`},
	{`overruled`, `"cleared", "replaced by a remote override"`},
	{`circles?`, `"loop"`},
	{`slip of the pen`, `"typo"`},
	{`(come|comes|came) to (its|their) end`, `"ends"`},
	{`(is|are) no part of`, `"does not belong to", "is not included in"`},
}

// refusedNames are refused as parts of names only: as verbs of a sentence they are plain English.
var refusedNames = []struct{ words, use string }{
	{`heard|hears`, `"applied", "received"`},
	{`tells?|told`, `"reports", "remote", "notified"`},
}

// fieldsOwn is text in which a refused word is the field's own, or somebody else's.
var fieldsOwn = regexp.MustCompile(`(?i)(unprocessable|html|xml|content|request) ?entit(y|ies)|entity(-tag|too ?large)` +
	`|["<]circle\b|"nobody"`)

// TestWords refuses the words in refused, with the reason, in code, scripts and documents.
func TestWords(t *testing.T) {
	eachFile(t, func(name string) {
		if !isProse(name) {
			return
		}
		text, err := os.ReadFile(name)
		if err != nil || bytes.IndexByte(text, 0) >= 0 {
			return // gone since the walk, or no text
		}
		for _, hit := range oldWords(name, string(text)) {
			t.Error(hit)
		}
	})
}

// isProse reports whether the words in a file are ours.
func isProse(name string) bool {
	if name == "words_test.go" || name == "LICENSE" || strings.Contains(name, "/fuzz/") {
		return false
	}
	return name == "Makefile" || slices.Contains([]string{".go", ".lua", ".md", ".txtar", ".yml", ".yaml"}, path.Ext(name))
}

var (
	anyRefused = matcher(refused)
	anyName    = matcher(refusedNames)
	code       = regexp.MustCompile("`[^`]*`")
	inCamel    = regexp.MustCompile(`([a-z0-9])([A-Z])`)
)

// matcher returns an expression with one group for each row, which matches the row's words wherever lines break.
func matcher(rows []struct{ words, use string }) *regexp.Regexp {
	var groups []string
	for _, row := range rows {
		words := strings.ReplaceAll(row.words, "(", "(?:")
		groups = append(groups, "("+strings.ReplaceAll(words, " ", `[\s/#*-]+`)+")")
	}
	return regexp.MustCompile(`(?i)\b(?:` + strings.Join(groups, "|") + `)\b`)
}

// oldWords returns a line for each refused word in a file or its name: where it stands, and what to use in its place.
func oldWords(name, text string) (hits []string) {
	if name == "CHANGELOG.md" {
		text = code.ReplaceAllString(text, "") // former names
	}
	clean := inCamel.ReplaceAllString(fieldsOwn.ReplaceAllString(text, ""), "$1 $2")
	clean = strings.ReplaceAll(clean, "_", " ")
	base := strings.ReplaceAll(path.Base(name), "_", " ")
	hits = append(hits, find(anyRefused, refused, base, name, func(int) int { return 0 })...)
	hits = append(hits, find(anyRefused, refused, clean, name, func(at int) int { return 1 + strings.Count(clean[:at], "\n") })...)
	if path.Ext(name) == ".go" {
		names := identifiers(text)
		hits = append(hits, find(anyName, refusedNames, names, name, func(at int) int { return 1 + strings.Count(names[:at], "\n") })...)
	}
	return hits
}

func find(in *regexp.Regexp, rows []struct{ words, use string }, text, name string, line func(at int) int) (hits []string) {
	for _, m := range in.FindAllStringSubmatchIndex(text, -1) {
		for row := range rows {
			if m[2+2*row] >= 0 {
				hits = append(hits, fmt.Sprintf("%s:%d: %q: the field says %s", name, line(m[0]), text[m[0]:m[1]], rows[row].use))
			}
		}
	}
	return hits
}

// identifiers returns the names of Go source, each on the line on which it stands, the words of a name apart.
func identifiers(text string) string {
	var (
		s    scanner.Scanner
		fset = token.NewFileSet()
		file = fset.AddFile("", -1, len(text))
		out  strings.Builder
		at   = 1
	)
	s.Init(file, []byte(text), nil, 0)
	for {
		pos, tok, lit := s.Scan()
		if tok == token.EOF {
			return strings.ReplaceAll(inCamel.ReplaceAllString(out.String(), "$1 $2"), "_", " ")
		}
		if tok != token.IDENT {
			continue
		}
		for ; at < file.Line(pos); at++ {
			out.WriteByte('\n')
		}
		out.WriteString(lit + " ")
	}
}

// Each row of the tables is found, in a name, a comment and over the end of a line; what is the field's own is not.
func TestWordsAreFound(t *testing.T) {
	for text, want := range map[string]int{
		"// the server\n// goes\n// on anew":       2,
		"func setByHand() {}":                      1,
		"// nobody is\n// told, there is\n// none": 2,
		"const shared_fate = 1 // a purse":         2,
		"var lastHeard, x = 1, \"he told us so\"":  1,
		"http.StatusRequestEntityTooLarge, EntityTooLarge, entity-tag, ongoing, shallow, talent": 0,
	} {
		if hits := oldWords("x.go", text); len(hits) != want {
			t.Errorf("%q: %q, want %d", text, hits, want)
		}
	}
}
