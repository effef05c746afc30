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

// A Materialization is an asset that was made.
type Materialization struct {
	AssetKey    string // "" means the one asset that the step makes
	DataVersion string // "" means none
	Metadata    Metadata
}

// Materialize reports that an asset was made, which can be done once for each.
// Dagster takes note of it only if the process then exits with 0.
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

// A Severity is how much a failed check matters.
type Severity string

// The severities.
const (
	SeverityError Severity = "ERROR"
	SeverityWarn  Severity = "WARN"
)

// A Check is the result of an asset check, which the asset must declare.
type Check struct {
	AssetKey string // "" means the one asset that the step makes
	Name     string
	Passed   bool
	Severity Severity // "" means SeverityError
	Metadata Metadata
}

// Check reports the result of a check. For Dagster to take note of one that
// failed, the process must exit with 0 all the same.
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

// Custom sends a message for the code that started the process: anything that
// encoding/json takes.
func (s *Session) Custom(payload any) error {
	if !s.Launched() {
		return nil
	}
	return s.send("report_custom_message", object{{"payload", payload}})
}

// Stream returns a writer for what goes to Stdout or Stderr. If Dagster asked
// for it, each line is sent as a message, too; what is not a whole line yet is
// held back until it is one, or the session closes. Where messages go to the
// stream itself, each begins a line of its own, whatever was written before it.
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

// A tee writes to a standard stream, and to Dagster if that wants it.
type tee struct {
	session *Session
	name    string
	held    *stream
	to      io.Writer
}

// Write returns what writing to the standard stream does.
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

// A stream is what was written to a standard stream and not sent yet.
type stream struct {
	mu   sync.Mutex
	text []byte
}

func (h *stream) add(p []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.text = append(h.text, p...)
}

// next returns the next text to send: whole lines, or a part of one that is
// very long, or, at the end, all that is left. It ends with a whole character.
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

// stream sends what there is to send of a stream.
func (s *Session) stream(name string, held *stream, end bool) {
	held.mu.Lock()
	defer held.mu.Unlock()
	if text := held.next(end); text != "" {
		// After Close there is nobody to send it to, and who writes is not to
		// be stopped for it.
		_ = s.LogExternalStream(name, text)
	}
}

// LogExternalStream sends text that another program would have written to Stdout or
// Stderr, for Dagster to write it there. A long one is sent in parts.
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
