package filter_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/filter"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
)

func TestChosen(t *testing.T) {
	for _, row := range []struct {
		rules  string // + includes, - excludes
		chosen string
		not    string
	}{
		{"", "a a/b .hidden", ""},
		{"-*.csv", "a.txt a.csvx d/csv", "a.csv d/a.csv d/e/.csv x.csv/below"},
		{"+*.csv", "a.csv d/a.csv", "a.txt d/a"},
		{"-* +*.csv", "a.csv d/a.csv", "a.txt d/a"},
		{"+*.csv -tmp/", "a.csv d/a.csv", "tmp/a.csv d/tmp/a.csv a.txt tmp"},
		{"-tmp/", "tmp d/tmp tmpx/a", "tmp/a d/tmp/e/a"},
		{"-tmp/**", "tmp d/tmp", "tmp/a d/tmp/e/a"},
		{"-/tmp", "d/tmp d/tmp/a", "tmp tmp/a"},
		{"-logs/*", "logs a/b", "logs/a logs/d/a x/logs/a"},
		{"-/2024/**/*.csv", "2024/a x/2024/a.csv", "2024/a.csv 2024/01/a.csv 2024/01/02/a.csv"},
		{"-?.csv", "ab.csv .csv", "a.csv ä.csv"},
		{"-[a-c].csv", "d.csv", "a.csv x/b.csv"},
		{"-*.{csv,json}", "a.xml", "a.csv a.json"},
		{`-a\*b`, "axb", "a*b"},
		{"-.git", "git x.git", ".git .git/config sub/.git/HEAD"},
		{"-* +/d/** -*.tmp", "d/a d/e/a", "a d/a.tmp d"},
	} {
		r := rulesOf(t, row.rules)
		for want, names := range map[bool]string{true: row.chosen, false: row.not} {
			for name := range strings.FieldsSeq(names) {
				if r.Chosen(name) != want {
					t.Errorf("%q: chosen(%q) is %v, want %v", row.rules, name, !want, want)
				}
			}
		}
	}
}

// A directory is without chosen files only if it is certain.
func TestWithout(t *testing.T) {
	for _, row := range []struct {
		rules string // as in TestChosen
		yes   string
		no    string
	}{
		{"", "", "a"},
		{"-tmp/", "tmp d/tmp tmp/e", "a tmpx"},
		{"-tmp/**", "tmp d/tmp", "a"},
		{"-/tmp", "tmp tmp/e", "d/tmp"},
		{"-*", "a a/b", ""},
		{"-*.csv", "a.csv", "a"},
		{"-tmp/*.csv", "", "tmp"},
		{"-* +*.csv", "", "a"},
		{"+*.csv", "", "a a.csv"},
		{"+*.csv -tmp/", "tmp", "a"},
		{"-tmp/ +/tmp/a", "", "tmp other"},
	} {
		r := rulesOf(t, row.rules)
		for want, dirs := range map[bool]string{true: row.yes, false: row.no} {
			for dir := range strings.FieldsSeq(dirs) {
				if r.Without(dir) != want {
					t.Errorf("%q: without(%q) is %v, want %v", row.rules, dir, !want, want)
				}
			}
		}
	}
}

// rulesOf returns rules of patterns: + includes, - excludes.
func rulesOf(t *testing.T, text string) *filter.Rules {
	t.Helper()
	var r filter.Rules
	for rule := range strings.FieldsSeq(text) {
		add := r.Include
		if rule[0] == '-' {
			add = r.Exclude
		}
		if err := add(rule[1:]); err != nil {
			t.Fatal(err)
		}
	}
	return &r
}

// matches is a naive twin: whether a pattern of stars and letters matches a path, or a directory above it.
func matches(pattern, rel string) bool {
	if pattern, anchored := strings.CutPrefix(pattern, "/"); anchored {
		return covers(strings.Split(pattern, "/"), strings.Split(rel, "/"))
	}
	for parts := strings.Split(rel, "/"); len(parts) > 0; parts = parts[1:] {
		if covers(strings.Split(pattern, "/"), parts) {
			return true
		}
	}
	return false
}

