// Package yamlfile reads YAML files, and so JSON files. An error about the content of a file
// names the line and shows it, without secrets.
package yamlfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/seed-0f2c7998/perdure/internal/private"
	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// A File is a YAML file with one document.
type File struct {
	// Body is the document; nil if the file is empty.
	Body ast.Node

	path  string
	data  []byte
	words Words
}

// Words are the names that a kind of file may have. Errors do not show values of other names.
type Words struct {
	Sections []string // names whose values are mappings
	Names    []string // names of single values
	Example  string   // a name with a value
}

// Read reads the file at path; source names the flag or variable with the path. An error
// is one line, or that with the lines of the file below it, or [Errors].
func Read(path, source string, words Words) (*File, error) {
	data, err := Content(path, source, nil)
	if err != nil {
		return nil, err
	}
	return Parse(path, data, words)
}

// Parse reads the content of the file at path.
func Parse(path string, data []byte, words Words) (*File, error) {
	f := &File{path: path, data: bytes.TrimPrefix(data, []byte("\ufeff")), words: words} // byte order mark, from editors on Windows
	tokens, err := f.tokens()
	if err != nil {
		return nil, err
	}
	tree, err := parser.Parse(tokens, 0)
	if bad, ok := errors.AsType[yaml.Error](err); ok {
		return nil, f.Fail(bad.GetToken(), "%s", bad.GetMessage())
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for i, doc := range tree.Docs {
		if i > 0 && doc.Body != nil {
			return nil, f.Fail(doc.Body.GetToken(), "a second document: must be one document")
		}
		if i == 0 {
			f.Body = doc.Body
		}
	}
	return f, nil
}

// Content returns the content of the file at path, which may be a pipe or an endless device
// if check is nil. If not, the file is opened without waiting for a writer, and check's
// error is returned. source names the flag or variable with the path.
func Content(path, source string, check func(fs.FileInfo) error) ([]byte, error) {
	data, err := content(path, check)
	if err != nil {
		return nil, setting.Unreadable(source, path, err)
	}
	return data, nil
}

func content(path string, check func(fs.FileInfo) error) ([]byte, error) {
	flags := os.O_RDONLY
	if check != nil {
		flags |= private.AtOnce
	}
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if check != nil {
		info, err := f.Stat()
		if err == nil {
			err = check(info)
		}
		if err != nil {
			return nil, err
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, longest+1))
	if err == nil && len(data) > longest {
		err = errors.New("larger than 1 MiB")
	}
	return data, err
}

// Regular returns an error unless the file is a regular one: reading another one may block.
func Regular(info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return errors.New("not a regular file")
	}
	return nil
}

// Each calls do for each pair of a mapping, also after an error, and returns all errors (see
// [Join]). what is the name of the mapping in errors. A nil body is an empty mapping.
func (f *File) Each(body ast.Node, what string, do func(key string, at *token.Token, value ast.Node) error) error {
	var pairs []*ast.MappingValueNode
	switch n := body.(type) {
	case nil, *ast.NullNode, *ast.CommentGroupNode:
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	default:
		want := "must be names with values, such as " + f.words.Example
		if body == f.Body { // not a file of this kind: it may hold secrets
			return fmt.Errorf("%s: %s: %s", f.Place(body.GetToken()), what, want)
		}
		return f.Fail(body.GetToken(), "invalid value for %s: %s", what, want)
	}
	var all []error
	for _, pair := range pairs {
		at := pair.Key.GetToken()
		if err := do(at.Value, at, pair.Value); err != nil {
			all = append(all, err)
		}
		if len(all) > mostErrors {
			break
		}
	}
	return Join(all...)
}

// Plain returns the text of a scalar or, if list is set, of a list of scalars, as a flag
// has it.
func Plain(n ast.Node, list bool) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	case *ast.SequenceNode:
		texts := make([]string, len(n.Values))
		for i, v := range n.Values {
			text, ok := Plain(v, false)
			if !ok || strings.Contains(text, ",") {
				return "", false
			}
			texts[i] = text
		}
		return strings.Join(texts, ","), list
	}
	return "", false
}

// Unknown returns the error about an unknown name, the last part of path. It suggests the
// nearest of names.
func (f *File) Unknown(path string, at *token.Token, names []string) error {
	want := "must be one of " + strings.Join(names, ", ")
	key := path[strings.LastIndexByte(path, '.')+1:]
	if s := setting.Nearest(key, names); s != "" {
		want = "did you mean " + s + "?"
	}
	return f.Fail(at, "%s is unknown: %s", path, want)
}

// Fail returns an error with the place of a token and the lines around it.
func (f *File) Fail(at *token.Token, format string, args ...any) error {
	text := redact.String(fmt.Sprintf(format, args...)) // a name may be a secret that stands at the wrong place
	return Below(fmt.Errorf("%s: %s", f.Place(at), text), f.Excerpt(at))
}

// Below returns err with lines below it.
func Below(err error, lines string) error {
	all := []error{err}
	for line := range strings.SplitSeq(lines, "\n") {
		all = append(all, errors.New(line))
	}
	return errors.Join(all...)
}

// Place returns the file, the line and the column of a token.
func (f *File) Place(at *token.Token) string {
	return fmt.Sprintf("%s:%d:%d", f.path, at.Position.Line, at.Position.Column)
}

// Excerpt returns the lines around a token, without secrets, and without the values of
// unknown names, which may be secrets.
func (f *File) Excerpt(at *token.Token) string {
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
	// Lines with a name and a value, in YAML and in other formats, and the rest of a long line.
	pairs := regexp.MustCompile(`(?m)^([> ]+\d+ \| *(?:export +)?[-{"' ]*)([^\s:="']+)((?:[ \t]*:[ \t]+)|["'][ \t]*:[ \t]*|[ \t]*=[ \t]*)(\S.*)$`)
	tails := regexp.MustCompile(`(?m)^(.{200}).+$`)
	lines := pairs.ReplaceAllStringFunc(b.String(), func(line string) string {
		parts := pairs.FindStringSubmatch(line)
		name, value := parts[2], parts[4]
		if setting.Nearest(name, f.words.Names) != "" || slices.Contains(f.words.Sections, name) && !strings.HasPrefix(value, "{") {
			return line
		}
		return parts[1] + name + parts[3] + redact.Mark
	})
	lines = tails.ReplaceAllString(redact.String(lines), "$1 ...")
	return strings.TrimRight(lines, "\n")
}
