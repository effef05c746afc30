package report_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/report"
)

// Whatever a text holds, it is one line of characters that only show, and a JSON text stays the same value.
func FuzzPlain(f *testing.F) {
	for _, seed := range []string{"", "plain é 日本 \U0001f600", "a\nb\r\x1b[2J\x07\x7f\u009b\u0085", "\xff\xc2", "\u2028\u2029\u202e\u2066", "https://u:p@h/\n?token=x\x9b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		drives := func(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || r == '\u202e' }
		line := report.Line(text)
		if strings.ContainsFunc(line, drives) || !utf8.ValidString(line) {
			t.Errorf("%q becomes %q", text, line)
		}
		valid := strings.ToValidUTF8(text, "?")
		plain, err := json.Marshal(valid)
		if err != nil {
			t.Fatal(err)
		}
		escaped := report.Escape(plain)
		var back string
		if err := json.Unmarshal(escaped, &back); err != nil || back != valid || strings.ContainsFunc(string(escaped), drives) {
			t.Errorf("%q becomes %s: %q (%v)", valid, escaped, back, err)
		}
	})
}

// Only what was joined is several lines.
func TestError(t *testing.T) {
	joined := errors.Join(errors.New("a\nb"), fmt.Errorf("c: %w", errors.New("d")))
	for _, row := range []struct {
		err  error
		want string
	}{
		{errors.New("a\nb"), `a\nb`},
		{joined, "a\\nb\nc: d"},
		{fmt.Errorf("%w", joined), "a\\nb\nc: d"},
		{fmt.Errorf("in: %w", joined), `in: a\nb\nc: d`},
		{fmt.Errorf("%w and %w", errors.New("a\nb"), errors.New("c")), `a\nb and c`},
	} {
		if got := report.Error(row.err); got != row.want {
			t.Errorf("%q gives %q, want %q", row.err, got, row.want)
		}
	}
}
