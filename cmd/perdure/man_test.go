package main

import (
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/help"
)

// TestHelpNamesEachFlag holds the help of each command to naming all its flags: each is described, or is in the list of
// those that are not. The manual page describes all of them.
func TestHelpNamesEachFlag(t *testing.T) {
	root := (&app{}).root()
	pages := make(map[string]help.Page)
	for _, p := range help.Pages(root, "2026-01-02", "1.2.3") {
		pages[p.Command] = p
	}
	seen := 0
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		if c.IsAvailableCommand() || c == root {
			p := pages[c.CommandPath()]
			c.Flags().VisitAll(func(f *pflag.Flag) {
				seen++
				name := regexp.QuoteMeta("--" + f.Name)
				described := regexp.MustCompile(`(?m)^ {2,6}(?:-\w, )?`+name+` .* .*$`).FindAllString(p.Help, -1)
				_, hidden, _ := strings.Cut(p.Help, "\nFlags not shown above:\n")
				named := regexp.MustCompile(`(?m)^    (?:.*, )?`+name+`(?:,|$)`).FindAllString(hidden, -1)
				if len(named) != 0 == !f.Hidden || len(described)+len(named) != 1 {
					t.Errorf("the help of %s describes --%s %d times, and names it %d times as hidden, want one of both", c.CommandPath(), f.Name, len(described), len(named))
				}
				if n := strings.Count(p.Roff, `\fB`+strings.ReplaceAll("--"+f.Name, "-", `\-`)+`\fR`); n != 1 {
					t.Errorf("the manual page of %s has --%s %d times, want once", c.CommandPath(), f.Name, n)
				}
			})
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(root)
	if seen < 100 {
		t.Errorf("saw %d flags; this test no longer finds them", seen)
	}
}

// TestManualHoldsTheHelp compares the words of each manual page with those of the command's help. A line of a page that
// begins with a dot is a request, so no line of text may begin with one.
func TestManualHoldsTheHelp(t *testing.T) {
	requests := regexp.MustCompile(`(?m)^\.(TH|SH|SS|PP|TP|BR?|nf|fi)\b.*$`)
	root := (&app{}).root()
	for _, p := range help.Pages(root, "", "1.2.3") {
		words := strings.Split(strings.TrimPrefix(p.Command, "perdure"), " ")[1:]
		c, _, err := root.Find(words)
		if err != nil {
			t.Fatal(err)
		}
		text := requests.ReplaceAllString(p.Roff, "")
		if line := regexp.MustCompile(`(?m)^[.'].*`).FindString(text); line != "" {
			t.Errorf("%s has a line that man takes for a request: %s", p.File, line)
		}
		text = unrolled(text)
		for _, want := range []string{c.Long, c.Example} {
			if want = strings.Join(strings.Fields(want), " "); !strings.Contains(text, want) {
				t.Errorf("%s lacks %q:\n%s", p.File, want, text)
			}
		}
	}
}

// unrolled returns the words that man prints for roff.
func unrolled(roff string) string {
	roff = strings.NewReplacer(`\e`, `\`, `\-`, `-`, `\&`, ``).Replace(roff)
	return strings.Join(strings.Fields(roff), " ")
}
