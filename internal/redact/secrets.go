package redact

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"html"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Secrets are values that no text may show.
type Secrets []string

// shortest is the least length of a value that is looked for: a shorter one would be found everywhere.
const shortest = 6

// FromHeader returns the secrets that a request's header holds: the values of Authorization, Cookie and of all fields
// whose names end as those of keys and tokens do, and what such a value consists of.
func FromHeader(header map[string][]string) Secrets { return Secrets(nil).Header(header) }

// Value returns s with one more.
func (s Secrets) Value(value string) Secrets { return s.each(value).sorted() }

// Header returns s with what [FromHeader] returns.
func (s Secrets) Header(header map[string][]string) Secrets {
	for name, values := range header {
		if !SecretField(name) {
			continue
		}
		for _, value := range values {
			s = s.add(value)
		}
	}
	return s.sorted()
}

// URL returns s with the user information of u and the values of parameters as signatures, as they stand there and decoded.
func (s Secrets) URL(u *url.URL) Secrets {
	password, _ := u.User.Password()
	s = s.each(u.User.Username()).each(password)
	for _, pair := range separators.Split(u.RawQuery, -1) {
		name, value, _ := strings.Cut(pair, "=")
		if !isSecret(name) {
			continue
		}
		s = s.each(value)
		if plain, err := url.QueryUnescape(value); err == nil {
			s = s.each(plain)
		}
	}
	return s.sorted()
}

// sorted returns s with longer ones first: of a value and a part of it, the whole goes.
func (s Secrets) sorted() Secrets {
	slices.SortFunc(s, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	return slices.Compact(s)
}

// SecretField reports whether the values of a header field of this name grant access.
func SecretField(name string) bool {
	return isSecret(name) || strings.HasPrefix(strings.ToLower(name), "cookie")
}

// add returns s with a field's value, and with what is secret within it.
func (s Secrets) add(value string) Secrets {
	s = s.each(value)
	if scheme, rest, ok := strings.Cut(value, " "); ok && !strings.HasPrefix(scheme, "AWS4-") {
		s = s.each(rest)
		if user, password, ok := strings.Cut(decoded(rest), ":"); ok {
			s = s.each(user).each(password)
		}
	}
	if _, signature, ok := strings.Cut(value, "Signature="); ok {
		s = s.each(signature)
	}
	for pair := range strings.SplitSeq(value, "; ") {
		if _, cookie, ok := strings.Cut(pair, "="); ok {
			s = s.each(cookie)
		}
	}
	if raw := decoded(value); len(raw) >= 16 {
		s = s.each(raw)
		s = s.each(hex.EncodeToString([]byte(raw)))
	}
	return s
}

// each returns s with value as itself and in the encodings of a URL, of HTML and of JSON.
func (s Secrets) each(value string) Secrets {
	if len(value) < shortest {
		return s
	}
	for _, form := range []string{value, url.QueryEscape(value), url.PathEscape(value), html.EscapeString(value), strings.Trim(strconv.Quote(value), `"`)} {
		if !slices.Contains(s, form) {
			s = append(s, form)
		}
	}
	return s
}

func decoded(value string) string {
	text, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return ""
	}
	return string(text)
}

// Redact returns text with [Mark] in the place of each secret.
func (s Secrets) Redact(text string) string {
	for _, secret := range s {
		text = strings.ReplaceAll(text, secret, Mark)
	}
	return text
}

// Line returns s as one line that a terminal or a log shows as it is: runs of white space become one space, and what
// else cannot be printed becomes an escape sequence of Go.
func Line(s string) string {
	if isLine(s) {
		return s
	}
	var b strings.Builder
	for field := range strings.FieldsSeq(s) {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		for i, r := range field {
			switch {
			case r == utf8.RuneError && !strings.HasPrefix(field[i:], string(utf8.RuneError)):
				b.WriteString(`\x` + hex.EncodeToString([]byte{field[i]}))
			case strconv.IsPrint(r):
				b.WriteRune(r)
			default:
				b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
			}
		}
	}
	return b.String()
}

func isLine(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' || s[i] == ' ' && (i == 0 || i == len(s)-1 || s[i-1] == ' ') {
			return false
		}
	}
	return true
}
