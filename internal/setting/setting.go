// Package setting reads and writes the text form of a configuration, in flags,
// environment variables, YAML and JSON.
//
// All four use one parser, so that a value has the same meaning in each: a number is
// seconds, a string is a Go duration, a list is separated by commas. An invalid value is
// an [*Error], which names the field, the value and what is allowed.
package setting

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure"
	"github.com/seed-0f2c7998/perdure/internal/redact"
)

// An Error reports an invalid value.
type Error = perdure.ConfigError

// Bad returns an [*Error] about value, without the secrets in it.
func Bad(field string, value any, want string) error {
	text := fmt.Sprint(value)
	switch value.(type) {
	case string, []string:
		text = fmt.Sprintf("%q", value)
	}
	text = redact.String(text)
	return &Error{Field: redact.String(field), Value: text, Want: want}
}

// Unreadable returns an [*Error] about a file that field names and that cannot be opened or read because of err.
func Unreadable(field, path string, err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		err = e.Err
	}
	return Bad(field, path, "a file that can be read ("+err.Error()+")")
}

// seconds parses a duration: a number of seconds ("1.5") or a Go duration ("1500ms").
func seconds(text string) (time.Duration, bool) {
	if d, err := time.ParseDuration(text); err == nil {
		return d, true
	}
	if strings.Trim(text, "+-.0123456789") == "" { // a float would lose nanoseconds of a long one
		if d, err := time.ParseDuration(text + "s"); err == nil {
			return d, true
		}
	}
	f, ok := number(text)
	if !ok || !(math.Abs(f) < math.MaxInt64/1e9) {
		return 0, false
	}
	return time.Duration(math.Round(f * float64(time.Second))), true
}

// number parses a decimal number.
func number(text string) (float64, bool) {
	v, err := strconv.ParseFloat(text, 64)
	return v, err == nil && !strings.ContainsAny(text, "xX") // 0x1p4 is 16
}

// decimal returns a duration as a number of seconds, exact to the nanosecond.
func decimal(d time.Duration) string {
	sign := ""
	if d < 0 {
		sign = "-"
	}
	text := fmt.Sprintf("%s%d.%09d", sign, (d / time.Second).Abs(), (d % time.Second).Abs())
	return strings.TrimRight(strings.TrimRight(text, "0"), ".")
}

// list splits text at commas. It reports false if a value is empty.
func list(text string) ([]string, bool) {
	values := strings.Split(text, ",")
	for i, v := range values {
		values[i] = strings.TrimSpace(v)
		if values[i] == "" {
			return nil, false
		}
	}
	return values, true
}

// Unknown returns an [*Error] about a name that is not in known. It suggests the nearest
// name in known, if one is near.
func Unknown(field, name string, known []string) error {
	want := "one of " + strings.Join(known, ", ")
	if s := Nearest(name, known); s != "" {
		want += "; did you mean " + s + "?"
	}
	return Bad(field, name, want)
}

// Nearest returns the name in known with the least edit distance from name, or "" if that
// is more than a third of the length of name.
func Nearest(name string, known []string) string {
	best, at := "", max(len(name)/3, 1)+1
	for _, k := range known {
		if d := distance(strings.ToLower(name), k); d < at {
			best, at = k, d
		}
	}
	return best
}

// distance returns the Levenshtein distance of a and b, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substitution := diagonal
			if a[i] != b[j] {
				substitution++
			}
			diagonal = row[j+1]
			row[j+1] = min(substitution, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
