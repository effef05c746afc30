package request

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/internal/redact"
)

// How much of an error's body is shown, how much is read to find secrets that begin in it, and for how long.
const (
	shown    = 200
	beyond   = 4 << 10 // where other secrets are looked for
	read     = shown + maxHeader
	readTime = 2 * time.Second
)

// A StatusError is a response with an error status whose body says more.
type StatusError struct {
	Err  error
	Body string // the beginning of the body, in one line and without secrets
}

func (e *StatusError) Error() string { return e.Err.Error() + ": " + e.Body }

// Unwrap returns Err.
func (e *StatusError) Unwrap() error { return e.Err }

// An excerpt is the beginning of the body of the last error response.
type excerpt struct {
	mu   sync.Mutex
	text string // guarded by mu
}

type excerptKey struct{}

// Explained calls f with a context whose requests, sent by the Transport of r, leave the body of an error. It returns the
// error of f, as a [StatusError] if it is that of such a response.
func Explained(ctx context.Context, f func(context.Context) error) error {
	e := new(excerpt)
	err := f(context.WithValue(ctx, excerptKey{}, e))
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, status := errors.AsType[*httpretry.StatusError](err); !status || e.text == "" {
		return err
	}
	return &StatusError{err, e.text}
}

// Transport returns next with a reader of the bodies of errors. It sends what next does. The caller gets no body of an error.
func (r *Request) Transport(next http.RoundTripper) http.RoundTripper { return reader{r, next} }

type reader struct {
	request *Request
	next    http.RoundTripper
}

func (t reader) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := t.next.RoundTrip(req)
	e, ok := req.Context().Value(excerptKey{}).(*excerpt)
	if err != nil || !ok || res.StatusCode < http.StatusBadRequest {
		return res, err
	}
	text := beginning(res)
	res.Body = http.NoBody
	text = clean(text, t.request.secrets(req))
	e.mu.Lock()
	defer e.mu.Unlock()
	e.text = text
	return res, nil
}

// beginning reads the beginning of a body, and closes it.
func beginning(res *http.Response) string {
	stop := time.AfterFunc(readTime, func() { _ = res.Body.Close() })
	defer stop.Stop()
	defer func() { _ = res.Body.Close() }()
	if code := res.Header.Get("Content-Encoding"); code != "" && !strings.EqualFold(code, "identity") {
		return ""
	}
	text, _ := io.ReadAll(io.LimitReader(res.Body, read)) // what arrived before an error is shown
	return string(text)
}

// Quote returns the beginning of the body of a response to req in one line, without secrets.
func (r *Request) Quote(req *http.Request, body []byte) string {
	return clean(string(body[:min(len(body), read)]), r.secrets(req))
}

// clean returns the beginning of text in one line, without secrets.
func clean(text string, secrets redact.Secrets) string {
	text = secrets.Redact(text)
	cut := len(text) > shown+beyond
	text = text[:min(len(text), shown+beyond)] // package redact takes some microseconds a byte
	text = secrets.Redact(redact.Line(redact.String(text)))
	if len(text) <= shown {
		if cut {
			text += " ..."
		}
		return text
	}
	end := shown
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	if at := strings.LastIndex(text[:min(end+len(redact.Mark), len(text))], redact.Mark); at >= 0 && at < end && at+len(redact.Mark) > end {
		end = at + len(redact.Mark)
	}
	return text[:end] + " ..."
}

// secrets returns what no error may show of r and of req.
func (r *Request) secrets(req *http.Request) redact.Secrets {
	found := redact.FromHeader(req.Header)
	if req.URL != nil {
		found = found.URL(req.URL)
	}
	for name, values := range r.Header {
		if !slices.Contains(plain, name) {
			found = found.Header(map[string][]string{"Authorization": values}) // with the parts that a value of that field has
		}
	}
	if len(r.Body) > 0 {
		for _, value := range values(r.Body) {
			found = found.Value(value)
		}
	}
	return found
}

// values returns the values in a body: of a form, of JSON, or else its lines.
func values(body []byte) []string {
	text := string(body)
	all := []string{text}
	var tree any
	if json.Unmarshal(body, &tree) == nil {
		return append(all, leaves(tree)...)
	}
	if form, err := url.ParseQuery(text); err == nil && strings.Contains(text, "=") {
		for _, values := range form {
			all = append(all, values...)
		}
		return all
	}
	return append(all, strings.FieldsFunc(text, func(c rune) bool { return c == '\n' || c == '\r' })...)
}

// leaves returns the strings and the numbers in a JSON value.
func leaves(tree any) (all []string) {
	switch v := tree.(type) {
	case string:
		return []string{v}
	case []any:
		for _, each := range v {
			all = append(all, leaves(each)...)
		}
	case map[string]any:
		for _, each := range v {
			all = append(all, leaves(each)...)
		}
	}
	return all
}
