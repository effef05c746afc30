// Package filter chooses files by the patterns of --include and --exclude, and by shard.
package filter

import (
	"bufio"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// Rules choose files by their paths. The zero Rules choose all. They are not safe for concurrent use while one is added.
//
// The last rule that matches a path decides. If none does, the path is chosen, unless the first rule is an inclusion.
type Rules struct {
	rules         []rule
	shard, shards uint32 // only paths of this shard; 0 shards means all
}

type rule struct {
	flag    string // for errors
	include bool
	text    string
	pattern string // of package doublestar
}

// Most lines and bytes of a file of patterns.
const (
	maxLines = 10_000
	maxBytes = 1 << 20
)

// Include adds a pattern of files that are chosen.
func (r *Rules) Include(text string) error { return r.add("--include", true, text) }

// Exclude adds a pattern of files that are not chosen.
func (r *Rules) Exclude(text string) error { return r.add("--exclude", false, text) }

// Below returns a function that reports whether a pattern matches a whole path, or, if all is set, a directory above it. An error
// is about the address in field.
func Below(field, address, pattern string, all bool) (func(rel string) bool, error) {
	var r Rules
	if err := r.add(field, true, "/"+pattern); err != nil {
		return nil, setting.Bad(field, address, "an address with a pattern, such as s3://bucket/2024/*.csv or s3://bucket/**/*.csv; write \\* for a star that is part of a key")
	}
	rule := r.rules[0]
	if all {
		return rule.matches, nil
	}
	return func(rel string) bool { return doublestar.MatchUnvalidated(rule.pattern, rel) }, nil
}

// add adds a pattern. A pattern that begins with a slash is matched with the whole path, any other with its end; one that
// matches a directory matches all files below it.
func (r *Rules) add(flag string, include bool, text string) error {
	const want = "a pattern, such as *.csv, /2024/** or tmp/"
	pattern, below := strings.CutSuffix(text, "/")
	if !below && text != "/**" {
		pattern, below = strings.CutSuffix(text, "/**")
	}
	anchored := strings.HasPrefix(pattern, "/")
	pattern = strings.TrimPrefix(pattern, "/")
	switch {
	case pattern == "" || strings.ContainsRune(pattern, 0):
		return setting.Bad(flag, text, want)
	case !doublestar.ValidatePattern(pattern):
		return setting.Bad(flag, text, want+"; a bracket or brace is not closed, or nothing follows a backslash")
	case slices.ContainsFunc(strings.Split(pattern, "/"), func(part string) bool { return part != "**" && strings.Contains(part, "**") }):
		return setting.Bad(flag, text, "a pattern with ** alone between slashes, as in logs/**/*.csv")
	case slices.ContainsFunc(strings.Split(pattern, "/"), func(part string) bool { return part == "" || part == "." || part == ".." }):
		return setting.Bad(flag, text, "a pattern without empty parts, . and .. between slashes")
	}
	if !anchored {
		pattern = "**/" + pattern
	}
	every := strings.Trim(pattern, "*/") == ""
	if every && len(r.rules) > 0 {
		return setting.Bad(flag, text, fmt.Sprintf("before all others: the last pattern that matches decides, and this one would leave %s %q without effect", r.rules[0].flag, r.rules[0].text))
	}
	if below { // a directory, and no file of its name
		pattern += "/*"
	}
	r.rules = append(r.rules, rule{flag, include, text, pattern})
	return nil
}

// ExcludeFrom adds the patterns in a file, one in a line; lines that are empty or begin with # are skipped.
func (r *Rules) ExcludeFrom(name string) error {
	const flag = "--exclude-from"
	f, err := os.Open(name)
	if err != nil {
		return setting.Unreadable(flag, name, err)
	}
	defer func() { _ = f.Close() }()
	in := &io.LimitedReader{R: f, N: maxBytes + 1}
	lines := bufio.NewScanner(in)
	n := 0
	for ; lines.Scan(); n++ {
		line := strings.TrimSpace(strings.TrimPrefix(lines.Text(), "\ufeff"))
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := r.add(fmt.Sprintf("%s, line %d of %s", flag, n+1, name), false, line); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil || in.N == 0 || n > maxLines {
		return setting.Bad(flag, name, fmt.Sprintf("a text of at most %d lines and %d bytes", maxLines, maxBytes))
	}
	return nil
}

// Shard chooses one of several shards, as in 3/16. The shards of all numbers have each path once.
func (r *Rules) Shard(text string) error {
	first, second, found := strings.Cut(text, "/")
	n, err := strconv.ParseUint(first, 10, 16)
	of, err2 := strconv.ParseUint(second, 10, 16)
	if !found || err != nil || err2 != nil || n < 1 || n > of {
		return setting.Bad("--shard", text, "NUMBER/COUNT, from 1/COUNT to COUNT/COUNT, such as 3/16")
	}
	r.shard, r.shards = uint32(n-1), uint32(of)
	return nil
}

// Sharded reports whether only a shard is chosen.
func (r *Rules) Sharded() bool { return r.shards > 0 }

// Any reports whether there is a rule or a shard.
func (r *Rules) Any() bool { return len(r.rules) > 0 || r.Sharded() }

// Chosen reports whether the file at a slash-separated path is chosen.
func (r *Rules) Chosen(rel string) bool {
	if r.shards > 0 {
		h := fnv.New32a()
		_, _ = h.Write([]byte(rel))
		if h.Sum32()%r.shards != r.shard {
			return false
		}
	}
	for _, rule := range slices.Backward(r.rules) {
		if rule.matches(rel) {
			return rule.include
		}
	}
	return len(r.rules) == 0 || !r.rules[0].include
}

// Without reports whether Chosen is false for all files below a directory. If it cannot be known, it is false.
func (r *Rules) Without(dir string) bool {
	for _, rule := range slices.Backward(r.rules) {
		switch {
		case rule.include:
			return false // it may match a file below
		case rule.matches(dir) || rule.matches(dir+"/x") && strings.HasSuffix(rule.pattern, "/*"):
			return true
		}
	}
	return false
}

// matches reports whether the pattern matches a path, or a directory above it.
func (r rule) matches(rel string) bool {
	for end := len(rel); end >= 0; end = strings.LastIndexByte(rel[:end], '/') {
		if doublestar.MatchUnvalidated(r.pattern, rel[:end]) {
			return true
		}
	}
	return false
}
