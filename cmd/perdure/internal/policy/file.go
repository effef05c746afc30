package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// A file is a YAML file of this form, every part of it optional:
//
//	policy:
//	  preset: s3_upload
//	  max_attempts: 7
//	circuit_breaker:
//	  failure_threshold: 5
//	store: memory
type file struct {
	path    string
	data    []byte
	entries []entry
}

// sections are the names that a file may have at its top.
//
//nolint:gochecknoglobals // a constant table
var sections = []string{"policy", "circuit_breaker", "store"}

// fromFile returns what the file at path sets; source is what named the file.
func fromFile(path, source string) ([]entry, error) {
	data, err := read(path)
	if err != nil {
		return nil, setting.Bad(source, path, "a file that can be read ("+reason(err)+")")
	}
	f := &file{path: path, data: bytes.TrimPrefix(data, []byte("\ufeff"))} // as editors of Windows begin a text
	tokens, err := f.tokens()
	if err != nil {
		return nil, err
	}
	tree, err := parser.Parse(tokens, 0)
	if bad, ok := errors.AsType[yaml.Error](err); ok {
		return nil, f.fail(bad.GetToken(), "%s", bad.GetMessage())
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for i, doc := range tree.Docs {
		if i > 0 && doc.Body != nil {
			return nil, f.fail(doc.Body.GetToken(), "a second document: there must be one")
		}
		if err := f.read(doc.Body); err != nil {
			return nil, err
		}
	}
	return f.entries, nil
}

// read returns the content of a file, which may be a pipe or a device that does not
// end.
func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, longest+1))
	if err == nil && len(data) > longest {
		err = errors.New("it has more than 1 MiB")
	}
	return data, err
}

// reason returns why a file cannot be read, without its path.
func reason(err error) string {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}

// theFile is what errors call all of it.
const theFile = "the file"

// read reads the document.
func (f *file) read(body ast.Node) error {
	return f.each(body, theFile, func(key string, at *token.Token, value ast.Node) error {
		switch key {
		case "policy", "circuit_breaker":
			return f.section(value, key)
		case "store":
			return f.add(key, key, at, value)
		}
		return f.unknown(key, at, sections)
	})
}

// section reads the parameters of one of the file's parts.
func (f *file) section(body ast.Node, title string) error {
	return f.each(body, title, func(key string, at *token.Token, value ast.Node) error {
		p, ok := find(key)
		if ok && p.Section() == title {
			return f.add(p.Name, title+"."+key, at, value)
		}
		if ok && p.Section() != "" {
			return f.fail(at, "%s.%s is unknown: must be in %s", title, key, p.Section())
		}
		var names []string
		for _, p := range Parameters() {
			if p.Section() == title {
				names = append(names, p.Name)
			}
		}
		return f.unknown(title+"."+key, at, names)
	})
}

// each calls do for every pair of a mapping. No body is an empty mapping.
func (f *file) each(body ast.Node, what string, do func(key string, at *token.Token, value ast.Node) error) error {
	var pairs []*ast.MappingValueNode
	switch n := body.(type) {
	case nil, *ast.NullNode, *ast.CommentGroupNode:
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	default:
		const want = "must be names with values, as max_attempts: 5"
		if what == theFile { // it is none of ours, and what is in it may be secret
			return fmt.Errorf("%s: %s: %s", f.place(body.GetToken()), what, want)
		}
		return f.fail(body.GetToken(), "%s: %s", what, want)
	}
	for _, pair := range pairs {
		at := pair.Key.GetToken()
		if err := do(at.Value, at, pair.Value); err != nil {
			return err
		}
	}
	return nil
}

// add adds an entry of the parameter of that name.
func (f *file) add(name, path string, at *token.Token, value ast.Node) error {
	p, _ := find(name)
	if slices.ContainsFunc(f.entries, func(e entry) bool { return e.Name == name }) {
		return f.fail(at, "%s is set twice", path)
	}
	text, ok := plain(value)
	if !ok {
		return f.fail(at, "%s: must be %s", path, p.Want)
	}
	f.entries = append(f.entries, entry{
		Parameter: p, text: text, source: f.place(at) + ": " + path, excerpt: f.excerpt(value.GetToken()),
	})
	return nil
}

// plain returns the text of a scalar, or of a list of them, as a flag has it.
func plain(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	case *ast.SequenceNode:
		texts := make([]string, len(n.Values))
		for i, v := range n.Values {
			text, ok := plain(v)
			if _, nested := v.(*ast.SequenceNode); !ok || nested || strings.Contains(text, ",") {
				return "", false
			}
			texts[i] = text
		}
		return strings.Join(texts, ","), true
	}
	return "", false
}

func (f *file) unknown(path string, at *token.Token, names []string) error {
	want := "must be one of " + strings.Join(names, ", ")
	key := path[strings.LastIndexByte(path, '.')+1:]
	if s := setting.Nearest(key, names); s != "" {
		want = "did you mean " + s + "?"
	}
	return f.fail(at, "%s is unknown: %s", path, want)
}

// fail returns an error about the place of a token.
func (f *file) fail(at *token.Token, format string, args ...any) error {
	return below(fmt.Errorf("%s: "+format, append([]any{f.place(at)}, args...)...), f.excerpt(at))
}

// below returns err with lines below it.
func below(err error, lines string) error {
	all := []error{err}
	for line := range strings.SplitSeq(lines, "\n") {
		all = append(all, errors.New(line))
	}
	return errors.Join(all...)
}

func (f *file) place(at *token.Token) string {
	return fmt.Sprintf("%s:%d:%d", f.path, at.Position.Line, at.Position.Column)
}

// excerpt returns the lines around a token, without the secrets of URLs in them,
// and without the values of names that are not like any here: they may be secrets.
func (f *file) excerpt(at *token.Token) string {
	var b strings.Builder
	const around = 3
	for i, line := range strings.Split(strings.TrimRight(string(f.data), "\r\n"), "\n") {
		n, sign := i+1, " "
		if n == at.Position.Line {
			sign = ">"
		}
		if n < at.Position.Line-around || n > at.Position.Line+around {
			continue
		}
		fmt.Fprintf(&b, "%s%3d | %s\n", sign, n, strings.TrimRight(line, " \r"))
		if sign == ">" && at.Position.Column <= 200 {
			fmt.Fprintf(&b, "%*s\n", len(">  1 | ")+at.Position.Column, "^")
		}
	}
	lines := b.String()
	var names []string
	for _, p := range Parameters() {
		names = append(names, p.Name)
	}
	lines = pairs.ReplaceAllStringFunc(lines, func(line string) string {
		parts := pairs.FindStringSubmatch(line)
		name, value := parts[2], parts[4]
		if setting.Nearest(name, names) != "" || slices.Contains(sections, name) && !strings.HasPrefix(value, "{") {
			return line
		}
		return parts[1] + name + parts[3] + redact.Mark
	})
	lines = tails.ReplaceAllString(redact.String(lines), "$1 ...")
	return strings.TrimRight(lines, "\n")
}

// Of an excerpt, pairs finds the lines that give a name a value, in YAML or as other
// files have it, and tails what is too much of a line.
var (
	pairs = regexp.MustCompile(`(?m)^([> ]+\d+ \| *(?:export +)?[-{"' ]*)([^\s:="']+)((?:[ \t]*:[ \t]+)|["'][ \t]*:[ \t]*|[ \t]*=[ \t]*)(\S.*)$`)
	tails = regexp.MustCompile(`(?m)^(.{200}).+$`)
)
