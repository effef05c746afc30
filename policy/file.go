package policy

import (
	"cmp"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/policy/yamlfile"
)

// Default is the name of the policy from which the others of a file inherit, and of the
// policy of a file that has one.
const Default = "default"

// A File holds the values of a policy file. All of them have been checked. A File does not
// change, so it is safe for concurrent use.
type File struct {
	path     string
	store    []Value
	policies []named
	breakers []named

	upstreams []Upstream
}

// A named policy or breaker.
type named struct {
	name   string
	values []Value
	at     *token.Token
}

// sections returns the names at the top level of a file.
func sections() []string {
	return []string{policySection, breakerSection, "policies", "breakers", "store", proxySection}
}

// words returns the names that a file may have.
func words() yamlfile.Words {
	return yamlfile.Words{
		Sections: append(sections(), Default), Example: "max_attempts: 5",
		Names: append(parameterNames(func(Parameter) bool { return true }), "to"),
	}
}

// Read reads the file at path, or that at [DefaultPath] if path is "". source names the flag
// or variable with the path, for errors. An error about the content names the first 20 errors.
func Read(path, source string) (*File, error) {
	path, data, err := content(path, source, nil)
	if err != nil {
		return nil, err
	}
	return parse(path, data)
}

// content returns the path of the file and its content.
func content(path, source string, check func(fs.FileInfo) error) (string, []byte, error) {
	if path == "" {
		path, check = DefaultPath(), yamlfile.Private
	}
	data, err := yamlfile.Content(path, source, check)
	return path, data, err
}

// parse reads the content of the file at path.
func parse(path string, data []byte) (*File, error) {
	body, err := yamlfile.Parse(path, data, words())
	if err != nil {
		return nil, err
	}
	r := &reader{File: body, out: &File{path: path}}
	err = r.read()
	if err = yamlfile.Join(err, r.check(err == nil)); err != nil {
		return nil, err
	}
	return r.out, nil
}

// Names returns the names of all policies, in the order of the file.
func (f *File) Names() []string {
	names := make([]string, len(f.policies))
	for i, p := range f.policies {
		names[i] = p.name
	}
	return names
}

// Values returns the values of the policy of that name, which apply in order: those of
// default, its own, and the store. An unknown name is an error about source.
func (f *File) Values(source, name string) ([]Value, error) {
	i := slices.IndexFunc(f.policies, func(p named) bool { return p.name == name })
	if i < 0 {
		if len(f.policies) == 0 {
			return nil, setting.Bad(source, name, "absent: "+f.path+" has no policies")
		}
		return nil, setting.Unknown(source, name, f.Names())
	}
	return slices.Concat(f.inherited(f.policies[i]), f.policies[i].values, f.store), nil
}

// Store returns the value of the store, if the file has one.
func (f *File) Store() []Value { return slices.Clone(f.store) }

// inherited returns the values of default for p. A breaker that is shared is replaced by
// settings of p, not changed by them.
func (f *File) inherited(p named) []Value {
	if p.name == Default {
		return nil
	}
	i := slices.IndexFunc(f.policies, func(p named) bool { return p.name == Default })
	if i < 0 {
		return nil
	}
	own := slices.ContainsFunc(p.values, func(v Value) bool { return v.Name == breakerSection })
	return slices.DeleteFunc(slices.Clone(f.policies[i].values), func(v Value) bool {
		return v.Name == "name" || own && v.Name == breakerSection
	})
}

// A reader reads a File.
type reader struct {
	*yamlfile.File

	out    *File
	one    *named // the policy of the sections policy and circuit_breaker
	first  *token.Token
	plural bool // the file has policies or breakers
	chosen []choosing
}

// read reads all that can be read, and returns all errors.
func (r *reader) read() error {
	all := []error{r.Each(r.Body, "the file", r.section)}
	if !r.plural {
		r.out.policies = []named{*cmp.Or(r.one, &named{name: Default})}
	}
	for i := range r.out.policies {
		for j := range r.out.policies[i].values {
			all = append(all, r.resolve(&r.out.policies[i].values[j]))
		}
	}
	return yamlfile.Join(append(all, r.checkChoices())...)
}

// section reads a section of the top level.
func (r *reader) section(key string, at *token.Token, value ast.Node) error {
	switch key {
	case policySection, breakerSection, "policies", "breakers":
		plural := key == "policies" || key == "breakers"
		if r.first != nil && plural != r.plural {
			return r.Fail(at, "%s is invalid beside %s: one policy is policy and circuit_breaker, several are policies and breakers", key, r.first.Value)
		}
		r.first, r.plural = cmp.Or(r.first, at), plural
	}
	switch key {
	case policySection, breakerSection:
		r.one = cmp.Or(r.one, &named{name: Default})
		if key == breakerSection {
			r.one.values = append(r.one.values, Value{Name: key, Source: r.Place(at) + ": " + key, own: true})
		}
		return r.parameters(&r.one.values, value, key, func(p Parameter) bool { return p.Section() == key })
	case "policies":
		return r.named(&r.out.policies, value, key, r.policy)
	case "breakers":
		return r.named(&r.out.breakers, value, key, r.breaker)
	case "store":
		if err := r.add(&r.out.store, key, key, at, value); err != nil {
			return err
		}
		v := r.out.store[0]
		if err := new(Settings).setStore(v.Text); err != nil {
			return v.atSource(err)
		}
		return nil
	case proxySection:
		return r.Each(value, key, r.upstream)
	}
	return r.Unknown(key, at, sections())
}

// nameText returns the form of the name of a policy or of a breaker.
var nameText = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(namePattern) }) //nolint:gochecknoglobals // compiled when needed: it takes 0.5 ms

