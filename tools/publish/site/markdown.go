package main

import (
	"bytes"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
)

// repository is where files of the tree are that are not in the site.
const repository = "https://github.com/seed-0f2c7998/perdure/blob/main/"

// copied are the endings of files that the site has too.
func copied() []string { return []string{".svg", ".png", ".json", ".yaml", ".yml"} }

// addTree adds the page of the Markdown file source, and the pages and files that it leads to.
func (s *site) addTree(source string) error {
	if s.pages[source] != nil {
		return nil
	}
	data, err := os.ReadFile(filepath.Join(s.root, filepath.FromSlash(source)))
	if err != nil {
		return err
	}
	p, found, err := s.markdown(source, data)
	if err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}
	s.pages[source] = p
	for _, next := range found {
		if err := s.addTree(next); err != nil {
			return err
		}
	}
	return nil
}

// markdown returns the page of a Markdown text, and the sources of the pages that it leads to.
func (s *site) markdown(source string, data []byte) (*page, []string, error) {
	md := goldmark.New(goldmark.WithExtensions(extension.GFM), goldmark.WithParserOptions(parser.WithAutoHeadingID()))
	doc := md.Parser().Parse(text.NewReader(data), parser.WithContext(parser.NewContext(parser.WithIDs(&ids{}))))
	p := &page{Source: source, Name: target(source)}
	var found []string
	err := ast.Walk(doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		var err error
		switch n := n.(type) {
		case *ast.Heading:
			heading(p, n, data)
		case *ast.Image:
			n.Destination, _, err = s.resolve(source, n.Destination)
		case *ast.Link:
			var next []string
			n.Destination, next, err = s.resolve(source, n.Destination)
			found = append(found, next...)
		}
		return ast.WalkContinue, err
	})
	if err != nil {
		return nil, nil, err
	}
	var body bytes.Buffer
	if err := md.Renderer().Render(&body, data, doc); err != nil {
		return nil, nil, err
	}
	p.Body = template.HTML(framed(body.String())) //nolint:gosec // raw HTML is left out by goldmark
	p.Short = p.Title
	if _, name, ok := strings.Cut(path.Dir(source), "/"); ok && path.Base(source) == "README.md" {
		p.Short = "Example: " + name
	}
	if source == "README.md" {
		p.Short = "Overview"
	}
	return p, found, nil
}

// heading notes a heading in p: the first one is its title.
func heading(p *page, n *ast.Heading, data []byte) {
	words := plain(n, data)
	if id, ok := n.AttributeString("id"); ok && n.Level == 2 {
		if name, ok := id.([]byte); ok {
			p.Parts = append(p.Parts, part{string(name), words})
		}
	}
	if p.Title == "" {
		p.Title = words
	}
}

// plain returns the text of n without its form.
func plain(n ast.Node, data []byte) string {
	var b strings.Builder
	_ = ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if leaf, ok := n.(*ast.Text); ok && entering {
			b.Write(leaf.Segment.Value(data))
		}
		return ast.WalkContinue, nil
	})
	return b.String()
}

// flags finds a tag or a space with the flag of a command that follows it, and other tags.
var flags = regexp.MustCompile(`(<[^>]*>|[\s(])(--[\w-]*|-[A-Za-z][\w-]*)|<[^>]*>`)

// framed puts each table into an element that scrolls, so that a wide one does not widen the page, makes what scrolls
// reachable by keyboard, and keeps flags from being broken at their hyphens.
func framed(body string) string {
	body = flags.ReplaceAllStringFunc(body, func(found string) string {
		if m := flags.FindStringSubmatch(found); m[2] != "" {
			return m[1] + `<span class="flag">` + m[2] + "</span>"
		}
		return found
	})
	return strings.NewReplacer("<table>", `<div class="wide" tabindex="0"><table>`, "</table>", "</table></div>",
		"<pre>", `<pre tabindex="0">`, "<th>", `<th scope="col">`, "<th ", `<th scope="col" `).Replace(body)
}

// resolve returns the destination that a link of the page source has in the site, and the sources of the pages that it
// leads to, if there are such.
func (s *site) resolve(source string, destination []byte) (to []byte, next []string, err error) {
	u, err := url.Parse(string(destination))
	if err != nil || u.IsAbs() || u.Path == "" {
		return destination, nil, err
	}
	name := path.Join(path.Dir(source), u.Path)
	info, err := os.Stat(filepath.Join(s.root, filepath.FromSlash(name)))
	if err != nil {
		return nil, nil, err
	}
	if info.IsDir() {
		if name, next, err = s.index(name); err != nil {
			return nil, nil, err
		}
	}
	switch {
	case path.Ext(name) == ".md":
		next = append(next, name)
		name = target(name)
	case slices.Contains(copied(), path.Ext(name)):
		s.assets[name] = true
	default:
		return []byte(repository + name), next, nil
	}
	u.Path = relative(target(source), name)
	return []byte(u.String()), next, nil
}

// index returns the page that stands for a directory: its README.md, or a list of its pages, which index makes. Without
// both it is the directory itself.
func (s *site) index(dir string) (name string, next []string, err error) {
	readme := path.Join(dir, "README.md")
	if _, err := os.Stat(filepath.Join(s.root, filepath.FromSlash(readme))); err == nil {
		return readme, nil, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", nil, err
	}
	found, err := filepath.Glob(filepath.Join(s.root, filepath.FromSlash(dir), "*.md"))
	if err != nil || len(found) == 0 {
		return dir, nil, err
	}
	if s.pages[readme] != nil {
		return readme, nil, nil
	}
	title := strings.ToUpper(path.Base(dir)[:1]) + path.Base(dir)[1:]
	list := []byte("# " + title + "\n\n")
	s.pages[readme] = &page{} // the pages of the list may lead to it
	for _, file := range found {
		base := filepath.Base(file)
		next = append(next, path.Join(dir, base))
		line, err := firstLine(file)
		if err != nil {
			return "", nil, err
		}
		list = fmt.Appendf(list, "- [%s](%s)\n", line, base)
	}
	p, _, err := s.markdown(readme, list)
	if err != nil {
		return "", nil, err
	}
	p.Short = title
	s.pages[readme] = p
	return readme, next, nil
}

// firstLine returns the heading that a Markdown file begins with.
func firstLine(file string) (string, error) {
	data, err := os.ReadFile(file) //nolint:gosec // a file of the tree
	line, _, _ := strings.Cut(string(data), "\n")
	return strings.TrimPrefix(line, "# "), err
}
