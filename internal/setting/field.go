package setting

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure"
)

// A Field is one parameter of a configuration T: its name and meaning, how it
// is read from text, written, and checked. A list of them is the one table
// from which flags, environment, files, help and validation are made.
type Field[T any] struct {
	Name string // as in the environment, YAML and JSON: max_attempts
	Doc  string // one line: meaning, unit and default
	Want string // what is allowed
	list bool   // it may be a list in JSON and YAML

	set func(c *T, text string) bool   // false, and c as it was, if text is not allowed
	get func(c *T) (v any, valid bool) // the value as JSON has it; nil for a number that is the default

	fault func(values []string) error // of a list that is not allowed: about its first such entry; nil: about all of it
}

// Set gives the field the value that text says, or returns an [*Error].
func (f Field[T]) Set(c *T, text string) error {
	if f.set(c, strings.TrimSpace(text)) {
		return nil
	}
	if values, ok := list(text); ok && f.fault != nil {
		return f.fault(values)
	}
	return Bad(f.Name, text, f.Want)
}

// Check returns an [*Error] if the field's value is not allowed. Zero is
// always allowed: in Go it means the default.
func (f Field[T]) Check(c *T) error {
	v, valid := f.get(c)
	if valid {
		return nil
	}
	if values, ok := v.([]string); ok && f.fault != nil {
		return f.fault(values)
	}
	return Bad(f.Name, v, f.Want)
}

// A Special is the value -1 of a number, and the text that stands for it.
type Special string

// None says that a number has no special value.
const None Special = ""

// ordered makes a field of ordered values.
func ordered[T any, V cmp.Ordered](f Field[T], low, high V, special Special,
	minusOne V, parse func(string) (V, bool), show func(V) any, at func(*T) *V,
) Field[T] {
	within := func(v V) bool { return v >= low && v <= high } // false for NaN
	f.set = func(c *T, text string) bool {
		v, ok := parse(text)
		switch {
		case special != None && (text == string(special) || ok && fmt.Sprint(show(v)) == string(special)):
			*at(c) = minusOne
		case ok && within(v):
			*at(c) = v
		default:
			return false
		}
		return true
	}
	f.get = func(c *T) (any, bool) {
		v := *at(c)
		if special != None && v == minusOne {
			if _, err := strconv.ParseFloat(string(special), 64); err == nil {
				return json.Number(special), true
			}
			return string(special), true
		}
		if v == *new(V) {
			return nil, true // and not show(v), which may be what special shows
		}
		return show(v), within(v)
	}
	return f
}

// Whole is a field of whole numbers from low to high, or the special one.
func Whole[T any](name, doc string, low, high int, special Special, at func(*T) *int) Field[T] {
	want := fmt.Sprintf("a whole number from %d to %d", low, high)
	if high == math.MaxInt {
		want = fmt.Sprintf("a whole number of at least %d", low)
	}
	if special != None {
		want += ", or " + string(special)
	}
	parse := func(text string) (int, bool) { n, err := strconv.Atoi(text); return n, err == nil }
	show := func(v int) any { return v }
	return ordered(Field[T]{Name: name, Doc: doc, Want: want}, low, high, special, -1, parse, show, at)
}

// Span is a field of durations from low to high, or the special one. In text a
// number is seconds.
func Span[T any](name, doc string, low, high time.Duration, special Special, at func(*T) *time.Duration) Field[T] {
	want := fmt.Sprintf("seconds or a duration, from %v to %v", low, high)
	if low == 1 {
		want = "seconds or a duration, above 0"
		if high < math.MaxInt64 {
			want += fmt.Sprintf(" and at most %v", high)
		}
	}
	if special != None {
		want += ", or " + string(special)
	}
	show := func(v time.Duration) any { return json.Number(decimal(v)) }
	return ordered(Field[T]{Name: name, Doc: doc, Want: want}, low, high, special, -1, seconds, show, at)
}

