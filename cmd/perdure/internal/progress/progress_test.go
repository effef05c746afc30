package progress

import (
	"bytes"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/report"
)

// Without a terminal, a long copy logs its progress each 10 seconds, and a short one
// nothing.
func TestProgressLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		m := New("hour.csv", slog.New(report.Lines(&log, slog.LevelInfo)))
		for second := range int64(25) {
			m.Bytes(second*100, 2500)
			<-time.After(time.Second)
		}
		m.Bytes(2600, -1)
		<-time.After(every)
		m.Bytes(9999, -1)
		m.End()
		want := `INFO: Copying hour.csv: 1000 bytes of 2500 (40 %)
INFO: Copying hour.csv: 2000 bytes of 2500 (80 %)
INFO: Copying hour.csv: 9999 bytes
`
		if log.String() != want {
			t.Errorf("it says\n%swant\n%s", &log, want)
		}
	})
}
