package request

import (
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"regexp"
	"slices"
	"strings"
)

// owned are the header fields that the command or the connection sets, with the reason.
var owned = map[string]string{ //nolint:gochecknoglobals // a table
	"Range":               "copy requests ranges itself",
	"If-Range":            "copy requests ranges itself",
	"If-None-Match":       "a 304 has nothing to copy",
	"If-Modified-Since":   "a 304 has nothing to copy",
	"Accept-Encoding":     "copy requests the bytes as they are",
	"Content-Length":      "it is that of --data",
	"Transfer-Encoding":   "it is of the connection",
	"Te":                  "it is of the connection",
	"Trailer":             "it is of the connection",
	"Connection":          "it is of the connection",
	"Keep-Alive":          "it is of the connection",
	"Proxy-Connection":    "it is of the connection",
	"Upgrade":             "it is of the connection",
	"Expect":              "it is of the connection",
	"Proxy-Authorization": "the URL of the proxy has the credentials for it, in HTTPS_PROXY or HTTP_PROXY",
	"Http2-Settings":      "it is of the connection",
}

// once are header fields that have one value.
var once = []string{"Authorization", "Content-Type", "Host", "Idempotency-Key", "User-Agent"} //nolint:gochecknoglobals // a table

// maxHeader is how many bytes all header fields of a user may have.
const maxHeader = 64 << 10

// Add adds a field in the form "NAME: VALUE", or "NAME;" for an empty value, as curl has them. Errors show no value.
func (r *Request) Add(line string) error {
	name, value, found := strings.Cut(line, ":")
	value = strings.Trim(value, " \t")
	if empty, ok := strings.CutSuffix(strings.TrimSpace(line), ";"); !found && ok {
		name, found = empty, true
	} else if found && value == "" && isToken(name) {
		return fmt.Errorf("the header field %s has no value: write NAME: VALUE, or NAME; for an empty value", name)
	}
	if !found || !isToken(name) {
		return errors.New("a header field must be NAME: VALUE, and its name must have letters, digits and -")
	}
	name = textproto.CanonicalMIMEHeaderKey(name)
	if err := r.check(name, value); err != nil {
		return err
	}
	if r.Header == nil {
		r.Header = http.Header{}
	}
	r.Header[name] = append(r.Header[name], value)
	if r.size() > maxHeader {
		return fmt.Errorf("the header fields have more than %d bytes", maxHeader)
	}
	return nil
}

// check returns why a field cannot be added.
func (r *Request) check(name, value string) error {
	switch {
	case owned[name] != "":
		return fmt.Errorf("the header field %s cannot be set: %s", name, owned[name])
	case strings.ContainsFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }):
		return fmt.Errorf("the value of the header field %s must not have control characters", name)
	case slices.Contains(once, name) && r.Header[name] != nil:
		return fmt.Errorf("the header field %s is given twice", name)
	case name == "Host" && strings.ContainsAny(value, "/?#@ \t"):
		return errors.New("the header field Host must be a host, or HOST:PORT")
	}
	return nil
}

// size returns how many bytes all fields have.
func (r *Request) size() (size int) {
	for name, values := range r.Header {
		for _, value := range values {
			size += len(name) + len(value) + len(": \r\n")
		}
	}
	return size
}

// isToken reports whether name can be the name of a header field.
func isToken(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && !strings.ContainsRune("!#$%&'*+-.^_`|~", c)
	})
}

// AddLines adds the fields in the lines of a file. Empty lines, and lines that begin with #, are skipped.
func (r *Request) AddLines(text string) error {
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimRight(line, "\r\n")
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := r.Add(line); err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
	}
	return nil
}

// variable finds {{NAME}}, which curl's --expand-header has as well.
var variable = regexp.MustCompile(`\{\{([A-Za-z_][A-Za-z0-9_]*)\}\}`)

// AddExpanded adds a field whose {{NAME}} are environment variables, which must be set.
func (r *Request) AddExpanded(line string, getenv func(name string) string) error {
	if !variable.MatchString(line) {
		return errors.New("a header field of --header-env must have a {{VARIABLE}}, such as {{API_TOKEN}}")
	}
	var missing error
	line = variable.ReplaceAllStringFunc(line, func(s string) string {
		name := strings.Trim(s, "{}")
		value := getenv(name)
		if value == "" && missing == nil {
			missing = fmt.Errorf("the environment variable %s is not set, or empty", name)
		}
		return value
	})
	if missing != nil {
		return missing
	}
	return r.Add(line)
}
