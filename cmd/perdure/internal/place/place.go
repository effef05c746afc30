// Package place reads the arguments that say where bytes come from and where
// they go.
package place

import (
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// A Kind is what a place is.
type Kind uint8

// The kinds.
const (
	File   Kind = iota
	Stream      // "-": standard input or output
	Web         // an http or https URL
	Object      // s3://bucket/key
)

// A Place is where bytes come from or go to.
type Place struct {
	Kind Kind
	Text string // as it was given, or completed by a name
	Path string // of a file

	Bucket, Key string // of an object
}

// FileAt returns the place of the file of that path.
func FileAt(path string) Place { return Place{Kind: File, Text: path, Path: path} }

// ObjectAt returns the place of the object of that key.
func ObjectAt(bucket, key string) Place { return Place{Kind: Object, Bucket: bucket, Key: key} }

// String returns the place without the secrets that may be in it.
func (p Place) String() string {
	switch p.Kind {
	case Web:
		return redact.String(p.Text)
	case Object:
		return "s3://" + p.Bucket + "/" + p.Key
	default:
		return p.Text
	}
}

// What the arguments may be.
const (
	wantSource = "a file, - for standard input, an http or https URL, or s3://BUCKET/KEY"
	wantTarget = "a file, a directory, - for standard output, or s3://BUCKET/KEY"
)

// parse returns the place that an argument names; field and want are for its
// errors.
func parse(field, text, want string) (Place, error) {
	bad := func(want string) (Place, error) {
		return Place{}, setting.Bad(field, redact.String(text), want)
	}
	scheme, rest, found := strings.Cut(text, "://")
	switch {
	case text == "":
		return bad(want)
	case text == "-":
		return Place{Kind: Stream, Text: text}, nil
	case !found || strings.ContainsAny(scheme, `/\`):
		if near := nearly(text); near != "" {
			return Place{}, setting.Bad(field, near, "two slashes after the colon; a file of that name is ./"+near)
		}
		return FileAt(text), nil
	}
	switch strings.ToLower(scheme) {
	case "http", "https":
		u, err := url.Parse(text)
		if err != nil || u.Host == "" {
			return bad("a URL with a host, as https://example.org/stations.json")
		}
		return Place{Kind: Web, Text: text}, nil
	case "s3":
		bucket, key, _ := strings.Cut(rest, "/")
		if bucket == "" {
			return bad("a bucket in it, as s3://bucket/key")
		}
		return Place{Kind: Object, Text: text, Bucket: bucket, Key: key}, nil
	}
	return bad(want)
}

// nearly returns text, without its secrets, if it was to be an address and lacks
// slashes; "": it is the name of a file, if only of one that there is.
func nearly(text string) string {
	scheme, rest, found := strings.Cut(text, ":")
	if _, err := os.Lstat(text); !found || err == nil || !slices.Contains([]string{"s3", "http", "https"}, strings.ToLower(scheme)) {
		return ""
	}
	whole := scheme + "://"
	rest = strings.TrimPrefix(redact.String(whole+strings.TrimPrefix(rest, "/")), whole)
	if strings.HasPrefix(text, scheme+":/") {
		rest = "/" + rest
	}
	return scheme + ":" + rest
}

// Parse returns the places of a copy, the destination with the name of the
// source at its end where it has none. The errors are about SRC and DST.
func Parse(source, target string) (from, to Place, err error) {
	if from, err = parse("SRC", source, wantSource); err != nil {
		return from, to, err
	}
	if from.Kind == Object && from.Key == "" {
		return from, to, setting.Bad("SRC", from.Text, "one object, as s3://bucket/key")
	}
	if to, err = parse("DST", target, wantTarget); err != nil {
		return from, to, err
	}
	if to.Kind == Web {
		return from, to, setting.Bad("DST", to.String(), wantTarget)
	}
	if to, err = to.named(from); err != nil {
		return from, to, err
	}
	if to.Kind == Object && !utf8.ValidString(to.Key) {
		return from, to, setting.Bad("DST", to.String(), "a key that is UTF-8")
	}
	return from, to, apart(from, to)
}

// named returns the place with the source's name at its end, if it is a
// directory, a bucket, or a key that ends in a slash.
func (p Place) named(from Place) (Place, error) {
	switch {
	case p.Kind == File && isDir(p.Path), p.Kind == Object && (p.Key == "" || strings.HasSuffix(p.Key, "/")):
	default:
		return p, nil
	}
	name := from.base()
	if name == "" {
		return p, setting.Bad("DST", p.Text, "a name at its end: "+from.String()+" has none to give")
	}
	if p.Kind == Object {
		p.Key += name
		return p, nil
	}
	p.Path = filepath.Join(p.Path, name)
	p.Text = p.Path
	return p, nil
}

// base returns the last part of the place's name; "" if it has none.
func (p Place) base() string {
	name := ""
	switch p.Kind {
	case File:
		name = filepath.Base(p.Path)
	case Web:
		if u, err := url.Parse(p.Text); err == nil {
			name = path.Base(u.Path)
		}
	case Object:
		name = path.Base(p.Key)
	case Stream:
	}
	if name == "." || name == ".." || strings.ContainsAny(name, `/\`) || name == string(filepath.Separator) {
		return ""
	}
	return name
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir() || strings.HasSuffix(path, "/") || strings.HasSuffix(path, string(filepath.Separator))
}

// apart reports, as nil, that the places are not one and the same.
func apart(from, to Place) error {
	same := false
	switch {
	case from.Kind != to.Kind:
	case from.Kind == Object:
		same = from.Bucket == to.Bucket && from.Key == to.Key
	case from.Kind == File:
		a, errA := os.Stat(from.Path)
		b, errB := os.Stat(to.Path)
		same = errA == nil && errB == nil && a.Mode().IsRegular() && os.SameFile(a, b)
	}
	if same {
		return setting.Bad("DST", to.String(), "another place than SRC, which is the same")
	}
	return nil
}

// A Tree is a directory, and the part of a bucket that goes there or comes from
// there.
type Tree struct {
	Dir    string
	Bucket string
	Prefix string // of the keys; "" or it ends in a slash
	Up     bool   // from the directory to the bucket
}

// ParseTree reads the arguments of a copy of many files.
func ParseTree(source, destination string) (Tree, error) {
	const want = "a directory and s3://BUCKET/PREFIX, either of them first, to copy many files"
	from, err := parse("SRC", source, want)
	if err != nil {
		return Tree{}, err
	}
	to, err := parse("DST", destination, want)
	if err != nil {
		return Tree{}, err
	}
	switch {
	case from.Kind == File && to.Kind == Object:
		return Tree{from.Path, to.Bucket, directory(to.Key), true}, nil
	case from.Kind == Object && to.Kind == File:
		return Tree{to.Path, from.Bucket, directory(from.Key), false}, nil
	case from.Kind != File && from.Kind != Object:
		return Tree{}, setting.Bad("SRC", from.String(), want)
	}
	return Tree{}, setting.Bad("DST", to.String(), want)
}

// ParsePrefix reads an argument that names keys of a bucket: all of them, or
// those that begin with a prefix.
func ParsePrefix(text string) (bucket, prefix string, err error) {
	const want = "s3://BUCKET or s3://BUCKET/PREFIX"
	p, err := parse("argument", text, want)
	if err == nil && p.Kind != Object {
		err = setting.Bad("argument", p.String(), want)
	}
	return p.Bucket, p.Key, err
}

// directory returns the prefix of the keys that are below key.
func directory(key string) string {
	if key == "" || strings.HasSuffix(key, "/") {
		return key
	}
	return key + "/"
}
