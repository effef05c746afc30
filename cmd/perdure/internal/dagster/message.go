package dagster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/pipes"
)

// The kinds of reports that are held back until the attempt has succeeded.
const (
	materialization = "materialization"
	check           = "check"
	custom          = "custom message"
)

// A report is what a message comes to: a call of package pipes, which refuses
// what Dagster would not take.
type report struct {
	kind string // "" is passed on at once
	send func(*pipes.Session) error
}

// A message is one line of a child.
type message struct {
	report

	method    string
	exception error          // of closed; nil: none
	outcome   map[string]any // an Outcome of the child's own; nil: it is something else
}

// parse takes a line apart, as strictly as Dagster's reader would: a message has
// all parameters of its method and no others.
func parse(line []byte) (m message, err error) {
	var envelope struct {
		Version *json.RawMessage `json:"__dagster_pipes_version"`
		Method  string           `json:"method"`
		Params  any              `json:"params"`
	}
	err = decode(line, &envelope)
	if err != nil && bytes.ContainsAny(line, "NI") {
		err = decode(quoted(line), &envelope) // as Python writes floats that are no numbers
	}
	if err != nil {
		return m, err
	}
	if envelope.Version == nil {
		return m, errors.New("it has no __dagster_pipes_version")
	}
	m.method = envelope.Method
	values, ok := envelope.Params.(map[string]any)
	if !ok && (m.method != "closed" || envelope.Params != nil) {
		return m, fmt.Errorf("%.40q: params are no object", m.method)
	}
	f := &fields{values, m.method + ": ", &err}
	m.read(f)
	f.end()
	return m, err
}

// decode reads one JSON value, numbers as they are written.
func decode(line []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	err := d.Decode(into)
	if err == nil && d.More() {
		err = errors.New("something follows")
	}
	if err == io.EOF { //nolint:errorlint // as Decode has it
		err = errors.New("the line is empty")
	}
	if err != nil {
		return fmt.Errorf("it is no JSON object: %w", err)
	}
	return nil
}

// read reads the parameters of the method.
func (m *message) read(f *fields) {
	switch m.method {
	case "opened":
		f.object("extras")
	case "closed":
		if v, ok := f.optional("exception"); ok && v != nil {
			m.exception = f.within("exception", v).exception(0)
		}
	case "log":
		text, level := f.text("message"), f.level()
		m.send = func(s *pipes.Session) error { return s.Log(level, text) }
	case "log_external_stream":
		stream, text := f.text("stream"), f.text("text")
		f.optional("extras")
		m.send = func(s *pipes.Session) error { return s.External(stream, text) }
	case "report_asset_materialization":
		made := pipes.Materialization{AssetKey: f.name("asset_key"), DataVersion: f.nullable("data_version"), Metadata: f.metadata()}
		m.report = report{materialization, func(s *pipes.Session) error { return s.Materialize(made) }}
	case "report_asset_check":
		c := pipes.Check{
			AssetKey: f.name("asset_key"), Name: f.name("check_name"), Passed: f.bool("passed"),
			Severity: pipes.Severity(f.name("severity")), Metadata: f.metadata(),
		}
		m.report = report{check, func(s *pipes.Session) error { return s.Check(c) }}
	case "report_custom_message":
		payload := f.value("payload")
		m.report = report{custom, func(s *pipes.Session) error { return s.Custom(payload) }}
		if o, ok := payload.(map[string]any); ok && o["kind"] == pipes.OutcomeKind {
			m.outcome = o
		}
	default:
		f.where = ""
		f.wrong(fmt.Errorf("there is no method %.40q", m.method))
	}
}

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

// maxCauses is how many causes of an exception are taken.
const maxCauses = 8

// exception is an exception of the child with its causes. Where Python tells of
// another one that was under way, and of no cause, that takes its place.
func (f *fields) exception(depth int) error {
	e := &pipes.RemoteError{Message: strings.TrimRight(f.text("message"), "\n"), Stack: f.texts("stack"), Name: f.nullable("name")}
	for _, name := range []string{"cause", "context"} {
		if v := f.value(name); v != nil && e.Cause == nil && depth < maxCauses {
			e.Cause = f.within(name, v).exception(depth + 1)
		}
	}
	f.end()
	return e
}

// describe returns an exception in one line, as Python does: its message often
// begins with its name.
func describe(err error) string {
	text := strings.ReplaceAll(err.Error(), "\n", " ")
	if e, ok := errors.AsType[*pipes.RemoteError](err); ok && e.Name != "" && !strings.HasPrefix(text, e.Name) {
		text = e.Name + ": " + text
	}
	return text
}

// seconds returns a number of seconds.
func seconds(v any) (time.Duration, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	f, err := n.Float64()
	return time.Duration(f * float64(time.Second)), err == nil && f > 0 && f < 1e9
}
