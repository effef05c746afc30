package progress

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/report"
)

// Without a terminal, a long copy logs its progress each 10 seconds, and a short one
// nothing. Speed and time left are by the bytes of this run alone.
func TestProgressLines(t *testing.T) {
	for name, row := range map[string]struct {
		earlier int64
		want    string
	}{
		"from scratch": {0, `INFO: Copying hour.csv: 97.7 KiB of 244 KiB (40 %), 9.8 KiB/s, 15 s left
INFO: Copying hour.csv: 195 KiB of 244 KiB (80 %), 9.8 KiB/s, 5 s left
INFO: Copying hour.csv: 254 KiB, 7.3 KiB/s
INFO: Copying hour.csv: 976 KiB, 21.7 KiB/s
`},
		"resumed": {90_000, `INFO: Copying hour.csv: 97.7 KiB of 244 KiB (40 %), 1000 bytes/s, 2 min 30 s left
INFO: Copying hour.csv: 195 KiB of 244 KiB (80 %), 5.4 KiB/s, 9 s left
INFO: Copying hour.csv: 254 KiB, 4.7 KiB/s
INFO: Copying hour.csv: 976 KiB, 19.7 KiB/s
`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				m := New("hour.csv", slog.New(report.Lines(&log, slog.LevelInfo)))
				for second := range int64(25) {
					m.Bytes(second*10_000, row.earlier, 250_000)
					<-time.After(time.Second)
				}
				<-time.After(every)
				m.Bytes(260_000, row.earlier, -1)
				<-time.After(every)
				m.Bytes(999_900, row.earlier, -1)
				m.End()
				if log.String() != row.want {
					t.Errorf("it says\n%swant\n%s", &log, row.want)
				}
			})
		})
	}
}

// Whatever the width of the terminal and the name are, a bar is one line of it.
func TestBarIsOneLine(t *testing.T) {
	for _, name := range []string{"a", "hour.csv", strings.Repeat("long/", 60), strings.Repeat("駅", 70)} {
		for columns := range 200 {
			for _, part := range []float64{-1, 0, 0.5, 1} {
				text := line(name, amount{done: 5 << 30, earlier: 1, total: 9 << 30}.text(time.Hour), part, columns)
				if columnsOf(text) > columns {
					t.Fatalf("%d columns: %q", columns, text)
				}
			}
		}
	}
	for columns, want := range map[int]string{
		75: "…y/2024/hour-of-day.csv 5.0 GiB of 9.0 GiB (56 %), 1.4 MiB/s, 48 min left",
		90: "data/daily/2024/hour-of-day.csv 5.0 GiB of 9.0 GiB (56 %), 1.4 MiB/s, 48 min left",
		99: "data/daily/2024/hour-of-day.csv [======      ] 5.0 GiB of 9.0 GiB (56 %), 1.4 MiB/s, 48 min left",
	} {
		now := amount{done: 5 << 30, total: 9 << 30}
		if got := line("data/daily/2024/hour-of-day.csv", now.text(time.Hour), now.part(), columns); got != want {
			t.Errorf("%d columns: %q, want %q", columns, got, want)
		}
	}
}

// The bar is below each line that is written above it, at once: it is the last thing on the terminal
// until it ends.
func TestBarStaysBelowTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var terminal bytes.Buffer
		b := &bar{terminal: &terminal, columns: func() int { return 60 }, text: func() (string, string, float64) { return "hour.csv", "5 bytes", -1 }}
		b.begin()
		synctest.Wait()
		for range 2 {
			_, _ = b.Write([]byte("INFO: Waiting\n"))
			if text := terminal.String(); !strings.HasSuffix(text, "\rhour.csv 5 bytes") {
				t.Errorf("the terminal has %q", text)
			}
		}
		b.end()
		_, _ = b.Write([]byte("INFO: Copied\n"))
		if text := terminal.String(); !strings.HasSuffix(text, "\r"+strings.Repeat(" ", 59)+"\rINFO: Copied\n") {
			t.Errorf("the terminal has %q", text)
		}
	})
}
