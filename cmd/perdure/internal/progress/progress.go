// Package progress shows how far a copy has come.
package progress

import (
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/report"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/tree"
	"github.com/seed-0f2c7998/perdure/httpretry"
)

// every is how often progress is told where there is no terminal.
const every = 10 * time.Second

// A Meter shows how far a copy has come: as a bar on a terminal, else as a line
// now and then. It is for several goroutines.
type Meter struct {
	Log *slog.Logger // its lines do not disturb the bar

	name string

	mu   sync.Mutex
	area *mpb.Progress // nil: no terminal
	bar  *mpb.Bar      // made when there is something to show
	told time.Time

	note atomic.Value // a string after the name; not under mu, for it is read while the bar is drawn
}

// New returns a Meter for what has that name, which logs by log.
func New(name string, log *slog.Logger) *Meter {
	return &Meter{Log: log, name: report.Line(name), told: time.Now()}
}

// Draw has the meter draw a bar on the terminal, above which log's lines go.
func (m *Meter) Draw(terminal io.Writer, log func(io.Writer) *slog.Logger) {
	m.area = mpb.New(mpb.WithOutput(terminal), mpb.WithWidth(40))
	m.Log = log(above{m.area, terminal})
}

// above writes above the bar, and goes on when that has ended.
type above struct {
	area  io.Writer
	after io.Writer
}

func (w above) Write(p []byte) (int, error) {
	if n, err := w.area.Write(p); err == nil {
		return n, nil
	}
	return w.after.Write(p)
}

// Files tells how far many files have come.
func (m *Meter) Files(p tree.Progress) {
	note := fmt.Sprintf(" (%d of %d files)", p.Files, p.TotalFiles)
	if p.Listing { // there may be more
		note = fmt.Sprintf(" (%d of %d files so far, %d keys listed)", p.Files, p.TotalFiles, p.Keys)
	}
	m.note.Store(note)
	m.Bytes(p.Bytes, p.TotalBytes)
}

// Bytes tells how many bytes are there, and of how many; -1: not known.
func (m *Meter) Bytes(done, total int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.area == nil:
		m.line(done, total)
		return
	case m.bar == nil:
		m.bar = m.area.AddBar(0, // so that it ends when it is told to: the store may still have work with the last byte
			mpb.PrependDecorators(decor.Any(m.title), decor.CountersKibiByte("% .1f / % .1f ")),
			mpb.AppendDecorators(decor.Percentage(decor.WCSyncSpace), decor.AverageSpeed(decor.SizeB1024(0), " % .1f"),
				decor.AverageETA(decor.ET_STYLE_GO, decor.WCSyncSpace)))
	}
	m.bar.SetTotal(max(total, 0), false)
	m.bar.SetCurrent(done)
}

// figures is how many columns of a terminal the bar's figures take.
const figures = 58

// title is what the bar is of: as much of its end as leaves room for the figures.
func (m *Meter) title(s decor.Statistics) string {
	text := []rune(m.called())
	if room := max(s.AvailableWidth-figures, 8); len(text) > room {
		text = append([]rune("…"), text[len(text)-room+1:]...)
	}
	return string(text) + " "
}

func (m *Meter) called() string {
	note, _ := m.note.Load().(string)
	return m.name + note
}

// line needs m.mu.
func (m *Meter) line(done, total int64) {
	if time.Since(m.told) < every {
		return
	}
	m.told = time.Now()
	text := fmt.Sprintf("Copying %s: %d bytes", m.called(), done)
	if total > 0 {
		text += fmt.Sprintf(" of %d (%d %%)", total, done*100/total)
	}
	m.Log.Info(text, "event", "progress", "bytes", done, "total", total)
}

// Resumed tells that a body goes on where it broke.
func (m *Meter) Resumed(r httpretry.Resumption) {
	m.Log.Info(fmt.Sprintf("Resuming %s at byte %d", r.URL, r.Offset), "event", "resumed",
		"url", r.URL, "offset", r.Offset, "total", r.Total, "error", r.Break.Error())
}

// End takes the bar away.
func (m *Meter) End() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.area == nil {
		return
	}
	if m.bar != nil {
		m.bar.Abort(true)
	}
	m.area.Wait()
	m.area = nil
}
