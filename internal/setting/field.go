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

// A Field is one parameter of a configuration T: its name and meaning, and how it is
// parsed, written and checked. Flags, environment, files, help and validation are all
// made from one table of Fields.
type Field[T any] struct {
	Name string // in YAML and JSON, such as max_attempts
	Doc  string // one line: meaning, unit and default
	Want string // the allowed values
	list bool   // JSON and YAML may have a list

	set func(c *T, text string) bool   // reports false, and leaves c unchanged, if text is invalid
	get func(c *T) (v any, valid bool) // returns the value for JSON, nil for a number with its default

	fault func(values []string) error // returns the error about the first invalid entry of a list; nil if errors are about the whole list
}

// Set sets the field in c to the value of text, or returns an [*Error].
func (f Field[T]) Set(c *T, text string) error {
	if f.set(c, strings.TrimSpace(text)) {
		return nil
	}
	if values, ok := list(text); ok && f.fault != nil {
		return f.fault(values)
	}
	return Bad(f.Name, text, f.Want)
}

// Check returns an [*Error] if the field's value in c is invalid. Zero is always valid: it
// means the default.
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

// A Special is the text for the value -1 of a number, such as unlimited.
type Special string

// None means that a number has no special value.
const None Special = ""

// ordered completes f as a field of values from low to high.
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
			return nil, true // show(v) could be the text of special
		}
		return show(v), within(v)
	}
	return f
}

// Whole returns a field of whole numbers from low to high, or special.
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

// Span returns a field of durations from low to high, or special. In text a number is
// seconds.
func Span[T any](name, doc string, low, high time.Duration, special Special, at func(*T) *time.Duration) Field[T] {
	want := "seconds or a duration, from " + DurationText(low) + " to " + DurationText(high)
	if low == 1 {
		most := "292 years" // a Duration holds no more
		if high < math.MaxInt64 {
			most = DurationText(high)
		}
		want = "seconds or a duration, above 0 and at most " + most
	}
	if special != None {
		want += ", or " + string(special)
	}
	show := func(v time.Duration) any { return json.Number(decimal(v)) }
	return ordered(Field[T]{Name: name, Doc: doc, Want: want}, low, high, special, -1, seconds, show, at)
}

// Ratio returns a field of numbers from low to high, both included; a low of 0 is not
// included.
func Ratio[T any](name, doc string, low, high float64, at func(*T) *float64) Field[T] {
	plain := func(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
	want := fmt.Sprintf("a number from %s to %s", plain(low), plain(high))
	if low == 0 {
		low, want = math.SmallestNonzeroFloat64, "a number above 0, at most "+plain(high)
	}
	show := func(v float64) any { return v }
	return ordered(Field[T]{Name: name, Doc: doc, Want: want}, low, high, None, 0, number, show, at)
}

// OrOff returns f with the text off for its zero value, so that what a preset or a file sets can be switched off.
func OrOff[T, V any](f Field[T], at func(*T) *V) Field[T] {
	set := f.set
	f.Want += ", or off"
	f.set = func(c *T, text string) bool {
		if text == "off" {
			*at(c) = *new(V)
			return true
		}
		return set(c, text)
	}
	return f
}

// rateUnits are the units of time of a rate.
var rateUnits = []struct { //nolint:gochecknoglobals // a table
	name    string
	seconds float64
}{{"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}}

// The limits of a [Rate], per second.
const (
	minRate = 1.0 / 86400
	maxRate = 1e6
)

// Rate returns a field of rates per second. In text a number is per second, and 60/m is
// 60 per minute.
func Rate[T any](name, doc string, at func(*T) *float64) Field[T] {
	want := fmt.Sprintf("calls per second, or per unit as in 60/m (units s, m, h, d), from %v to %.0f/s", showRate(minRate), maxRate)
	return ordered(Field[T]{Name: name, Doc: doc, Want: want}, minRate, maxRate, None, 0, rate, showRate, at)
}

// rate parses a rate.
func rate(text string) (float64, bool) {
	amount, unit, given := strings.Cut(text, "/")
	v, ok := number(strings.TrimSpace(amount))
	if !given {
		return v, ok
	}
	for _, u := range rateUnits {
		if u.name == strings.TrimSpace(unit) {
			return v / u.seconds, ok
		}
	}
	return 0, false
}

// showRate returns a rate as a number per second, or as text in the first unit in which
// it is a whole number.
func showRate(v float64) any {
	for _, u := range rateUnits[1:] {
		if n := math.Round(v * u.seconds); v != math.Round(v) && n/u.seconds == v {
			return fmt.Sprintf("%.0f/%s", n, u.name)
		}
	}
	return v
}

// DurationText returns d as its String method does, without zeros at the end: 1m, 2h30m.
func DurationText(d time.Duration) string {
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}

// RateText returns a rate per second as text, in the first unit in which it is at least
// 1, with at most two decimals.
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

// Switch returns a field of true or false. on is the Go value for true.
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

// List returns a field of several texts, separated by commas.
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

// CheckList reports whether list is a valid value of a [List].
func CheckList(list []string) bool {
	for _, v := range list {
		if v == "" || strings.TrimSpace(v) != v || strings.Contains(v, ",") {
			return false
		}
	}
	return true
}

// Entries returns a [List] each of whose entries must pass check. For an invalid entry,
// check returns the nearest valid one, or "".
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

// Allowed reports whether all values pass check.
func Allowed(values []string, check func(entry string) (nearest string, ok bool)) bool {
	for _, v := range values {
		if _, ok := check(v); !ok {
			return false
		}
	}
	return true
}

// Text returns a field of any text that is not empty.
func Text[T any](name, doc string, at func(*T) *string) Field[T] {
	return Field[T]{
		Name: name, Doc: doc, Want: "a text, not empty",
		set: func(c *T, text string) bool {
			if text != "" {
				*at(c) = text
			}
			return text != ""
		},
		get: func(c *T) (any, bool) { return *at(c), true },
	}
}

// Choice returns a field whose text is one of words, for the values 0, 1, 2 and so on.
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

// Set sets the field of that name in c.
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

// Check returns the error about the first field whose value in c is invalid, or nil.
func Check[T any](fields []Field[T], c *T) error {
	for _, f := range fields {
		if err := f.Check(c); err != nil {
			return err
		}
	}
	return nil
}

// Parameters returns the descriptions of fields.
func Parameters[T any](fields []Field[T]) []Parameter {
	all := make([]Parameter, len(fields))
	for i, f := range fields {
		all[i] = Parameter{Name: f.Name, Doc: f.Doc, Want: f.Want, List: f.list}
	}
	return all
}

// A Parameter describes a field.
type Parameter = perdure.Parameter

// Differ returns an [*Error] about the first field whose value in c differs from that in
// first, or nil if all are equal.
func Differ[T any](fields []Field[T], first, c *T) error {
	for _, f := range fields {
		was, _ := f.get(first)
		if v, _ := f.get(c); !reflect.DeepEqual(v, was) {
			return Bad(f.Name, v, fmt.Sprintf("%v, as at its first use", was))
		}
	}
	return nil
}
