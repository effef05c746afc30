package main

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

//go:embed page.html style.css
var files embed.FS

// A site is a set of pages and the files that they show or lead to. Names are slash-separated and relative to the root of
// the tree; a page is written where its source is, with the ending html.
type site struct {
	root   string
	pages  map[string]*page // by the name of the source
	manual []string         // the sources of the command's pages, in the order of its help
	assets map[string]bool  // names of files that are copied
}

// A page is one page of the site.
type page struct {
	Source string // "docs/copy.md"
	Name   string // "docs/copy.html"
	Title  string
	Short  string // what navigation calls it
	Body   template.HTML
	Parts  []part // its headings of the second level
}

// A part is a heading that a page leads to.
type part struct {
	ID, Text string
}

func newSite(root string) *site {
	return &site{root: root, pages: make(map[string]*page), assets: make(map[string]bool)}
}

// target returns the name of the page that is made of a source.
func target(source string) string {
	if path.Base(source) == "README.md" {
		return path.Join(path.Dir(source), "index.html")
	}
	return strings.TrimSuffix(source, ".md") + ".html"
}

// relative returns the way from the page from to the file to.
func relative(from, to string) string {
	way, err := filepath.Rel(filepath.FromSlash(path.Dir(from)), filepath.FromSlash(to))
	if err != nil {
		return to
	}
	return filepath.ToSlash(way)
}

// sections returns the order of pages in navigation. Pages that it does not name follow under the last title.
func sections() []section {
	return []section{
		{"Start", []string{"README.md", "docs/tutorial.md", "docs/recipes.md", "docs/from-other-tools.md"}},
		{"The command", []string{
			"docs/copy.md", "docs/run.md", "docs/proxy.md", "docs/proxy-s3.md", "docs/dagster.md", "docs/policies.md",
			"docs/limits.md", "docs/shared-state.md", "docs/simulate.md", "docs/metrics.md", "docs/dashboards.md",
		}},
		{"The library", []string{
			"docs/choosing.md", "docs/combining.md", "docs/http.md", "docs/grpc.md", "docs/sql.md", "docs/telemetry.md", "docs/testing.md",
		}},
		{"Background", []string{"docs/why.md", "docs/errors.md", "docs/performance.md", "docs/seed.md"}},
		{"Manual", nil},
		{"More", nil},
	}
}

// A section is a title of navigation and the sources below it.
type section struct {
	Title   string
	Sources []string
}

// order returns the sections with all pages of the site. Decisions are in none: their list is a page.
func (s *site) order() []section {
	all := sections()
	placed := make(map[string]bool)
	for i := range all {
		all[i].Sources = slices.DeleteFunc(all[i].Sources, func(source string) bool { return s.pages[source] == nil })
		for _, source := range all[i].Sources {
			placed[source] = true
		}
	}
	all[len(all)-2].Sources = s.manual
	more := &all[len(all)-1]
	for _, source := range slices.Sorted(maps.Keys(s.pages)) {
		if !placed[source] && !strings.HasPrefix(source, "commands/") && !strings.HasPrefix(source, "docs/decisions/0") {
			more.Sources = append(more.Sources, source)
		}
	}
	return all
}

// A view is what the template shows of a page.
type view struct {
	*page
	Style          string
	Menu           []menu
	Previous, Next *link
}

type menu struct {
	Title string
	Links []link
}

type link struct {
	Text, To string
	Here     bool
}

// write writes all pages and assets below out.
func (s *site) write(out string) error {
	form, err := template.ParseFS(files, "page.html")
	if err != nil {
		return err
	}
	order := s.order()
	for _, p := range s.pages {
		var text bytes.Buffer
		if err := form.Execute(&text, s.view(p, order)); err != nil {
			return fmt.Errorf("%s: %w", p.Source, err)
		}
		if err := save(out, p.Name, text.Bytes()); err != nil {
			return err
		}
	}
	for name := range s.assets {
		data, err := os.ReadFile(filepath.Join(s.root, filepath.FromSlash(name)))
		if err != nil {
			return err
		}
		if err := save(out, name, data); err != nil {
			return err
		}
	}
	style, err := files.ReadFile("style.css")
	if err != nil {
		return err
	}
	return save(out, "style.css", style)
}

// view returns what the page p shows beside its body.
func (s *site) view(p *page, order []section) view {
	v := view{page: p, Style: relative(p.Name, "style.css")}
	var before, last *link
	for _, sec := range order {
		m := menu{Title: sec.Title}
		for _, source := range sec.Sources {
			to := s.pages[source]
			l := link{to.Short, relative(p.Name, to.Name), to == p}
			m.Links = append(m.Links, l)
			switch {
			case to == p:
				v.Previous, before = last, &l
			case before != nil:
				v.Next, before = &l, nil
			}
			last = &l
		}
		if len(m.Links) > 0 {
			v.Menu = append(v.Menu, m)
		}
	}
	return v
}

func save(out, name string, data []byte) error {
	file := filepath.Join(out, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil { //nolint:gosec // a site is for everyone
		return err
	}
	return os.WriteFile(file, data, 0o644) //nolint:gosec // a site is for everyone
}
