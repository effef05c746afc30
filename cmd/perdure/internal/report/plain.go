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

// Line returns text as one line, without secrets. Characters that could end the line or
// control a terminal are escaped, such as \n, \x1b or \xff: file names, values of
// settings and messages of servers may contain any byte.
func Line(text string) string {
	return redact.String(printable(text)) // in this order: a URL may continue after an escaped character
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

// active reports whether r ends a line, controls a terminal, or changes the direction of
// the text after it.
func active(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp, unicode.Bidi_Control)
}

// Error returns the text of an error: one line for each error of an errors.Join, or one
// line for any other error.
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

// ForJSON returns a writer of JSON to w. It escapes the characters that package json does
// not escape and that could control a terminal. Each Write must be a whole JSON text.
func ForJSON(w io.Writer) io.Writer { return escaper{w} }

type escaper struct{ w io.Writer }

func (e escaper) Write(p []byte) (int, error) {
	if _, err := e.w.Write(Escape(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Escape returns text, one or more lines of JSON, with these characters escaped.
func Escape(text []byte) []byte {
	// White space between values is kept.
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
