package dagster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// An outbound is what a message comes to: a call of package pipes, which refuses
// what Dagster would not take.
type outbound struct {
	kind string // "" is passed on at once
	send func(*pipes.Session) error
}

// A message is one line of a child.
type message struct {
	outbound

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
		m.send = func(s *pipes.Session) error { return s.LogExternalStream(stream, text) }
	case "report_asset_materialization":
		made := pipes.Materialization{AssetKey: f.name("asset_key"), DataVersion: f.nullable("data_version"), Metadata: f.metadata()}
		m.outbound = outbound{materialization, func(s *pipes.Session) error { return s.Materialize(made) }}
	case "report_asset_check":
		c := pipes.Check{
			AssetKey: f.name("asset_key"), Name: f.name("check_name"), Passed: f.bool("passed"),
			Severity: pipes.Severity(f.name("severity")), Metadata: f.metadata(),
		}
		m.outbound = outbound{check, func(s *pipes.Session) error { return s.Check(c) }}
	case "report_custom_message":
		payload := f.value("payload")
		m.outbound = outbound{custom, func(s *pipes.Session) error { return s.Custom(payload) }}
		if o, ok := payload.(map[string]any); ok && o["kind"] == pipes.OutcomeKind {
			m.outcome = o
		}
	default:
		f.where = ""
		f.wrong(fmt.Errorf("there is no method %.40q", m.method))
	}
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
