// Package progress shows the progress of a copy.
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

// every is the time between two lines of progress without a terminal.
const every = 10 * time.Second

// A Meter shows the progress of a copy: as a bar on a terminal, else as a line each 10
// seconds. It is safe for concurrent use, after Draw.
type Meter struct {
	Log *slog.Logger // writes above the bar

	name string

	mu   sync.Mutex
	area *mpb.Progress // nil without a terminal
	bar  *mpb.Bar      // nil before the first progress
	last time.Time     // of the last line, or the beginning

	note atomic.Value // a string after the name; not guarded by mu: drawing the bar reads it
}

// New returns a Meter for a copy of that name.
func New(name string, log *slog.Logger) *Meter {
	return &Meter{Log: log, name: report.Line(name), last: time.Now()}
}

// Draw makes the meter draw a bar on the terminal. log returns a logger that writes to a
// writer: its lines appear above the bar.
func (m *Meter) Draw(terminal io.Writer, log func(io.Writer) *slog.Logger) {
	m.area = mpb.New(mpb.WithOutput(terminal), mpb.WithWidth(40))
	m.Log = log(above{m.area, terminal})
}

// above writes above the bar, and directly to the terminal after the bar has ended.
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

// Files shows the progress of many files.
func (m *Meter) Files(p tree.Progress) {
	note := fmt.Sprintf(" (%d of %d files)", p.Files, p.TotalFiles)
	if p.Listing { // there may be more
		note = fmt.Sprintf(" (%d of %d files so far, %d keys listed)", p.Files, p.TotalFiles, p.Keys)
	}
	m.note.Store(note)
	m.Bytes(p.Bytes, p.TotalBytes)
}

// Bytes shows how many bytes were transferred, of how many; a total of -1 is unknown.
func (m *Meter) Bytes(done, total int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.area == nil:
		m.line(done, total)
		return
	case m.bar == nil:
		m.bar = m.area.AddBar(0, // a total of 0 keeps the bar until End: the store may still process the last byte
			mpb.PrependDecorators(decor.Any(m.title), decor.CountersKibiByte("% .1f / % .1f ")),
			mpb.AppendDecorators(decor.Percentage(decor.WCSyncSpace), decor.AverageSpeed(decor.SizeB1024(0), " % .1f"),
				decor.AverageETA(decor.ET_STYLE_GO, decor.WCSyncSpace)))
	}
	m.bar.SetTotal(max(total, 0), false)
	m.bar.SetCurrent(done)
}

// figures is the width of the bar's figures, in columns of the terminal.
const figures = 58

// title returns the name of the copy, truncated at its beginning to leave room for the
// figures.
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

// line logs the progress. m.mu is held.
func (m *Meter) line(done, total int64) {
	if time.Since(m.last) < every {
		return
	}
	m.last = time.Now()
	text := fmt.Sprintf("Copying %s: %d bytes", m.called(), done)
	if total > 0 {
		text += fmt.Sprintf(" of %d (%d %%)", total, done*100/total)
	}
	m.Log.Info(text, "event", "progress", "bytes", done, "total", total)
}

// Resumed logs that a broken body is resumed.
func (m *Meter) Resumed(r httpretry.Resumption) {
	m.Log.Info(fmt.Sprintf("Resuming %s at byte %d", r.URL, r.Offset), "event", "resumed",
		"url", r.URL, "offset", r.Offset, "total", r.Total, "error", r.Break.Error())
}

// End removes the bar.
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