const namePattern = `^[A-Za-z0-9_][A-Za-z0-9_.:/@-]{0,199}$`

// named reads a mapping from names.
func (r *reader) named(to *[]named, body ast.Node, title string, read func(*[]Value, ast.Node, string) error) error {
	return r.Each(body, title, func(key string, at *token.Token, value ast.Node) error {
		if !nameText().MatchString(key) {
			return r.Fail(at, "invalid name in %s: must be letters, digits and any of _ . : / @ -, at most 200", title)
		}
		if slices.ContainsFunc(*to, func(n named) bool { return n.name == key }) {
			return r.Fail(at, "%s.%s is set twice", title, key)
		}
		n := named{name: key, at: at}
		err := read(&n.values, value, title+"."+key)
		*to = append(*to, n) // also after an error: others may name it
		return err
	})
}

// policy reads one of the policies.
func (r *reader) policy(to *[]Value, body ast.Node, title string) error {
	return r.Each(body, title, func(key string, at *token.Token, value ast.Node) error {
		if key != breakerSection {
			return r.parameter(to, key, at, value, title, func(p Parameter) bool { return p.Section() == policySection })
		}
		path := title + "." + key
		if _, plain := value.(*ast.StringNode); plain {
			return r.append(to, key, path, at, value)
		}
		*to = append(*to, Value{Name: key, Source: r.Place(at) + ": " + path, own: true})
		return r.parameters(to, value, path, func(p Parameter) bool { return p.Breaker })
	})
}

// breaker reads one of the shared breakers.
func (r *reader) breaker(to *[]Value, body ast.Node, title string) error {
	return r.parameters(to, body, title, func(p Parameter) bool { return p.Breaker || p.Name == "preset" })
}

// resolve finds the shared breaker that v names.
func (r *reader) resolve(v *Value) error {
	if v.Name != breakerSection || v.own {
		return nil
	}
	names := make([]string, len(r.out.breakers))
	for i, b := range r.out.breakers {
		if names[i] = b.name; b.name == v.Text {
			v.shared = b.values
			return nil
		}
	}
	if len(names) == 0 {
		return v.atSource(setting.Bad(breakerSection, v.Text, "settings, or the name of one of breakers, which the file has not"))
	}
	return v.atSource(setting.Unknown(breakerSection, v.Text, names))
}

// parameters reads a mapping of the wanted parameters.
func (r *reader) parameters(to *[]Value, body ast.Node, title string, wanted func(Parameter) bool) error {
	return r.Each(body, title, func(key string, at *token.Token, value ast.Node) error {
		return r.parameter(to, key, at, value, title, wanted)
	})
}

// parameter reads one of the wanted parameters.
func (r *reader) parameter(to *[]Value, key string, at *token.Token, value ast.Node, title string, wanted func(Parameter) bool) error {
	p, ok := Find(key)
	switch {
	case ok && wanted(p):
		return r.add(to, p.Name, title+"."+key, at, value)
	case ok && p.Section() != "" && !strings.HasPrefix(title, "breakers."):
		return r.Fail(at, "%s.%s is unknown: must be in %s", title, key, p.Section())
	}
	return r.Unknown(title+"."+key, at, parameterNames(wanted))
}

// add adds the value of the parameter of that name.
func (r *reader) add(to *[]Value, name, path string, at *token.Token, value ast.Node) error {
	if slices.ContainsFunc(*to, func(v Value) bool { return v.Name == name }) {
		return r.Fail(at, "%s is set twice", path)
	}
	return r.append(to, name, path, at, value)
}

func (r *reader) append(to *[]Value, name, path string, at *token.Token, value ast.Node) error {
	p, _ := Find(name)
	text, ok := yamlfile.Plain(value, p.List)
	if !ok {
		return r.Fail(at, "invalid value for %s: must be %s", path, p.Want)
	}
	*to = append(*to, Value{Name: name, Text: text, Source: r.Place(at) + ": " + path, excerpt: r.Excerpt(value.GetToken())})
	return nil
}

// check returns the errors of all values that are invalid, and if all else could be read, those
// of values that do not fit each other. A file with one policy is checked when its values are
// merged with those of flags, which may complete them.
func (r *reader) check(read bool) error {
	if !r.plural && read {
		return nil
	}
	var all error
	for _, b := range r.out.breakers {
		_, err := apply(Default, b.values)
		if err == nil && read {
			err = r.checkBreaker(b)
		}
		all = yamlfile.Join(all, err)
	}
	read = read && all == nil
	for _, p := range r.out.policies {
		_, err := apply(Default, slices.DeleteFunc(slices.Clone(p.values), func(v Value) bool { return v.Name == breakerSection }))
		if err == nil && read {
			_, err = r.out.Settings(p.name)
		}
		all = yamlfile.Join(all, err)
	}
	return all
}

// checkBreaker checks a shared breaker: a preset without one would have no effect.
func (r *reader) checkBreaker(b named) error {
	s, err := Merge(Default, b.values...)
	if err != nil {
		return err
	}
	if at := s.Given("preset"); at != "" && isZero(breaker(s.Preset)) {
		return s.values["preset"].atSource(setting.Bad(at, s.Preset, "service or pipeline: no other preset has a circuit breaker"))
	}
	return nil
}

// Settings returns the settings of the policy of that name. The preset default applies if
// the file names none. An unknown name is an error with the nearest one.
func (f *File) Settings(name string) (*Settings, error) {
	values, err := f.Values("policy", name)
	if err != nil {
		return nil, err
	}
	s, err := Merge(Default, values...)
	if err != nil {
		return nil, err
	}
	if s.Policy.Name == "" && name != Default {
		s.Policy.Name = name
	}
	return s, nil
}
