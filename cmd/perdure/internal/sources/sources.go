// Package sources makes one source of several: of files, directories, URLs, objects and prefixes on the command line, and of the
// URLs in a file. Package tree copies it like the prefix of a store.
package sources

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/filter"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/tree"
	"github.com/seed-0f2c7998/perdure/internal/checksum"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

// Options are the flags that say what the sources may be.
type Options struct {
	Recursive bool       // a directory, or a prefix that ends in a slash, means the files below it
	Links     tree.Links // below directories
	Stores    bool       // SRC and DST may be in different stores
}

// A Plan is what a command line with several sources means.
type Plan struct {
	endpoint.Tree

	Text    string // the sources, for messages
	Several bool   // they are of several places
}

// A matched endpoint is the objects that a pattern matches.
type matched struct {
	endpoint.Endpoint // the directory before the first wildcard

	text    string // the address with the pattern
	matches func(rel string) bool
}

func (m *matched) String() string { return m.text }

// Stat returns an error.
func (m *matched) Stat(context.Context) (endpoint.Info, error) { return endpoint.Info{}, errSeveral }

// List yields the objects that the pattern matches.
func (m *matched) List(ctx context.Context) iter.Seq2[endpoint.Item, error] {
	return func(yield func(endpoint.Item, error) bool) {
		for i, err := range m.Endpoint.List(ctx) {
			if (err != nil || m.matches(i.Rel)) && !yield(i, err) {
				return
			}
		}
	}
}

// Many is the endpoint of several sources. What Join returns may be used concurrently.
type Many struct {
	endpoint.Endpoint // of the first source; the methods below replace what is used

	text  string // for messages
	parts []part // in the byte order of the Rels of their items

	place   func() string // the destination of a list, by which records are found; nil means no records
	records *records      // nil before List
}

// A part is one source: a file, URL or object, or a directory or prefix.
type part struct {
	rel   string            // of the item, or, with a slash at its end, of the items below
	from  endpoint.Endpoint // nil if the part is a directory
	want  checksum.Sum
	dir   string
	links tree.Links
	open  *transfer.Tree // the directory; nil before Connect
}

func (p part) below() bool { return strings.HasSuffix(p.rel, "/") }

// Parse returns the plan of a copy of several sources, or of the objects that a pattern matches. Its errors are about SRC or DST.
// No request is sent.
func Parse(args []string, destination string, o Options) (Plan, error) {
	to, local, err := endpoint.ParseInto(destination)
	if err != nil {
		return Plan{}, err
	}
	if len(args) == 1 {
		return parsePattern(args[0], to, local, destination, o)
	}
	m := &Many{text: fmt.Sprintf("%d sources", len(args))}
	for _, text := range args {
		p, err := parsePart(text, o)
		if err != nil {
			return Plan{}, err
		}
		if err := p.check(text, to, local, o); err != nil {
			return Plan{}, err
		}
		m.parts = append(m.parts, p)
	}
	if err := m.sort(func(name string) error {
		return setting.Bad("SRC", name, "names that differ: two SRC would have this one in DST")
	}); err != nil {
		return Plan{}, err
	}
	return planned(m, to, local, destination), nil
}

// planned returns the plan of a copy of m.
func planned(m *Many, to endpoint.Endpoint, local bool, destination string) Plan {
	p := Plan{Tree: endpoint.Tree{From: m, To: to}, Text: m.text, Several: true}
	if local {
		p.To, p.Dir = nil, destination
	}
	return p
}

// Literal returns SRC in which \* is a star, and reports whether SRC is no pattern.
func Literal(text string) (literal string, ok bool) {
	from, _, literal, err := endpoint.Pattern("SRC", text)
	return literal, from == nil && err == nil
}

