// Package pipesjson reads the JSON of Dagster Pipes, decoded with numbers as
// [json.Number]: the fields of an object, and the raw values of metadata, whose
// kinds are one table.
package pipesjson

import (
	"encoding/json"
	"fmt"
	"maps"
)

// Fields reads the fields of an object, of which it has a copy. Each method takes
// one field out; the first that is missing or of another type sets the error.
type Fields struct {
	Values map[string]any // not taken out yet

	where string // the object's place in the message, for the error
	err   *error
}

// Of returns the fields of values. The first error is stored in *err, after the
// prefix where.
func Of(values map[string]any, where string, err *error) *Fields {
	return &Fields{maps.Clone(values), where, err}
}

// Within returns the fields of v, a part of the object; v must be an object.
func (f *Fields) Within(where string, v any) *Fields {
	o, ok := v.(map[string]any)
	if !ok {
		f.Fail(where, v, "an object")
	}
	return Of(o, f.where+where+": ", f.err)
}

// Fail sets the error: the field of that name is v, and must be what want says.
func (f *Fields) Fail(name string, v any, want string) {
	text, _ := json.Marshal(v) // v was decoded from JSON
	f.Refuse(fmt.Errorf("%s is %.80s, want %s", name, text, want))
}

// Refuse sets the error if there was no error before.
func (f *Fields) Refuse(err error) {
	if *f.err == nil {
		*f.err = fmt.Errorf("%s%w", f.where, err)
	}
}

// End refuses the fields that were not taken out.
func (f *Fields) End() {
	for name := range f.Values {
		f.Refuse(fmt.Errorf("unknown parameter %.40q", name))
	}
}

// Optional returns the value of a field, and whether the object has the field.
func (f *Fields) Optional(name string) (any, bool) {
	v, ok := f.Values[name]
	delete(f.Values, name)
	return v, ok
}

// Value returns the value of a field.
func (f *Fields) Value(name string) any {
	v, ok := f.Optional(name)
	if !ok {
		f.Refuse(fmt.Errorf("%s is missing", name))
	}
	return v
}

// Text returns a string.
func (f *Fields) Text(name string) string { return field[string](f, name, "a string") }

// Bool returns a bool.
func (f *Fields) Bool(name string) bool { return field[bool](f, name, "true or false") }

// Object returns an object.
func (f *Fields) Object(name string) map[string]any {
	return field[map[string]any](f, name, "an object")
}

func field[T any](f *Fields, name, want string) T {
	v := f.Value(name)
	value, ok := v.(T)
	if !ok {
		f.Fail(name, v, want)
	}
	return value
}

// Name returns a string that is not empty.
func (f *Fields) Name(name string) string {
	s := f.Text(name)
	if s == "" {
		f.Fail(name, s, "a name")
	}
	return s
}

// Nullable returns a string, "" for null.
func (f *Fields) Nullable(name string) string {
	v := f.Value(name)
	s, ok := v.(string)
	if !ok && v != nil {
		f.Fail(name, v, "a string or null")
	}
	return s
}

// List returns a list, nil for null.
func (f *Fields) List(name string) []any {
	v := f.Value(name)
	list, ok := v.([]any)
	if !ok && v != nil {
		f.Fail(name, v, "a list")
	}
	return list
}

// Texts returns a list of strings, empty for null.
func (f *Fields) Texts(name string) []string {
	list := f.List(name)
	texts := make([]string, len(list))
	for i, v := range list {
		s, ok := v.(string)
		if !ok {
			f.Fail(name, v, "strings")
		}
		texts[i] = s
	}
	return texts
}
