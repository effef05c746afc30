package main

import (
	"strconv"
	"strings"
	"unicode"

	"github.com/yuin/goldmark/ast"
)

// ids names headings as GitHub does, so that a link with a fragment leads to the same heading there and here: small
// letters, hyphens for spaces, and no punctuation.
type ids struct {
	used map[string]int
}

// Generate returns the name of a heading of that text.
func (s *ids) Generate(value []byte, _ ast.NodeKind) []byte {
	if s.used == nil {
		s.used = make(map[string]int)
	}
	name := slug(string(value))
	n := s.used[name]
	s.used[name]++
	if n > 0 {
		name += "-" + strconv.Itoa(n)
	}
	return []byte(name)
}

// Put does nothing: no heading has a name of its own.
func (s *ids) Put([]byte) {}

func slug(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, strings.TrimSpace(text))
}