func parsePattern(text string, to endpoint.Endpoint, local bool, destination string, o Options) (Plan, error) {
	from, pattern, _, err := endpoint.Pattern("SRC", text)
	if err != nil {
		return Plan{}, err
	}
	matches, err := filter.Below("SRC", text, pattern, o.Recursive)
	if err != nil {
		return Plan{}, err
	}
	p := Plan{Tree: endpoint.Tree{From: &matched{from, text, matches}, To: to}, Text: text}
	if local {
		p.To, p.Dir = nil, destination
	} else if !o.Stores && endpoint.Overlap(from, to) {
		return Plan{}, setting.Bad("DST", to.String(), "neither in the directory of SRC nor around it")
	}
	return p, nil
}

func parsePart(text string, o Options) (part, error) {
	pattern, _, literal, err := endpoint.Pattern("SRC", text)
	switch {
	case err != nil:
		return part{}, err
	case pattern != nil:
		return part{}, setting.Bad("SRC", text, "the only SRC, as a pattern with a star")
	}
	if from, ok := prefix(literal); ok && o.Recursive {
		name := cmp.Or(from.Base(), from.Bucket())
		return part{rel: name + "/", from: from}, nil
	}
	from, err := endpoint.ParseSource("SRC", literal)
	if err != nil {
		return part{}, err
	}
	name := from.Base()
	if file, ok := from.(*endpoint.File); ok {
		info, err := os.Stat(file.Path)
		if err == nil && info.IsDir() && o.Recursive {
			return directory(file.Path, o)
		}
	}
	if name == "" {
		return part{}, setting.Bad("SRC", from.String(), "an address with a name at its end, as one of several SRC")
	}
	return part{rel: name, from: from}, nil
}

// prefix returns the prefix of a store that an address with a slash at its end, or of a whole bucket, means.
func prefix(text string) (*endpoint.Object, bool) {
	from, err := endpoint.ParsePrefix(text)
	return from, err == nil && (from.Key() == "" || strings.HasSuffix(from.Key(), "/"))
}

// directory returns the part of a directory. Its name is that of the directory, also if path is ".".
func directory(path string, o Options) (part, error) {
	whole, err := filepath.Abs(path)
	if err != nil {
		return part{}, endpoint.Explain("read", path, err)
	}
	name := filepath.Base(whole)
	if name == string(filepath.Separator) {
		return part{}, setting.Bad("SRC", path, "a directory with a name, as one of several SRC")
	}
	return part{rel: filepath.ToSlash(name) + "/", dir: path, links: o.Links}, nil
}

// check returns an error if the part cannot be copied to that destination.
func (p part) check(text string, to endpoint.Endpoint, local bool, o Options) error {
	at := to.Named(strings.TrimSuffix(p.rel, "/"))
	switch {
	case p.from == nil && local:
		into := filepath.Join(to.String(), strings.TrimSuffix(p.rel, "/"))
		if within(into, p.dir) || within(p.dir, into) {
			return setting.Bad("DST", into, "neither in "+p.dir+" nor around it")
		}
		return nil
	case p.from == nil || o.Stores && !local:
		return nil
	case p.below() && endpoint.Overlap(p.from, at):
		return setting.Bad("DST", at.String(), "neither in "+p.from.String()+" nor around it")
	case at.Is(p.from):
		return setting.Bad("DST", at.String(), "different from SRC "+text)
	}
	return nil
}

// within reports whether path, which need not exist, is the directory dir or is in it.
func within(path, dir string) bool {
	of, err := os.Stat(dir)
	if err != nil {
		return false
	}
	path, err = filepath.Abs(path)
	for above := ""; err == nil && above != path; above, path = path, filepath.Dir(path) {
		if target, failed := filepath.EvalSymlinks(path); failed == nil {
			path = target
		}
		if info, failed := os.Stat(path); failed == nil && os.SameFile(info, of) {
			return true
		}
	}
	return false
}

