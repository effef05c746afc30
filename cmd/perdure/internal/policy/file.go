package policy

import (
	"slices"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/yamlfile"
)

// A file is a YAML file of this form, in which every part is optional:
//
//	policy:
//	  preset: s3_upload
//	  max_attempts: 7
//	circuit_breaker:
//	  failure_threshold: 5
//	store: memory
type file struct {
	*yamlfile.File

	entries []entry
}

// words returns the names that a file may have.
func words() yamlfile.Words {
	w := yamlfile.Words{Sections: []string{"policy", "circuit_breaker", "store"}, Example: "max_attempts: 5"}
	for _, p := range Parameters() {
		w.Names = append(w.Names, p.Name)
	}
	return w
}

// fromFile returns the parameters that the file at path sets. source names the flag or
// variable with the path.
func fromFile(path, source string) ([]entry, error) {
	read, err := yamlfile.Read(path, source, words())
	if err != nil {
		return nil, err
	}
	f := &file{File: read}
	err = f.Each(f.Body, "the file", func(key string, at *token.Token, value ast.Node) error {
		switch key {
		case "policy", "circuit_breaker":
			return f.section(value, key)
		case "store":
			return f.add(key, key, at, value)
		}
		return f.Unknown(key, at, words().Sections)
	})
	return f.entries, err
}

// section reads the parameters of one section of the file.
func (f *file) section(body ast.Node, title string) error {
	return f.Each(body, title, func(key string, at *token.Token, value ast.Node) error {
		p, ok := find(key)
		if ok && p.Section() == title {
			return f.add(p.Name, title+"."+key, at, value)
		}
		if ok && p.Section() != "" {
			return f.Fail(at, "%s.%s is unknown: must be in %s", title, key, p.Section())
		}
		var names []string
		for _, p := range Parameters() {
			if p.Section() == title {
				names = append(names, p.Name)
			}
		}
		return f.Unknown(title+"."+key, at, names)
	})
}

// add adds an entry for the parameter of that name.
func (f *file) add(name, path string, at *token.Token, value ast.Node) error {
	p, _ := find(name)
	if slices.ContainsFunc(f.entries, func(e entry) bool { return e.Name == name }) {
		return f.Fail(at, "%s is set twice", path)
	}
	text, ok := yamlfile.Plain(value, p.List)
	if !ok {
		return f.Fail(at, "invalid value for %s: must be %s", path, p.Want)
	}
	f.entries = append(f.entries, entry{
		Parameter: p, text: text, source: f.Place(at) + ": " + path, excerpt: f.Excerpt(value.GetToken()),
	})
	return nil
}
