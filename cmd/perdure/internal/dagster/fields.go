package dagster

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"

	"github.com/seed-0f2c7998/perdure/pipes"
)

// fields are the parameters of a message, or another object in it. Each reader
// takes one out; the first that is not as it should be makes the error of all.
type fields struct {
	values map[string]any
	where  string // they are, within the message
	err    *error // of the message
}

// within returns the fields of v, which must be an object.
func (f *fields) within(where string, v any) *fields {
	o, ok := v.(map[string]any)
	if !ok {
		f.fail(where, v, "an object")
	}
	return &fields{o, f.where + where + ": ", f.err}
}

func (f *fields) fail(name string, v any, want string) {
	text, _ := json.Marshal(v) // it came as JSON
	f.wrong(fmt.Errorf("%s is %.80s, want %s", name, text, want))
}

func (f *fields) wrong(err error) {
	if *f.err == nil {
		*f.err = fmt.Errorf("%s%w", f.where, err)
	}
}

// end refuses what nobody has read.
func (f *fields) end() {
	for name := range f.values {
		f.wrong(fmt.Errorf("there is no parameter %.40q", name))
	}
}

func (f *fields) optional(name string) (any, bool) {
	v, ok := f.values[name]
	delete(f.values, name)
	return v, ok
}

func (f *fields) value(name string) any {
	v, ok := f.optional(name)
	if !ok {
		f.wrong(fmt.Errorf("%s is missing", name))
	}
	return v
}

func (f *fields) text(name string) string {
	v := f.value(name)
	s, ok := v.(string)
	if !ok {
		f.fail(name, v, "a string")
	}
	return s
}

// name is a text that is not empty.
func (f *fields) name(name string) string {
	s := f.text(name)
	if s == "" {
		f.fail(name, s, "a name")
	}
	return s
}

// nullable is a text, "" for null.
func (f *fields) nullable(name string) string {
	v := f.value(name)
	s, ok := v.(string)
	if !ok && v != nil {
		f.fail(name, v, "a string or null")
	}
	return s
}

// may is nullable, and may not be there.
func (f *fields) may(name string) string {
	if _, ok := f.values[name]; !ok {
		return ""
	}
	return f.nullable(name)
}

// flag is a bool that may not be there.
func (f *fields) flag(name string, otherwise bool) bool {
	if _, ok := f.values[name]; !ok {
		return otherwise
	}
	return f.bool(name)
}

func (f *fields) bool(name string) bool {
	v := f.value(name)
	b, ok := v.(bool)
	if !ok {
		f.fail(name, v, "true or false")
	}
	return b
}

func (f *fields) object(name string) map[string]any {
	v := f.value(name)
	o, ok := v.(map[string]any)
	if !ok {
		f.fail(name, v, "an object")
	}
	return o
}

func (f *fields) list(name string) []any {
	v := f.value(name)
	list, ok := v.([]any)
	if !ok && v != nil {
		f.fail(name, v, "a list")
	}
	return list
}

func (f *fields) texts(name string) []string {
	list := f.list(name)
	texts := make([]string, len(list))
	for i, v := range list {
		s, ok := v.(string)
		if !ok {
			f.fail(name, v, "strings")
		}
		texts[i] = s
	}
	return texts
}

// level is a level in one of Python's ways: a word, in any case, or a number.
func (f *fields) level() slog.Level {
	v, ok := f.optional("level")
	if !ok {
		return slog.LevelInfo
	}
	words := map[string]slog.Level{
		"DEBUG": slog.LevelDebug, "INFO": slog.LevelInfo, "WARN": slog.LevelWarn, "WARNING": slog.LevelWarn,
		"ERROR": slog.LevelError, "FATAL": pipes.LevelCritical, "CRITICAL": pipes.LevelCritical,
		"10": slog.LevelDebug, "20": slog.LevelInfo, "30": slog.LevelWarn, "40": slog.LevelError, "50": pipes.LevelCritical,
	}
	level, ok := words[strings.ToUpper(fmt.Sprint(v))]
	if !ok {
		f.fail("level", v, "one of DEBUG, INFO, WARNING, ERROR, CRITICAL")
	}
	return level
}
