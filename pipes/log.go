package pipes

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/retry"
)

// LevelCritical is the lowest level that Dagster shows as CRITICAL.
const LevelCritical = slog.LevelError + 4

// levelName returns the name of the Dagster level that l belongs to.
func levelName(l slog.Level) verbatim {
	switch {
	case l < slog.LevelInfo:
		return "DEBUG"
	case l < slog.LevelWarn:
		return "INFO"
	case l < slog.LevelError:
		return "WARNING"
	case l < LevelCritical:
		return "ERROR"
	default:
		return "CRITICAL"
	}
}

// Log writes a line to the step's log. Dagster has five levels, [slog.LevelDebug],
// LevelInfo, LevelWarn, LevelError and [LevelCritical]; a level between two of them
// becomes the lower one. A message of more than 3840 bytes is sent as several lines, and a
// message of more than 48 KiB is cut. If Dagster has not started the process, Log writes to
// slog.Default().
func (s *Session) Log(level slog.Level, message string) error {
	if !s.Launched() {
		//nolint:forbidigo // Log has no context
		slog.Default().Log(context.Background(), level, redact.String(message))
		return nil
	}
	for rest := clip(message, maxText); ; {
		var line string
		if line, rest = part(rest); rest != "" {
			line = strings.TrimSuffix(line, "\n")
		}
		err := s.send("log", object{{"message", line}, {"level", levelName(level)}})
		if err != nil || rest == "" {
			return err
		}
	}
}

// Logger returns a logger that writes to the step's log, from Info on.
func (s *Session) Logger() *slog.Logger { return slog.New(s.Handler(nil)) }

// Handler returns a handler that writes records of level from and above to the
// step's log; nil means [slog.LevelInfo]. Attributes are appended to the line,
// except those that the messages of [retry.LogTo] and [circuit.LogTo] include. If
// Dagster has not started the process, Handler returns that of slog.Default().
func (s *Session) Handler(from slog.Leveler) slog.Handler {
	if !s.Launched() {
		return slog.Default().Handler()
	}
	if from == nil {
		from = slog.LevelInfo
	}
	buffer := new(lineBuffer)
	options := &slog.HandlerOptions{Level: from, ReplaceAttr: withoutHead}
	return &handler{slog.NewTextHandler(&buffer.text, options), s, buffer}
}

// A handler writes to the step's log. Another handler formats the attributes.
type handler struct {
	attrs slog.Handler // writes attributes to line
	*Session
	line *lineBuffer
}

type lineBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// withoutHead removes the level and the message from the attributes: Dagster has
// fields for them. Handle gives the record no time, because Dagster adds its own.
func withoutHead(groups []string, a slog.Attr) slog.Attr {
	_, isLevel := a.Value.Any().(slog.Level)
	isMessage := a.Key == slog.MessageKey && a.Value.Kind() == slog.KindString && a.Value.String() == ""
	if len(groups) == 0 && (isMessage || isLevel && a.Key == slog.LevelKey) {
		return slog.Attr{}
	}
	return a
}

func (h *handler) Enabled(ctx context.Context, l slog.Level) bool { return h.attrs.Enabled(ctx, l) }

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{h.attrs.WithAttrs(attrs), h.Session, h.line}
}

func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{h.attrs.WithGroup(name), h.Session, h.line}
}

func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	message, rest := brief(r)
	attrs := slog.NewRecord(time.Time{}, r.Level, "", 0)
	attrs.AddAttrs(rest...)
	text, err := h.format(ctx, attrs)
	if err != nil {
		return err
	}
	if text != "" {
		message += " " + text
	}
	return h.Log(r.Level, message)
}

// brief returns a record's message and the attributes to append. The message of a
// retry's or a breaker's event says enough by itself, except for the error before a
// retry, which brief adds, and a transition's retry_at.
func brief(r slog.Record) (message string, attrs []slog.Attr) {
	r.Attrs(func(a slog.Attr) bool { attrs = append(attrs, a); return true })
	if len(attrs) < 2 || attrs[0].Key != "event" || attrs[1].Key != "operation" && attrs[1].Key != "breaker" {
		return r.Message, attrs
	}
	event, message := attrs[0].Value.String(), r.Message
	for _, a := range attrs {
		if a.Key == "error" && event == retry.Retrying.String() {
			message += ": " + a.Value.String()
		}
	}
	return message, slices.DeleteFunc(attrs, func(a slog.Attr) bool { return event != "transition" || a.Key != "retry_at" })
}

func (h *handler) format(ctx context.Context, attrs slog.Record) (string, error) {
	h.line.mu.Lock()
	defer h.line.mu.Unlock()
	h.line.text.Reset()
	err := h.attrs.Handle(ctx, attrs)
	return string(bytes.TrimSpace(h.line.text.Bytes())), err
}
