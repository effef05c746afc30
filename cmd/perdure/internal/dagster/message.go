package dagster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/pipesjson"
	"github.com/seed-0f2c7998/perdure/pipes"
)

// The kinds of reports that are held until the attempt has succeeded.
const (
	materialization = "materialization"
	check           = "check"
	custom          = "custom message"
)

// An outbound reports a message again, by a call of package pipes.
type outbound struct {
	kind string // "" for a message that is relayed at once
	send func(*pipes.Session) error
}

// A message is a decoded line of a child.
type message struct {
	outbound

	method    string
	exception error          // the exception of closed; nil if none
	outcome   map[string]any // the child's pipes.Outcome; nil if the message has none
}

// parse decodes a line as strictly as Dagster's reader does: a message must have all
// parameters of its method and no others.
func parse(line []byte) (m message, err error) {
	var envelope struct {
		Version *json.RawMessage `json:"__dagster_pipes_version"`
		Method  string           `json:"method"`
		Params  any              `json:"params"`
	}
	err = decode(line, &envelope)
	if err != nil && bytes.ContainsAny(line, "NI") {
		err = decode(quoted(line), &envelope) // Python writes NaN and Infinity, which JSON lacks
	}
	if err != nil {
		return m, err
	}
	if envelope.Version == nil {
		return m, errors.New("no __dagster_pipes_version")
	}
	m.method = envelope.Method
	values, ok := envelope.Params.(map[string]any)
	if !ok && (m.method != "closed" || envelope.Params != nil) {
		return m, fmt.Errorf("%.40q: params must be an object", m.method)
	}
	f := pipesjson.Of(values, m.method+": ", &err)
	if unknown := m.read(f); unknown != nil {
		return m, unknown
	}
	f.End()
	return m, err
}

// decode reads one JSON value, numbers as they are written.
func decode(line []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	err := d.Decode(into)
	if err == nil && d.More() {
		err = errors.New("more than one JSON value")
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("empty line")
	}
	if err != nil {
		return fmt.Errorf("not a JSON object: %w", err)
	}
	return nil
}

// quoted returns line with Python's NaN and Infinity in quotes.
func quoted(line []byte) []byte {
	tokens := regexp.MustCompile(`"(\\.|[^"\\])*"|NaN|-?Infinity`)
	return tokens.ReplaceAllFunc(line, func(token []byte) []byte {
		if token[0] == '"' {
			return token
		}
		return []byte(strconv.Quote(string(token)))
	})
}

// read reads the parameters of the method. An unknown method is an error.
func (m *message) read(f *pipesjson.Fields) error {
	switch m.method {
	case "opened":
		f.Object("extras")
	case "closed":
		if v, ok := f.Optional("exception"); ok && v != nil {
			m.exception = exception(f.Within("exception", v), 0)
		}
	case "log":
		text, at := f.Text("message"), level(f)
		m.send = func(s *pipes.Session) error { return s.Log(at, text) }
	case "log_external_stream":
		stream, text := f.Text("stream"), f.Text("text")
		f.Optional("extras")
		m.send = func(s *pipes.Session) error { return s.LogExternalStream(stream, text) }
	case "report_asset_materialization":
		made := pipes.Materialization{AssetKey: f.Name("asset_key"), DataVersion: f.Nullable("data_version"), Metadata: metadata(f)}
		m.outbound = outbound{materialization, func(s *pipes.Session) error { return s.Materialize(made) }}
	case "report_asset_check":
		c := pipes.Check{
			AssetKey: f.Name("asset_key"), Name: f.Name("check_name"), Passed: f.Bool("passed"),
			Severity: pipes.Severity(f.Name("severity")), Metadata: metadata(f),
		}
		m.outbound = outbound{check, func(s *pipes.Session) error { return s.Check(c) }}
	case "report_custom_message":
		payload := f.Value("payload")
		m.outbound = outbound{custom, func(s *pipes.Session) error { return s.Custom(payload) }}
		if o, ok := payload.(map[string]any); ok && o["kind"] == pipes.OutcomeKind {
			m.outcome = o
		}
	default:
		return fmt.Errorf("unknown method %.40q", m.method)
	}
	return nil
}

// metadata returns the metadata of a report.
func metadata(f *pipesjson.Fields) pipes.Metadata {
	m, v := pipes.Metadata{}, f.Value("metadata")
	if v == nil {
		return m
	}
	for label, v := range f.Within("metadata", v).Values {
		value := f.Within(fmt.Sprintf("metadata %.80q", label), v)
		m[label] = pipes.Typed(value.Text("type"), value.Value("raw_value"))
		value.End()
	}
	return m
}

// level returns the level of a log line, which Python writes as a word, in any case,
// or as a number.
func level(f *pipesjson.Fields) slog.Level {
	v, ok := f.Optional("level")
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
		f.Fail("level", v, "one of DEBUG, INFO, WARNING, ERROR, CRITICAL")
	}
	return level
}

// maxCauses is how many causes of an exception are read.
const maxCauses = 8

// exception returns an exception of the child with its causes. If it has no cause
// but Python's context, the exception that was being handled, that is its cause.
func exception(f *pipesjson.Fields, depth int) error {
	e := &pipes.Exception{Message: strings.TrimRight(f.Text("message"), "\n"), Stack: f.Texts("stack"), Name: f.Nullable("name")}
	for _, name := range []string{"cause", "context"} {
		if v := f.Value(name); v != nil && e.Cause == nil && depth < maxCauses {
			e.Cause = exception(f.Within(name, v), depth+1)
		}
	}
	f.End()
	return e
}

// describe returns an exception as one line that begins with its name.
func describe(err error) string {
	text := strings.ReplaceAll(err.Error(), "\n", " ")
	if e, ok := errors.AsType[*pipes.Exception](err); ok && e.Name != "" && !strings.HasPrefix(text, e.Name) {
		text = e.Name + ": " + text
	}
	return text
}

// seconds returns v, a number of seconds, as a duration; ok is false if v is not a number
// above 0.
func seconds(v any) (d time.Duration, ok bool) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	f, err := n.Float64()
	return time.Duration(f * float64(time.Second)), err == nil && f > 0 && f < 1e9
}
