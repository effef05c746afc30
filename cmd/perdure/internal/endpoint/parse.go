package endpoint

import (
	"os"
	"slices"
	"strings"

	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// A scheme is a kind of address. An empty source, target or tree means that the scheme cannot have that use.
type scheme struct {
	names  []string                                   // the part before "://"; "" is a path
	parse  func(field, text string) (Endpoint, error) // its errors are about field
	source string                                     // description as SRC
	target string                                     // description as DST
	tree   string                                     // description as one side of copy -r
}

// schemes is the table of all schemes.
var schemes = []scheme{ //nolint:gochecknoglobals // a table
	{names: []string{""}, parse: parseFile, source: "a file", target: "a file, a directory"},
	{names: []string{"-"}, parse: parseStream, source: "- for standard input", target: "- for standard output"},
	{names: []string{"http", "https"}, parse: parseWeb, source: "an http or https URL"},
	{names: []string{"s3"}, parse: parseObject, source: "s3://BUCKET/KEY", target: "s3://BUCKET/KEY", tree: "s3://BUCKET/PREFIX"},
}

// words joins the descriptions of all schemes, such as "a file, -, or s3://BUCKET/KEY".
func words(of func(scheme) string) string {
	var all []string
	for _, s := range schemes {
		if text := of(s); text != "" {
			all = append(all, text)
		}
	}
	if len(all) < 2 {
		return strings.Join(all, "")
	}
	return strings.Join(all[:len(all)-1], ", ") + ", or " + all[len(all)-1]
}

// find returns the scheme of an address.
func find(field, text, want string) (scheme, error) {
	name, _, found := strings.Cut(text, "://")
	switch {
	case text == "":
		return scheme{}, setting.Bad(field, "", want)
	case text == "-":
		name = "-"
	case !found || strings.ContainsAny(name, `/\`):
		if near := nearly(text); near != "" {
			return scheme{}, setting.Bad(field, near, "written with two slashes after the colon, or as ./"+near+" if it is a file")
		}
		name = ""
	}
	i := slices.IndexFunc(schemes, func(s scheme) bool { return slices.Contains(s.names, strings.ToLower(name)) })
	if i < 0 {
		return scheme{}, setting.Bad(field, text, want)
	}
	return schemes[i], nil
}

// parse returns the endpoint of an address whose scheme has that use.
func parse(field, text string, use func(scheme) string) (Endpoint, error) {
	want := words(use)
	s, err := find(field, text, want)
	if err != nil {
		return nil, err
	}
	if use(s) == "" {
		return nil, setting.Bad(field, text, want)
	}
	return s.parse(field, text)
}

// nearly returns text, without secrets, if it is an address that lacks slashes. It returns "" if text is a path, or the name
// of a file that exists.
func nearly(text string) string {
	name, rest, found := strings.Cut(text, ":")
	known := slices.ContainsFunc(schemes, func(s scheme) bool { return name != "" && slices.Contains(s.names, strings.ToLower(name)) })
	if _, err := os.Lstat(text); !found || err == nil || !known {
		return ""
	}
	whole := name + "://"
	rest = strings.TrimPrefix(redact.String(whole+strings.TrimPrefix(rest, "/")), whole)
	if strings.HasPrefix(text, name+":/") {
		rest = "/" + rest
	}
	return name + ":" + rest
}

// Parse returns the endpoints of a copy. If DST is a directory, the name of SRC is appended. stores says that they may be in
// different stores. Errors are about SRC or DST.
func Parse(source, target string, stores bool) (from, to Endpoint, err error) {
	if from, err = ParseSource("SRC", source); err != nil {
		return nil, nil, err
	}
	if to, err = parse("DST", target, func(s scheme) string { return s.target }); err != nil {
		return nil, nil, err
	}
	base := from.Base()
	if named := to.Named(base); named != nil {
		if base == "" {
			return nil, nil, setting.Bad("DST", to.String(), "an address with a name at its end: "+from.String()+" has no name to append")
		}
		to = named
	}
	if to.Is(from) && !stores {
		return nil, nil, setting.Bad("DST", to.String(), "different from SRC")
	}
	return from, to, to.Check("DST", Destination)
}

// ParseSource returns the endpoint of one source. Its errors are about field.
func ParseSource(field, text string) (Endpoint, error) {
	from, err := parse(field, text, func(s scheme) string { return s.source })
	if err != nil {
		return nil, err
	}
	return from, from.Check(field, Source)
}

// ParseInto returns the endpoint of a directory or prefix, as DST of several sources, and whether it is a directory.
func ParseInto(text string) (to Endpoint, local bool, err error) {
	const want = "a directory that exists, s3://BUCKET, or an address that ends in a slash, for several files"
	s, err := find("DST", text, want)
	if err != nil {
		return nil, false, err
	}
	local = s.names[0] == ""
	if !local && s.tree == "" {
		return nil, false, setting.Bad("DST", text, want)
	}
	if to, err = s.parse("DST", text); err != nil {
		return nil, false, err
	}
	if to.Named("name") == nil {
		return nil, false, setting.Bad("DST", text, want)
	}
	return to, local, to.Check("DST", Destination)
}

// A Tree is the two sides of a copy of many files: a directory and the prefix of a store, or two prefixes.
type Tree struct {
	From, To Endpoint // nil is Dir
	Dir      string   // "" if both sides are prefixes
}

// ParseTree parses the arguments of a copy of many files. stores says that they may be in different stores.
func ParseTree(source, destination string, stores bool) (t Tree, err error) {
	prefix := words(func(s scheme) string { return s.tree })
	want := "a directory or " + prefix
	var sides [2]Endpoint
	for i, text := range []string{source, destination} {
		field := []string{"SRC", "DST"}[i]
		s, err := find(field, text, want)
		if err != nil {
			return t, err
		}
		local := s.names[0] == ""
		if !local && s.tree == "" || local && t.Dir != "" {
			return t, setting.Bad(field, text, want)
		}
		if local {
			t.Dir, want = text, prefix+", because SRC is a directory"
			continue
		}
		if sides[i], err = s.parse(field, text); err != nil {
			return t, err
		}
	}
	t.From, t.To = sides[0], sides[1]
	if t.Dir == "" && !stores && overlap(t.From.String(), t.To.String()) {
		return t, setting.Bad("DST", t.To.String(), "neither in SRC nor around it")
	}
	return t, nil
}

// Overlap reports whether one of two prefixes of a store is the other, or below it. Other endpoints have none below them.
func Overlap(a, b Endpoint) bool {
	from, ok := a.(*Object)
	to, both := b.(*Object)
	return ok && both && overlap(from.String(), to.String())
}

// overlap reports whether one address is that of the other, or below it.
func overlap(a, b string) bool {
	a, b = directory(a), directory(b)
	return strings.HasPrefix(a, b) || strings.HasPrefix(b, a)
}
