// Package report writes logs and errors: lines of text for people, or lines of JSON for
// programs.
package report

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/retry"
)

// JSON returns a handler that writes JSON objects with the keys time, level, message and
// the attributes of the record. A duration is a number of seconds, as in a policy.
func JSON(w io.Writer, level slog.Level) slog.Handler {
	return slog.NewJSONHandler(ForJSON(w), &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.MessageKey {
				a.Key = "message"
			}
			if a.Value.Kind() == slog.KindDuration {
				a.Value = slog.Float64Value(a.Value.Duration().Seconds())
			}
			if err, ok := a.Value.Any().(error); ok {
				a.Value = slog.StringValue(err.Error())
			}
			if a.Value.Kind() == slog.KindString {
				a.Value = slog.StringValue(redact.String(a.Value.String()))
			}
			return a
		},
	})
}

// Lines returns a handler that writes lines with the level and the [Message]:
//
//	INFO: Retrying fetch in 0.6 seconds (attempt 1/3): 503 SlowDown (trips/2024-01.csv)
//
// If level is debug, each line has the attributes of its record.
func Lines(w io.Writer, level slog.Level) slog.Handler {
	return &lines{mu: new(sync.Mutex), w: w, level: level}
}

// TimedLines returns a handler as Lines does whose lines begin with the local time:
//
//	2024-01-31T06:00:01.250+01:00 INFO: Retrying fetch in 0.6 seconds (attempt 1/3): 503 SlowDown
func TimedLines(w io.Writer, level slog.Level) slog.Handler {
	return &lines{mu: new(sync.Mutex), w: w, level: level, timed: true}
}

// Stamp returns the local time as TimedLines writes it.
func Stamp() string { return stamp(time.Now()) }

func stamp(t time.Time) string { return t.Local().Format("2006-01-02T15:04:05.000Z07:00") }

type lines struct {
	mu    *sync.Mutex // held while a line is written; shared by all handlers of w
	w     io.Writer
	level slog.Level
	attrs []slog.Attr
	timed bool // a line begins with its time
}

func (h *lines) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level }

func (h *lines) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	if h.timed && !r.Time.IsZero() {
		b.WriteString(stamp(r.Time) + " ")
	}
	if h.level > slog.LevelDebug {
		b.WriteString(r.Level.String() + ": " + Message(r, h.attrs))
	} else {
		b.WriteString(r.Level.String() + ": " + local(r))
		for _, a := range h.attrs {
			writeAttr(&b, a)
		}
		r.Attrs(func(a slog.Attr) bool { writeAttr(&b, a); return true })
	}
	line := Line(b.String()) + "\n"
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := io.WriteString(h.w, line)
	return err
}

// Message returns the message of a record of a logger with these attributes. That of a
// retry has the error of the attempt, and the name of the file that it is of.
func Message(r slog.Record, attrs []slog.Attr) string {
	event, failure, file := "", "", ""
	for _, a := range attrs {
		if a.Key == "file" {
			file = a.Value.String()
		}
	}
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "event":
			event = a.Value.String()
		case "error":
			failure = a.Value.String()
		}
		return true
	})
	text := local(r)
	if event == retry.Retrying.String() && failure != "" {
		text += ": " + failure
	}
	if file != "" && event != "" && !strings.Contains(text, file) {
		text += " (" + file + ")"
	}
	return text
}

// local returns the message of a record with its retry_at as [Local] returns it.
func local(r slog.Record) string {
	at := time.Time{}
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "retry_at" && a.Value.Kind() == slog.KindTime {
			at = a.Value.Time()
		}
		return true
	})
	return Local(r.Message, r.Time, at)
}

func (h *lines) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	next.attrs = append(slices.Clip(h.attrs), attrs...)
	return &next
}

// WithGroup returns h: the command logs no groups.
func (h *lines) WithGroup(string) slog.Handler { return h }

func writeAttr(b *strings.Builder, a slog.Attr) {
	text := a.Value.String()
	if a.Value.Kind() == slog.KindTime {
		text = a.Value.Time().Format(time.RFC3339)
	}
	if text == "" || strings.ContainsAny(text, " \"=\n\t") {
		text = strconv.Quote(text)
	}
	b.WriteString(" " + a.Key + "=" + text)
}
