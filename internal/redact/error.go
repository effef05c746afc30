package redact

import (
	"fmt"
	"net/url"
	"strings"
)

// A redacted error prints without secrets, whatever it is printed with. It is
// for errors that come from elsewhere, as they enter an event.
type redacted struct{ err error }

// Error returns an error that prints as err does, as by [Message], and unwraps to
// it: [errors.Is] and [errors.As] find all that is in err. nil stays nil.
func Error(err error) error {
	if _, done := err.(*redacted); err == nil || done { //nolint:errorlint // as made here
		return err
	}
	return &redacted{err}
}

// Original returns the err that [Error] was called with, to compare it by identity.
func Original(err error) error {
	if e, ok := err.(*redacted); ok { //nolint:errorlint // as made here
		return e.err
	}
	return err
}

// Replaces reports whether the text of err stands in the place of those of the errors in it, which must not be shown: err
// has a method of that name.
func Replaces(err error) bool {
	_, ok := err.(interface{ Replaces() })
	return ok
}

func (e *redacted) Error() string { return Message(e.err.Error()) }

func (e *redacted) Unwrap() error { return e.err }

// Format prints the text for every verb: %#v and %d would show what is within.
func (e *redacted) Format(f fmt.State, verb rune) {
	if verb == 'q' {
		_, _ = fmt.Fprintf(f, "%q", e.Error())
		return
	}
	_, _ = fmt.Fprint(f, e.Error())
}

// outside redacts what grants access outside of URLs: what follows Bearer and
// Basic, the values of header fields that hold credentials, and of name=value
// where the name is a secret's.
func outside(s string) string {
	s = slashless.ReplaceAllStringFunc(s, func(s string) string {
		if strings.Contains(s, "://") { // the key of a breaker, say: http:http://...
			return s
		}
		scheme, rest, _ := strings.Cut(s, ":")
		return scheme + ":" + rest[:len(rest)-len(strings.TrimPrefix(rest, "/"))] + Mark + "@"
	})
	s = fields.ReplaceAllString(s, "${1}"+Mark)
	s = schemes.ReplaceAllStringFunc(s, func(s string) string {
		scheme, value, _ := strings.Cut(s, " ")
		if len(value) < 20 && !strings.ContainsAny(value, "0123456789._=+/") && !strings.Contains(decoded(value), ":") {
			return s // words: "basic authentication"
		}
		return scheme + " " + Mark
	})
	if strings.IndexByte(s, '@') >= 0 {
		s = users().ReplaceAllString(s, "${1}"+Mark+"${2}${3}")
	}
	if strings.IndexByte(s, '%') >= 0 {
		s = escaped().ReplaceAllStringFunc(s, unescaped)
	}
	if strings.Contains(s, "eyJ") {
		s = tokens().ReplaceAllString(s, Mark)
	}
	if !named(s) {
		return s
	}
	s = statements().ReplaceAllString(s, "${1}${2}${3}"+Mark)
	var b strings.Builder
	end := 0
	for _, at := range pairs().FindAllStringIndex(s, -1) {
		inURL := at[0] > 0 && strings.IndexByte("/?&", s[at[0]-1]) >= 0
		b.WriteString(s[end:at[0]] + pair(s[at[0]:at[1]], inURL))
		end = at[1]
	}
	return b.String() + s[end:]
}

// unescaped redacts an escaped URL.
func unescaped(s string) string {
	if plain, err := url.QueryUnescape(s); err == nil && within(plain, 1) == plain {
		return s
	}
	return Mark
}

// named reports whether s has a word without which pairs and statements find nothing: they cost much more to look for.
func named(s string) bool {
	s = strings.ToLower(s)
	for _, word := range [...]string{"key", "token", "pass", "secret", "sign", "cred", "session", "authorization", "bearer", "pwd", "identified", "args"} {
		if strings.Contains(s, word) {
			return true
		}
	}
	return false
}

// pair redacts what pairs has found. A word after a colon and a space is one of a sentence: "invalid token: unexpected end".
// So is one after the quote that ends a URL: "https://h/oauth2/token": unexpected EOF.
func pair(s string, inURL bool) string {
	m := pairs().FindStringSubmatch(s)
	name, quote, equals, value := m[1], m[2], m[3], m[4]
	plain := strings.Trim(value, `\"'`)
	switch {
	case !isPlainlySecret(name), plain == "", strings.HasPrefix(plain, Mark):
		return s
	case equals == ": " && (quote == "" || inURL && quote == `"`) && value == plain && strings.Trim(value, letters) == "":
		return s
	case quote != "" || strings.HasPrefix(equals, ":"):
		quoted := value[:len(value)-len(strings.TrimLeft(value, `\"'`))]
		return name + quote + equals + quoted + Mark + quoted
	}
	return name + equals + Mark
}

// letters are what words and punctuation consist of.
const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-.:/"