// sort sorts the parts. twice returns the error about a name that two parts have.
func (m *Many) sort(twice func(name string) error) error {
	slices.SortFunc(m.parts, func(a, b part) int { return cmp.Compare(a.rel, b.rel) })
	names := make(map[string]bool, len(m.parts))
	for _, p := range m.parts {
		name := strings.TrimSuffix(p.rel, "/")
		if names[name] {
			return twice(name)
		}
		names[name] = true
	}
	return nil
}

// String returns the sources in a few words.
func (m *Many) String() string { return m.text }

// Where returns String.
func (m *Many) Where() string { return m.text }

// Connect connects all sources, and opens the directories.
func (m *Many) Connect(ctx context.Context, s *endpoint.Session, _ endpoint.Role) error {
	var all []endpoint.Endpoint
	for i := range m.parts {
		p := &m.parts[i]
		if p.from != nil {
			all = append(all, p.from)
			continue
		}
		var err error
		if p.open, err = transfer.OpenTree(p.dir, true); err != nil {
			return endpoint.Explain("read", p.dir, err)
		}
	}
	return endpoint.ConnectAll(ctx, s, all)
}

// Close closes the directories.
func (m *Many) Close(done bool) error {
	var errs []error
	for _, p := range m.parts {
		if p.open != nil {
			errs = append(errs, p.open.Close(done))
		}
	}
	if m.records != nil {
		errs = append(errs, m.records.close())
	}
	return errors.Join(errs...)
}

// errSeveral is the error of Stat.
var errSeveral = errors.New("several sources")

// Stat returns an error.
func (m *Many) Stat(context.Context) (endpoint.Info, error) { return endpoint.Info{}, errSeveral }

// List yields the items of all sources.
func (m *Many) List(ctx context.Context) iter.Seq2[endpoint.Item, error] {
	if m.place != nil && m.records == nil {
		m.records = openRecords(m.place())
	}
	return func(yield func(endpoint.Item, error) bool) {
		for _, p := range m.parts {
			for i, err := range p.list(ctx) {
				if !yield(i, err) || err != nil {
					return
				}
			}
		}
	}
}

// list yields the items of a part.
func (p part) list(ctx context.Context) iter.Seq2[endpoint.Item, error] {
	return func(yield func(endpoint.Item, error) bool) {
		if !p.below() {
			yield(p.item(), nil)
			return
		}
		list := tree.Walked(ctx, p.dir, p.links)
		if p.from != nil {
			list = p.from.List(ctx)
		}
		for i, err := range list {
			i.Rel = p.rel + i.Rel
			if !yield(i, err) {
				return
			}
		}
	}
}

// item returns the item of a part that is one file.
func (p part) item() endpoint.Item {
	i := endpoint.Item{Rel: p.rel, Size: -1, Want: p.want}
	if file, ok := p.from.(*endpoint.File); ok {
		i.Size, i.Err = file.Size()
	}
	return i
}

// Join returns the endpoint of an item, or an error if no source has it.
func (m *Many) Join(rel string) (endpoint.Endpoint, error) {
	p, ok := m.find(rel)
	switch {
	case !ok:
		return nil, fs.ErrNotExist
	case !p.below():
		return p.from, nil
	}
	rest := strings.TrimPrefix(rel, p.rel)
	if p.from != nil {
		return p.from.Join(rest)
	}
	path := filepath.Join(p.dir, filepath.FromSlash(rest))
	return &endpoint.File{Path: path, OpenFile: func() (*os.File, error) { return tree.OpenFile(p.open, rest, path, p.links) }}, nil
}

// find returns the part that an item is of.
func (m *Many) find(rel string) (part, bool) {
	n, found := slices.BinarySearchFunc(m.parts, rel, func(p part, rel string) int { return cmp.Compare(p.rel, rel) })
	switch {
	case found:
		return m.parts[n], true
	case n > 0 && m.parts[n-1].below() && strings.HasPrefix(rel, m.parts[n-1].rel):
		return m.parts[n-1], true
	}
	return part{}, false
}
