package copying

import (
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// A kind is what a place is.
type kind uint8

const (
	file   kind = iota
	stream      // "-": standard input or output
	web         // an http or https URL
	object      // s3://bucket/key
)

// A place is where bytes come from or go to.
type place struct {
	kind kind
	text string // as it was given, or completed by a name
	path string // of a file

	bucket, key string // of an object
}

// String returns the place without the secrets that may be in it.
func (p place) String() string {
	switch p.kind {
	case web:
		return redact.String(p.text)
	case object:
		return "s3://" + p.bucket + "/" + p.key
	default:
		return p.text
	}
}

// What the arguments may be.
const (
	wantSource = "a file, - for standard input, an http or https URL, or s3://BUCKET/KEY"
	wantTarget = "a file, a directory, - for standard output, or s3://BUCKET/KEY"
)

// parse returns the place that an argument names; field and want are for its
// errors.
func parse(field, text, want string) (place, error) {
	bad := func(want string) (place, error) {
		return place{}, setting.Bad(field, redact.String(text), want)
	}
	scheme, rest, found := strings.Cut(text, "://")
	switch {
	case text == "":
		return bad(want)
	case text == "-":
		return place{kind: stream, text: text}, nil
	case !found || strings.ContainsAny(scheme, `/\`):
		return place{kind: file, text: text, path: text}, nil
	}
	switch strings.ToLower(scheme) {
	case "http", "https":
		u, err := url.Parse(text)
		if err != nil || u.Host == "" {
			return bad("a URL with a host, as https://example.org/stations.json")
		}
		return place{kind: web, text: text}, nil
	case "s3":
		bucket, key, _ := strings.Cut(rest, "/")
		if bucket == "" {
			return bad("a bucket in it, as s3://bucket/key")
		}
		return place{kind: object, text: text, bucket: bucket, key: key}, nil
	}
	return bad(want)
}

// parseBoth returns the places of a copy, the destination with its name.
func parseBoth(source, target string) (from, to place, err error) {
	if from, err = parse("SRC", source, wantSource); err != nil {
		return from, to, err
	}
	if from.kind == object && from.key == "" {
		return from, to, setting.Bad("SRC", from.text, "one object, as s3://bucket/key")
	}
	if to, err = parse("DST", target, wantTarget); err != nil {
		return from, to, err
	}
	if to.kind == web {
		return from, to, setting.Bad("DST", to.String(), wantTarget)
	}
	if to, err = to.named(from); err != nil {
		return from, to, err
	}
	return from, to, apart(from, to)
}

// named returns the place with the source's name at its end, if it is a
// directory, a bucket, or a key that ends in a slash.
func (p place) named(from place) (place, error) {
	switch {
	case p.kind == file && isDir(p.path), p.kind == object && (p.key == "" || strings.HasSuffix(p.key, "/")):
	default:
		return p, nil
	}
	name := from.base()
	if name == "" {
		return p, setting.Bad("DST", p.text, "a name at its end: "+from.String()+" has none to give")
	}
	if p.kind == object {
		p.key += name
		return p, nil
	}
	p.path = filepath.Join(p.path, name)
	p.text = p.path
	return p, nil
}

// base returns the last part of the place's name; "" if it has none.
func (p place) base() string {
	name := ""
	switch p.kind {
	case file:
		name = filepath.Base(p.path)
	case web:
		if u, err := url.Parse(p.text); err == nil {
			name = path.Base(u.Path)
		}
	case object:
		name = path.Base(p.key)
	case stream:
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
func apart(from, to place) error {
	same := false
	switch {
	case from.kind != to.kind:
	case from.kind == object:
		same = from.bucket == to.bucket && from.key == to.key
	case from.kind == file:
		a, errA := os.Stat(from.path)
		b, errB := os.Stat(to.path)
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
	case from.kind == file && to.kind == object:
		return Tree{from.path, to.bucket, directory(to.key), true}, nil
	case from.kind == object && to.kind == file:
		return Tree{to.path, from.bucket, directory(from.key), false}, nil
	case from.kind != file && from.kind != object:
		return Tree{}, setting.Bad("SRC", from.String(), want)
	}
	return Tree{}, setting.Bad("DST", to.String(), want)
}

// ParsePrefix reads an argument that names keys of a bucket: all of them, or
// those that begin with a prefix.
func ParsePrefix(text string) (bucket, prefix string, err error) {
	const want = "s3://BUCKET or s3://BUCKET/PREFIX"
	p, err := parse("argument", text, want)
	if err == nil && p.kind != object {
		err = setting.Bad("argument", p.String(), want)
	}
	return p.bucket, p.key, err
}

// directory returns the prefix of the keys that are below key.
func directory(key string) string {
	if key == "" || strings.HasSuffix(key, "/") {
		return key
	}
	return key + "/"
}
