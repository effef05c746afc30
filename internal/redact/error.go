package redact

import (
	"fmt"
	"strings"
)

// A redacted error prints without secrets, whatever it is printed with. It is
// for errors that come from elsewhere, as they enter an event.
type redacted struct{ err error }

// Error returns an error that prints as err does, as by [String], and unwraps to
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

func (e *redacted) Error() string { return String(e.err.Error()) }

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
	return pairs.ReplaceAllStringFunc(s, func(s string) string {
		name, value, _ := strings.Cut(s, "=")
		if !isPlainlySecret(name) || strings.HasPrefix(strings.Trim(value, `"'`), Mark) {
			return s
		}
		return name + "=" + Mark
	})
}
