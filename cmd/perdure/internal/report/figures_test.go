package report_test

import (
	"bytes"
	"context"
	"log/slog"
	"math"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/report"
	"github.com/seed-0f2c7998/perdure/retry"
)

// inBerlin makes the local time that of a zone with a name, until the end of the test.
func inBerlin(t *testing.T) time.Time {
	t.Helper()
	was := time.Local
	t.Cleanup(func() { time.Local = was })
	time.Local = time.FixedZone("CET", 3600)
	return time.Date(2026, 3, 1, 14, 2, 9, 0, time.UTC)
}

func TestInstant(t *testing.T) {
	now := inBerlin(t)
	for away, want := range map[time.Duration]string{
		28 * time.Second:                    "15:02:37 CET, in 28 s",
		400 * time.Millisecond:              "15:02:09 CET, now",
		-time.Minute:                        "15:01:09 CET, 1 min ago",
		118 * time.Second:                   "15:04:07 CET, in 1 min 58 s",
		time.Hour - time.Millisecond:        "16:02:08 CET, in 1 h",
		3*time.Hour + 5*time.Minute:         "18:07:09 CET, in 3 h 5 min",
		-13 * time.Hour:                     "2026-03-01 02:02:09 CET, 13 h ago",
		50*time.Hour + 40*time.Minute:       "2026-03-03 17:42:09 CET, in 2 d 3 h",
		24*time.Hour - 10*time.Second:       "2026-03-02 15:01:59 CET, in 24 h",
		59*time.Minute + 59*time.Second + 1: "16:02:08 CET, in 59 min 59 s",
	} {
		if got := report.Instant(now.Add(away), now); got != want {
			t.Errorf("%v: %q, want %q", away, got, want)
		}
	}
}

func TestBytesAndRates(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 bytes", 1: "1 byte", 1023: "1023 bytes", 1024: "1.0 KiB", 60088: "58.7 KiB", 102_400: "100 KiB",
		1_048_575: "1.0 MiB", 31_247_564: "29.8 MiB", 383_778_816: "366 MiB", 5 << 30: "5.0 GiB", math.MaxInt64: "8.0 EiB",
	} {
		if got := report.Bytes(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "0.00 s", 16 * time.Millisecond: "0.02 s", 12345 * time.Millisecond: "12.3 s", 303 * time.Second: "5 min 3 s"} {
		if got := report.Took(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "95.4 TiB/s", 12 * time.Second: "8.3 MiB/s", time.Hour * 100: "291 bytes/s"} {
		if got := report.Rate(100<<20, d); got != want {
			t.Errorf("100 MiB in %v: %q, want %q", d, got, want)
		}
	}
}

// In text for people, the instants of an error are local; other ones are kept, and so are all
// of JSON.
func TestInstantsOfErrorsAreLocal(t *testing.T) {
	now := inBerlin(t)
	open := &circuit.OpenError{Name: "at 2026-03-01T14:02:39Z", State: circuit.Open, RetryAt: now.Add(30 * time.Second)}
	log := func(h slog.Handler) {
		retry.LogTo(slog.New(h))(context.Background(), retry.Event{Kind: retry.Stopped, Operation: "load", Attempt: 1, Stop: open, RetryAt: open.RetryAt})
	}
	var text, object bytes.Buffer
	log(fixed{report.Lines(&text, slog.LevelInfo), now})
	const want = `WARN: load failed after 1 attempt (circuit breaker "at 2026-03-01T14:02:39Z" is open; next probe at 15:02:39 CET, in 30 s)` + "\n"
	if text.String() != want {
		t.Errorf("%s, want %s", &text, want)
	}
	log(report.JSON(&object, slog.LevelInfo))
	if !bytes.Contains(object.Bytes(), []byte("next probe at 2026-03-01T14:02:39Z")) {
		t.Errorf("JSON has %s", &object)
	}
	if got := report.Local(open.Error(), now, time.Time{}, now); got != open.Error() {
		t.Errorf("without its instant: %s", got)
	}
}

// A fixed handler handles all records as of one instant.
type fixed struct {
	slog.Handler
	at time.Time
}

func (h fixed) Handle(ctx context.Context, r slog.Record) error {
	r.Time = h.at
	return h.Handler.Handle(ctx, r)
}
