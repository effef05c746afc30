package pipes

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/slogtest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"

	"github.com/seed-0f2c7998/perdure/internal/pipestest"
)

// Attributes become part of the line, with the names of their groups.
func TestLogger(t *testing.T) {
	l := listen(t, pipestest.Context("a"))
	log := l.Logger()
	log.Debug("below")
	log.Info("plain")
	log.Warn("with", "n", 1, "text", "two words", "url", "https://h/?token=t")
	log.With("k", "v").WithGroup("g").Error("grouped", "x", 1, slog.Group("h", "y", 2))
	log.Info("odd", "msg", "mine", "level", "high", "time", "now")
	slog.New(l.Handler(slog.LevelDebug)).Log(t.Context(), LevelCritical, "worst")
	l.Close(nil)
	received := l.received()
	compare(t, received[1:len(received)-1], []string{
		`log {"level":"INFO","message":"plain"}`,
		`log {"level":"WARNING","message":"with n=1 text=\"two words\" url=\"https://h/?token=REDACTED\""}`,
		`log {"level":"ERROR","message":"grouped k=v g.x=1 g.h.y=2"}`,
		`log {"level":"INFO","message":"odd msg=mine level=high time=now"}`,
		`log {"level":"CRITICAL","message":"worst"}`,
	})
}

// The line of an event has no attributes that its message repeats. A record that only
// looks like an event keeps its attributes.
func TestLoggerOfEvents(t *testing.T) {
	l := listen(t, pipestest.Context("a"))
	at := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	transition := circuit.LogTo(l.Logger().With("job", "nightly"))
	transition(t.Context(), circuit.Transition{Name: "s3", From: circuit.Closed, To: circuit.Open, RetryAt: at})
	transition(t.Context(), circuit.Transition{Name: "s3", From: circuit.Open, To: circuit.HalfOpen})
	retry.LogTo(l.Logger())(t.Context(), retry.Event{Kind: retry.Retrying, Operation: "upload", Attempt: 1, MaxAttempts: 5, Delay: time.Second, Err: errors.New("503")})
	l.Logger().Info("mine", "event", "transition", "to", "open")
	l.Close(nil)
	received := l.received()
	compare(t, received[1:len(received)-1], []string{
		`log {"level":"WARNING","message":"Circuit breaker 's3' transitioned from closed to open (unknown) job=nightly retry_at=2026-11-28T12:00:00.000Z"}`,
		`log {"level":"INFO","message":"Circuit breaker 's3' transitioned from open to half-open (unknown) job=nightly"}`,
		`log {"level":"INFO","message":"Retrying upload in 1.0 seconds (attempt 1/5): 503"}`,
		`log {"level":"INFO","message":"mine event=transition to=open"}`,
	})
}

// The handler passes slogtest, as far as a line shows.
func TestHandler(t *testing.T) {
	var l *listener
	slogtest.Run(t, func(t *testing.T) slog.Handler {
		t.Helper()
		l = listen(t, pipestest.Context("a"))
		return l.Handler(nil)
	}, func(t *testing.T) map[string]any {
		t.Helper()
		l.Close(nil)
		p := l.received()[1].Params
		m := map[string]any{slog.LevelKey: p["level"], slog.MessageKey: p["message"]}
		for word := range strings.FieldsSeq(p["message"].(string)) {
			if name, value, ok := strings.Cut(word, "="); ok {
				put(m, strings.Split(name, "."), value)
			}
		}
		if t.Name() == "TestHandler/built-ins" || !strings.Contains(t.Name(), "zero-time") {
			m[slog.TimeKey] = "Dagster's own"
		}
		m[slog.MessageKey] = strings.Fields(p["message"].(string))[0]
		return m
	})
}

func put(m map[string]any, names []string, value string) {
	for _, name := range names[:len(names)-1] {
		if _, ok := m[name]; !ok {
			m[name] = map[string]any{}
		}
		m = m[name].(map[string]any)
	}
	m[names[len(names)-1]] = value
}
