package endpoint

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/request"
	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// ConnectAll connects several sources. The objects share one client, and so do the URLs, each with cookies of its own. Files are
// not opened: one that cannot be read fails when it is copied.
func ConnectAll(ctx context.Context, s *Session, sources []Endpoint) error {
	var store *Object
	var page *web
	for _, from := range sources {
		var err error
		switch from := from.(type) {
		case *File:
		case *Object:
			if store == nil {
				store, err = from, from.Connect(ctx, s, Source)
				break
			}
			from.share(store)
		case *web:
			if page == nil {
				page, err = from, from.Connect(ctx, s, Source)
				break
			}
			if s.RequestFlag != "" && !sameOrigin(page.url, from.url) {
				return setting.Bad(s.RequestFlag, from.String(), "used with URLs of one scheme, host and port, "+page.String()+" being another one")
			}
			from.transport = page.transport
			err = from.prepare(ctx, s)
		default:
			err = from.Connect(ctx, s, Source)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sameOrigin reports whether both URLs have the same scheme, host and port.
func sameOrigin(a, b *url.URL) bool {
	return request.SameOrigin(&http.Request{URL: a}, &http.Request{URL: b})
}

// share gives o the client of another object.
func (o *Object) share(other *Object) {
	o.store, o.session, o.endpoint, o.profile, o.version = other.store, other.session, other.endpoint, other.profile, other.version
}

// Pattern splits an address of a store that has a star: into the endpoint of the directory before the first wildcard, and the
// pattern below it. If the address has no star, from is nil, and literal is the address in which \* is a star.
func Pattern(field, text string) (from Endpoint, pattern, literal string, err error) {
	s, err := find(field, text, words(func(s scheme) string { return s.source }))
	if err != nil || s.tree == "" {
		return nil, "", text, nil //nolint:nilerr // reported when the address is parsed
	}
	start := strings.Index(text, "://") + len("://")
	bucket, key, _ := strings.Cut(text[start:], "/")
	if wildcard(key, "*") < 0 {
		return nil, "", text[:start] + bucket + strings.ReplaceAll(text[start+len(bucket):], `\*`, "*"), nil
	}
	first := wildcard(key, "*?[{")
	slash := strings.LastIndexByte(key[:first], '/') + 1
	from, err = s.parse(field, text[:start]+bucket+"/"+unescaped(key[:slash]))
	if o, ok := from.(*Object); ok {
		o.begin = unescaped(key[slash:first])
	}
	return from, key[slash:], "", err
}

// wildcard returns the index of the first character of chars in a pattern that has no backslash before it, or -1.
func wildcard(pattern, chars string) int {
	for i := 0; i < len(pattern); i++ {
		if pattern[i] == '\\' {
			i++
		} else if strings.IndexByte(chars, pattern[i]) >= 0 {
			return i
		}
	}
	return -1
}

// unescaped returns a part of a pattern that has no wildcards, without its backslashes.
func unescaped(pattern string) string {
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		if pattern[i] == '\\' && i+1 < len(pattern) {
			i++
		}
		b.WriteByte(pattern[i])
	}
	return b.String()
}
