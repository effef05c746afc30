package pipes

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"unicode/utf8"

	"github.com/seed-0f2c7998/perdure/internal/redact"
)

// A Materialization reports that the process has made an asset.
type Materialization struct {
	AssetKey    string // "" means the step's only asset
	DataVersion string // "" means no version
	Metadata    Metadata
}

// Materialize reports that the process has made an asset; a second report of the
// same asset is an error. Dagster records a materialization only if the process
// exits with 0.
func (s *Session) Materialize(m Materialization) error {
	if !s.Launched() {
		return nil
	}
	key, err := s.Context.resolve(m.AssetKey)
	if err != nil {
		return err
	}
	metadata, err := m.Metadata.object()
	if err != nil {
		return fmt.Errorf("pipes: asset %q: %w", key, err)
	}
	params := object{{"asset_key", verbatim(key)}, {"data_version", nil}, {"metadata", metadata}}
	if m.DataVersion != "" {
		params[1].value = m.DataVersion
	}
	line, err := message("report_asset_materialization", params)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.made[key] && !s.closed {
		return fmt.Errorf("pipes: asset %q is already materialized", key)
	}
	s.made[key] = true
	return s.write(line)
}

// A Severity says how much a failed check matters.
type Severity string

// The severities.
const (
	SeverityError Severity = "ERROR"
	SeverityWarn  Severity = "WARN"
)

// A Check is the result of an asset check. The asset's code must declare the check.
type Check struct {
	AssetKey string // "" means the step's only asset
	Name     string
	Passed   bool
	Severity Severity // "" means SeverityError
	Metadata Metadata
}

// Check reports the result of a check. Dagster records a check only if the process
// exits with 0, also a check that failed.
func (s *Session) Check(c Check) error {
	if !s.Launched() {
		return nil
	}
	key, err := s.Context.resolve(c.AssetKey)
	if err != nil {
		return err
	}
	if c.Severity == "" {
		c.Severity = SeverityError
	}
	switch {
	case c.Name == "":
		return errors.New("pipes: the check has no name")
	case c.Severity != SeverityError && c.Severity != SeverityWarn:
		return fmt.Errorf("pipes: check %q: invalid value %q for severity: must be %s or %s", c.Name, c.Severity, SeverityError, SeverityWarn)
	}
	metadata, err := c.Metadata.object()
	if err != nil {
		return fmt.Errorf("pipes: check %q: %w", c.Name, err)
	}
	return s.send("report_asset_check", object{
		{"asset_key", verbatim(key)},
		{"check_name", verbatim(c.Name)},
		{"passed", c.Passed},
		{"severity", verbatim(c.Severity)},
		{"metadata", metadata},
	})
}

// Custom sends a payload to the code that started the process: any value that
// encoding/json encodes.
func (s *Session) Custom(payload any) error {
	if !s.Launched() {
		return nil
	}
	return s.send("report_custom_message", object{{"payload", payload}})
}

// Stream returns a writer to the standard stream of that name, [Stdout] or
// [Stderr]. If Dagster asked for the streams, the writer also sends each line as a
// message; an unfinished line is sent when it ends or the session closes. If
// messages go to the same stream, each of them starts on a new line.
func (s *Session) Stream(name string) (io.Writer, error) {
	switch name {
	case Stdout:
		return &tee{s, name, &s.streams[0], s.config.stdout()}, nil
	case Stderr:
		return &tee{s, name, &s.streams[1], s.config.stderr()}, nil
	default:
		return nil, fmt.Errorf("pipes: invalid value %q for stream: must be %s or %s", name, Stdout, Stderr)
	}
}

// A tee writes to a standard stream, and to Dagster if Dagster asked for the stream.
type tee struct {
	session *Session
	name    string
	held    *stream
	to      io.Writer
}

// Write returns the result of the write to the standard stream.
func (t *tee) Write(p []byte) (int, error) {
	write := t.to.Write
	if shared := t.session.shared; shared != nil && shared.name == t.name {
		write = shared.pass
	}
	n, err := write(p)
	if t.session.include {
		t.held.add(p[:n])
		t.session.stream(t.name, t.held, false)
	}
	return n, err
}

// A stream holds text that was written to a standard stream and not sent yet.
type stream struct {
	mu   sync.Mutex
	text []byte
}

func (h *stream) add(p []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.text = append(h.text, p...)
}

// next takes out the next text to send: the whole lines, or a part of a very long
// line, or, at the end, everything. The text ends with a whole character.
func (h *stream) next(end bool) string {
	size := len(h.text)
	if !end {
		size = bytes.LastIndexByte(h.text, '\n') + 1
	}
	if size == 0 && len(h.text) > maxText+utf8.UTFMax {
		size = cut(string(h.text), maxText)
	}
	text := string(h.text[:size])
	h.text = h.text[size:]
	return text
}

// stream sends the next text of a stream, if any.
func (s *Session) stream(name string, held *stream, end bool) {
	held.mu.Lock()
	defer held.mu.Unlock()
	if text := held.next(end); text != "" {
		_ = s.LogExternalStream(name, text) // fails after Close, which must not fail the write
	}
}

// LogExternalStream sends text of another program for Dagster to write to its own
// [Stdout] or [Stderr]. A long text is sent in parts.
func (s *Session) LogExternalStream(name, text string) error {
	if name != Stdout && name != Stderr {
		return fmt.Errorf("pipes: invalid value %q for stream: must be %s or %s", name, Stdout, Stderr)
	}
	for text = redact.String(text); text != ""; {
		var first string
		first, text = part(text)
		err := s.send("log_external_stream", object{
			{"stream", verbatim(name)}, {"text", first}, {"extras", object{}},
		})
		if err != nil {
			return err
		}
	}
	return nil
}