// Ratio is a field of numbers from low to high, both included; a low of 0 is
// not included.
func Ratio[T any](name, doc string, low, high float64, at func(*T) *float64) Field[T] {
	plain := func(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
	want := fmt.Sprintf("a number from %s to %s", plain(low), plain(high))
	if low == 0 {
		low, want = math.SmallestNonzeroFloat64, "a number above 0, at most "+plain(high)
	}
	parse := func(text string) (float64, bool) {
		v, err := strconv.ParseFloat(text, 64)
		return v, err == nil
	}
	show := func(v float64) any { return v }
	return ordered(Field[T]{Name: name, Doc: doc, Want: want}, low, high, None, 0, parse, show, at)
}

// rateUnits are what a rate may be given per, with their seconds.
var rateUnits = []struct { //nolint:gochecknoglobals // a table
	name    string
	seconds float64
}{{"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}}

// The least and the greatest [Rate], per second.
const (
	minRate = 1.0 / 86400
	maxRate = 1e6
)

// Rate is a field of rates per second. In text a number is per second, and 60/m is
// 60 a minute.
func Rate[T any](name, doc string, at func(*T) *float64) Field[T] {
	want := fmt.Sprintf("calls per second, or per unit as in 60/m (units s, m, h, d), from %v to %.0f/s", showRate(minRate), maxRate)
	return ordered(Field[T]{Name: name, Doc: doc, Want: want}, minRate, maxRate, None, 0, rate, showRate, at)
}

// rate reads a rate.
func rate(text string) (float64, bool) {
	number, unit, given := strings.Cut(text, "/")
	v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if !given {
		return v, err == nil
	}
	for _, u := range rateUnits {
		if u.name == strings.TrimSpace(unit) {
			return v / u.seconds, err == nil
		}
	}
	return 0, false
}

// showRate returns a rate as a number, or as a text with the first unit of which
// there is a whole number.
func showRate(v float64) any {
	for _, u := range rateUnits[1:] {
		if n := math.Round(v * u.seconds); v != math.Round(v) && n/u.seconds == v {
			return fmt.Sprintf("%.0f/%s", n, u.name)
		}
	}
	return v
}

// RateText returns a rate per second in the first unit in which there is one or
// more, to two digits after the point.
func RateText(perSecond float64) string {
	unit := rateUnits[len(rateUnits)-1]
	for _, u := range rateUnits {
		if perSecond*u.seconds >= 0.995 {
			unit = u
			break
		}
	}
	return strconv.FormatFloat(math.Round(perSecond*unit.seconds*100)/100, 'f', -1, 64) + "/" + unit.name
}

// Switch is a field of true or false; on is what the Go field says for true.
func Switch[T any](name, doc string, on bool, at func(*T) *bool) Field[T] {
	return Field[T]{
		Name: name, Doc: doc, Want: "true or false",
		set: func(c *T, text string) bool {
			v, err := strconv.ParseBool(text)
			if err == nil {
				*at(c) = v == on
			}
			return err == nil
		},
		get: func(c *T) (any, bool) { return *at(c) == on, true },
	}
}

// List is a field of texts, separated by commas when they are in one.
func List[T any](name, doc string, at func(*T) *[]string) Field[T] {
	return Field[T]{
		Name: name, Doc: doc, Want: "values separated by commas, none of them empty", list: true,
		set: func(c *T, text string) bool {
			v, ok := list(text)
			if ok {
				*at(c) = v
			}
			return ok
		},
		get: func(c *T) (any, bool) {
			v := *at(c)
			return append([]string{}, v...), CheckList(v)
		},
	}
}

// CheckList reports whether a list can be a [List]'s value.
func CheckList(list []string) bool {
	for _, v := range list {
		if v == "" || strings.TrimSpace(v) != v || strings.Contains(v, ",") {
			return false
		}
	}
	return true
}

// Entries is a field of texts as [List] is, of which each has to be one that check allows. Of others check returns the
// nearest that is, or "".
func Entries[T any](name, doc, want string, check func(entry string) (nearest string, ok bool), at func(*T) *[]string) Field[T] {
	f := List(name, doc, at)
	f.Want = "values separated by commas, each of them " + want
	f.set = func(c *T, text string) bool {
		values, ok := list(text)
		if ok = ok && Allowed(values, check); ok {
			*at(c) = values
		}
		return ok
	}
	f.get = func(c *T) (any, bool) {
		v := *at(c)
		return append([]string{}, v...), Allowed(v, check)
	}
	f.fault = func(values []string) error {
		for _, v := range values {
			if nearest, ok := check(v); !ok && nearest != "" {
				return Bad(name, v, want+"; did you mean "+nearest+"?")
			} else if !ok {
				return Bad(name, v, want)
			}
		}
		return Bad(name, values, f.Want)
	}
	return f
}

// Allowed reports whether check allows every one of values.
func Allowed(values []string, check func(entry string) (nearest string, ok bool)) bool {
	for _, v := range values {
		if _, ok := check(v); !ok {
			return false
		}
	}
	return true
}

// Text is a field of free text.
func Text[T any](name, doc string, at func(*T) *string) Field[T] {
	return Field[T]{
		Name: name, Doc: doc, Want: "a text",
		set: func(c *T, text string) bool {
			if text != "" {
				*at(c) = text
			}
			return text != ""
		},
		get: func(c *T) (any, bool) { return *at(c), true },
	}
}

// Choice is a field of one of a few words, which stand for 0, 1, 2 and so on.
func Choice[T any, V ~uint8](name, doc string, words []string, at func(*T) *V) Field[T] {
	return Field[T]{
		Name: name, Doc: doc, Want: "one of " + strings.Join(words, ", "),
		set: func(c *T, text string) bool {
			for i, w := range words {
				if w == text {
					*at(c) = V(i)
					return true
				}
			}
			return false
		},
		get: func(c *T) (any, bool) {
			if v := int(*at(c)); v < len(words) {
				return words[v], true
			}
			return *at(c), false
		},
	}
}

// Set finds the field of that name in fields and sets it in c.
func Set[T any](fields []Field[T], c *T, name, text string) error {
	names := make([]string, len(fields))
	for i, f := range fields {
		if f.Name == name {
			return f.Set(c, text)
		}
		names[i] = f.Name
	}
	return Unknown("parameter", name, names)
}

// Check returns the error of the first of fields whose value in c is not allowed.
func Check[T any](fields []Field[T], c *T) error {
	for _, f := range fields {
		if err := f.Check(c); err != nil {
			return err
		}
	}
	return nil
}

// Parameters returns what there is to tell of fields.
func Parameters[T any](fields []Field[T]) []Parameter {
	all := make([]Parameter, len(fields))
	for i, f := range fields {
		all[i] = Parameter{Name: f.Name, Doc: f.Doc, Want: f.Want, List: f.list}
	}
	return all
}

// A Parameter is what a table or a help text tells of a field.
type Parameter = perdure.Parameter

// Differ returns an [*Error] about the first of fields that c and first have
// different values for, as one that must be that of first; nil if there is none.
func Differ[T any](fields []Field[T], first, c *T) error {
	for _, f := range fields {
		was, _ := f.get(first)
		if v, _ := f.get(c); !reflect.DeepEqual(v, was) {
			return Bad(f.Name, v, fmt.Sprintf("%v, as at its first use", was))
		}
	}
	return nil
}
