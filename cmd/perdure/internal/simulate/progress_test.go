package simulate_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/simulate"
)

// A simulation that takes long tells how far it has come: in a line of the terminal, or now and then.
func TestProgress(t *testing.T) {
	for _, row := range []struct {
		terminal bool
		step     time.Duration
		want     string
	}{
		{false, 3 * time.Second, "Simulating a: 40 %|Simulating a: 80 %|"},
		{true, 200 * time.Millisecond, "\r\x1b[KSimulating a: 30 %\r\x1b[KSimulating a: 60 %\r\x1b[KSimulating a: 90 %\r\x1b[K"},
	} {
		synctest.Test(t, func(t *testing.T) {
			var terminal, log bytes.Buffer
			p := simulate.Progress{Log: slog.New(slog.NewTextHandler(&log, nil))}
			if row.terminal {
				p.Terminal = &terminal
			}
			for i := range 10 {
				p.Report("a", float64(i)/10)
				time.Sleep(row.step) //nolint:forbidigo // of the bubble
			}
			p.End()
			got := terminal.String()
			for line := range strings.Lines(log.String()) {
				_, text, _ := strings.Cut(line, `msg="`)
				text, _, _ = strings.Cut(text, `"`)
				got += text + "|"
			}
			if got != row.want {
				t.Errorf("terminal %v: %q, want %q", row.terminal, got, row.want)
			}
		})
	}
}