func covers(pattern, parts []string) bool {
	switch {
	case len(pattern) == 0:
		return true // a directory above the rest
	case pattern[0] == "**" && len(pattern) == 1:
		return len(parts) > 0
	case pattern[0] == "**":
		for n := range len(parts) + 1 {
			if covers(pattern[1:], parts[n:]) {
				return true
			}
		}
		return false
	}
	return len(parts) > 0 && glob(pattern[0], parts[0]) && covers(pattern[1:], parts[1:])
}

func glob(pattern, name string) bool {
	switch {
	case pattern == "":
		return name == ""
	case pattern[0] == '*':
		return glob(pattern[1:], name) || name != "" && glob(pattern, name[1:])
	}
	return name != "" && pattern[0] == name[0] && glob(pattern[1:], name[1:])
}

func TestTwin(t *testing.T) {
	r := rand.New(rand.NewPCG(testseed.Of(t, 16), 0))
	words := func(of []string) string {
		var parts []string
		for range 1 + r.IntN(4) {
			parts = append(parts, of[r.IntN(len(of))])
		}
		return strings.Join(parts, "/")
	}
	for range 20_000 {
		pattern, rel := words([]string{"a", "b", "ab", "*", "a*", "*b", "**"}), words([]string{"a", "b", "ab", "aab", "c"})
		if r.IntN(3) == 0 {
			pattern = "/" + pattern
		}
		var rules filter.Rules
		if err := rules.Exclude(pattern); err != nil {
			t.Fatal(err)
		}
		if got := !rules.Chosen(rel); got != matches(pattern, rel) {
			t.Fatalf("%q matches %q: %v, want %v", pattern, rel, got, !got)
		}
		if below := rel + "/" + words([]string{"a", "b", "ab", "x"}); rules.Without(rel) && rules.Chosen(below) {
			t.Fatalf("exclude %q chooses %q, which Without(%q) denies", pattern, below, rel)
		}
	}
}

// The shards together are the whole, and no path is in two.
func TestShards(t *testing.T) {
	for _, count := range []int{1, 2, 3, 16, 65535} {
		for n := range 200 {
			rel, in := fmt.Sprintf("2024/%d.csv", n), 0
			for shard := 1; shard <= count; shard += 1 + count/2000*7 {
				var r filter.Rules
				if err := r.Shard(fmt.Sprintf("%d/%d", shard, count)); err != nil {
					t.Fatal(err)
				}
				if r.Chosen(rel) {
					in++
				}
			}
			if in > 1 || in == 0 && count < 100 {
				t.Fatalf("%s is in %d of %d shards", rel, in, count)
			}
		}
	}
}

func TestBadRules(t *testing.T) {
	path := filepath.Join(t.TempDir(), "patterns")
	if err := os.WriteFile(path, []byte("# comment\n\n*.tmp\n[a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]func(*filter.Rules) error{
		`--exclude: must be a pattern`:                        func(r *filter.Rules) error { return r.Exclude("") },
		`"/" for --exclude: must be a pattern`:                func(r *filter.Rules) error { return r.Exclude("/") },
		`a bracket or brace is not closed`:                    func(r *filter.Rules) error { return r.Include("[a") },
		`** alone between slashes`:                            func(r *filter.Rules) error { return r.Include("a**") },
		`without empty parts`:                                 func(r *filter.Rules) error { return r.Include("a//b") },
		`. and .. between`:                                    func(r *filter.Rules) error { return r.Include("../b") },
		`would leave --include "*.csv" without effect`:        func(r *filter.Rules) error { _ = r.Include("*.csv"); return r.Exclude("*") },
		`line 4 of ` + path:                                   func(r *filter.Rules) error { return r.ExcludeFrom(path) },
		`--exclude-from: must be a file that can be read (no`: func(r *filter.Rules) error { return r.ExcludeFrom(path + "x") },
		`at most 10000 lines and 1048576 bytes`:               func(r *filter.Rules) error { return r.ExcludeFrom("/dev/zero") },
		`"0/16" for --shard`:                                  func(r *filter.Rules) error { return r.Shard("0/16") },
		`"17/16" for --shard`:                                 func(r *filter.Rules) error { return r.Shard("17/16") },
		`"3" for --shard`:                                     func(r *filter.Rules) error { return r.Shard("3") },
		`"1/0" for --shard`:                                   func(r *filter.Rules) error { return r.Shard("1/0") },
	} {
		if err := try(&filter.Rules{}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v; want %s", err, name)
		}
	}
}
