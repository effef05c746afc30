// Package pages reads the pages of a JSON API: it finds the items and the next page in each, and writes the items as JSON
// lines.
package pages

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// The limits of what a server sends.
const (
	MaxSize    = 64 << 20 // bytes of one page
	DefaultMax = 10_000   // pages
)

// A Spec says how pages are read. The zero Spec is one page, which is an array.
type Spec struct {
	next  string // field of the next page; "" means no next page
	link  bool   // the next page is in the header field Link
	param string // query parameter that gets the field; "" means that the field has a URL
	items string // field of the items; "" means that the page is an array
	Max   int    // pages that are allowed; 0 means DefaultMax
}

// Parse returns the Spec of "link", FIELD or FIELD=PARAMETER, and of the field of the items. A field is a name, or several that
// are joined by dots; a dot at its beginning is optional.
func Parse(next, items string) (s Spec, ok bool) {
	s = Spec{items: strings.TrimPrefix(items, ".")}
	field, param, token := strings.Cut(next, "=")
	s.link = next == "link"
	if !s.link {
		s.next, s.param = strings.TrimPrefix(field, "."), param
	}
	if next != "" && !s.link && s.next == "" || token && param == "" {
		return s, false
	}
	return s, true
}

// Want is what Parse accepts.
const Want = "link, or the field of a URL, such as paging.next, or FIELD=PARAMETER for a token, such as meta.next=cursor"

// A Page is one response.
type Page struct {
	Body   []byte
	Header http.Header
	URL    *url.URL // after redirects

	Quote func() string // returns the beginning of Body for an error, without secrets
}

// An Error is the error of one page.
type Error struct {
	Number int    // of the page, from 1
	URL    string // without secrets
	Err    error
}

func (e *Error) Error() string { return fmt.Sprintf("page %d (%s): %v", e.Number, e.URL, e.Err) }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Many reports whether a page may name a next one.
func (s Spec) Many() bool { return s.link || s.next != "" }

// A Reader reads the items of all pages as JSON lines: no byte of a page is returned before all of the page is valid.
type Reader struct {
	Spec Spec

	// Get requests a page. Show returns its URL without secrets. Done is called once, after the last page.
	Get  func(context.Context, *url.URL) (Page, error)
	Show func(*url.URL) string
	Done func(pages, items int)

	ctx    context.Context //nolint:containedctx // of one reader
	at     *url.URL        // the next page; nil after the last one
	seen   map[string]int  // number of each page, by URL
	lines  bytes.Buffer
	number int
	items  int
	err    error
}

// Start sets the first page. Call it before Read.
func (r *Reader) Start(ctx context.Context, first *url.URL) *Reader {
	r.ctx, r.at, r.seen = ctx, first, make(map[string]int)
	return r
}

// Close does nothing.
func (r *Reader) Close() error { return nil }

// Read reads lines. Its error is io.EOF after the last page, or an [*Error].
func (r *Reader) Read(p []byte) (int, error) {
	for r.lines.Len() == 0 && r.err == nil {
		if r.at == nil {
			r.Done(r.number, r.items)
			r.err = io.EOF
			break
		}
		r.number++
		if err := r.page(); err != nil {
			r.err = &Error{r.number, r.Show(r.at), err}
		}
	}
	if r.lines.Len() == 0 {
		return 0, r.err
	}
	return r.lines.Read(p)
}

// page reads one page, and sets the next one.
func (r *Reader) page() error {
	most := cmp.Or(r.Spec.Max, DefaultMax)
	if r.number > most {
		return fmt.Errorf("more than %d pages: --max-pages allows another number", most)
	}
	key := *r.at
	key.Fragment, key.RawFragment, key.Path = "", "", cmp.Or(key.Path, "/")
	if before := r.seen[key.String()]; before > 0 {
		return fmt.Errorf("the pages are a loop: page %d has the same URL", before)
	}
	r.seen[key.String()] = r.number
	page, err := r.Get(r.ctx, r.at)
	if err != nil {
		return err
	}
	next, err := r.take(page)
	if err != nil {
		return errors.New(strings.TrimSuffix(err.Error()+": "+page.Quote(), ": "))
	}
	r.at = next
	return nil
}

// take writes the items of a page, and returns the URL of the next one, or nil.
func (r *Reader) take(page Page) (*url.URL, error) {
	page.Body = bytes.TrimPrefix(page.Body, []byte("\ufeff")) // a byte order mark, which a JSON parser may ignore (RFC 8259)
	if !json.Valid(page.Body) {
		return nil, errors.New("the body is not JSON")
	}
	next, err := r.Spec.nextOf(page, r.at)
	if err != nil {
		return nil, err
	}
	return next, r.add(page.Body)
}

// add writes the items of a page.
func (r *Reader) add(body []byte) error {
	list, found := field(body, r.Spec.items)
	if !found {
		return fmt.Errorf("it has no field %s (--items)", r.Spec.items)
	}
	var items []json.RawMessage
	if err := json.Unmarshal(list, &items); err != nil {
		if r.Spec.items == "" {
			return errors.New("it is not an array: --items names the field that is one")
		}
		return fmt.Errorf("its field %s is not an array (--items)", r.Spec.items)
	}
	for _, item := range items {
		if err := json.Compact(&r.lines, item); err != nil {
			return err
		}
		r.lines.WriteByte('\n')
	}
	r.items += len(items)
	return nil
}

// nextOf returns the URL of the page after one, or nil.
func (s Spec) nextOf(page Page, at *url.URL) (*url.URL, error) {
	if s.link {
		target := Link(page.Header.Values("Link"))
		if target == "" {
			return nil, nil //nolint:nilnil // the last page
		}
		return resolve(page.URL, target)
	}
	if s.next == "" {
		return nil, nil //nolint:nilnil // one page
	}
	value, _ := field(page.Body, s.next)
	text, err := scalar(value)
	switch {
	case err != nil:
		return nil, fmt.Errorf("its field %s must be a text, a number or null (--next)", s.next)
	case text == "":
		return nil, nil //nolint:nilnil // the last page
	case s.param == "":
		return resolve(page.URL, text)
	}
	next := *at
	query := next.Query()
	query.Set(s.param, text)
	next.RawQuery = query.Encode()
	return &next, nil
}

// resolve returns the URL of a reference.
func resolve(base *url.URL, reference string) (*url.URL, error) {
	next, err := base.Parse(reference)
	if err != nil || next.Host == "" || next.Scheme != "http" && next.Scheme != "https" {
		return nil, errors.New("its next page has no http or https URL (--next)")
	}
	return next, nil
}

// scalar returns a text or a number; "" for null, false and a missing field.
func scalar(raw json.RawMessage) (string, error) {
	if len(raw) == 0 {
		return "", nil
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var v any
	if err := decoder.Decode(&v); err != nil {
		return "", err
	}
	switch v := v.(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	case json.Number:
		return v.String(), nil
	case bool:
		if !v {
			return "", nil
		}
	}
	return "", errors.ErrUnsupported
}

// field returns the field at a path of names. A name may have dots, such as @odata.nextLink: the longest name that exists is
// that of the field.
func field(body json.RawMessage, path string) (json.RawMessage, bool) {
	if path == "" {
		return body, true
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(body, &object) != nil {
		return nil, false
	}
	for end := len(path); end > 0; end = strings.LastIndexByte(path[:end], '.') {
		inner, ok := object[path[:end]]
		if !ok {
			continue
		}
		if found, ok := field(inner, strings.TrimPrefix(path[end:], ".")); ok {
			return found, true
		}
	}
	return nil, false
}
