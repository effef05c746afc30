package report

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/seed-0f2c7998/perdure/internal/redact"
)

// Line returns text as one line for people, without the secrets of URLs in it. What
// could end the line or drive a terminal is written out, as \n, \x1b or \xff: names of
// files, values of settings and what servers say may hold any byte.
func Line(text string) string {
	return redact.String(printable(text)) // a URL may go on after what is written out
}

func printable(text string) string {
	if utf8.ValidString(text) && !strings.ContainsFunc(text, active) {
		return text
	}
	var b strings.Builder
	for rest := text; rest != ""; {
		r, size := utf8.DecodeRuneInString(rest)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, rest[0])
		case active(r):
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		default:
			b.WriteString(rest[:size])
		}
		rest = rest[size:]
	}
	return b.String()
}

// active reports whether r ends a line, drives a terminal, or changes the order of what
// stands after it.
func active(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp, unicode.Bidi_Control)
}

// Error returns the lines of an error: one for each of those that errors.Join has
// joined in it, and one for any other.
func Error(err error) string {
	switch e := err.(type) { //nolint:errorlint // each level in turn
	case interface{ Unwrap() []error }:
		var lines, texts []string
		for _, err := range e.Unwrap() {
			lines, texts = append(lines, Error(err)), append(texts, err.Error())
		}
		if err.Error() == strings.Join(texts, "\n") {
			return strings.Join(lines, "\n")
		}
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil && inner.Error() == err.Error() {
			return Error(inner)
		}
	}
	return Line(err.Error())
}

// ForJSON returns a writer of JSON texts, each with one Write, to w. It escapes what
// package json does not, though it could drive the terminal that they are shown on.
func ForJSON(w io.Writer) io.Writer { return escaper{w} }

type escaper struct{ w io.Writer }

func (e escaper) Write(p []byte) (int, error) {
	if _, err := e.w.Write(Escape(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Escape returns a JSON text, or lines of them, in which that is escaped.
func Escape(text []byte) []byte {
	// White space is between the values, where nothing else of the kind can be.
	hidden := func(r rune) bool { return active(r) && r != '\n' && r != '\t' && r != '\r' }
	if !bytes.ContainsFunc(text, hidden) {
		return text
	}
	var b bytes.Buffer
	for _, r := range string(text) {
		if hidden(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.Bytes()
}
