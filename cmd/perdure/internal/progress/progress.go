// Package progress shows the progress of a copy.
package progress

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

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
	bar  *bar   // nil without a terminal
	end  func() // removes the bar

	mu    sync.Mutex
	note  string // after the name; guarded by mu, like the fields below
	now   amount
	begun time.Time // the first progress
	last  time.Time // of the last line, or the beginning
}

// An amount is how many bytes of a copy are done.
type amount struct {
	done, earlier int64 // earlier is part of done: bytes that this run has not transferred
	total         int64 // 0 or less is unknown
}

// New returns a Meter for a copy of that name.
func New(name string, log *slog.Logger) *Meter {
	return &Meter{Log: log, name: report.Line(name), last: time.Now()}
}

// Draw makes the meter draw a bar on the terminal. log returns a logger that writes to a
// writer: its lines appear above the bar.
func (m *Meter) Draw(terminal *os.File, log func(io.Writer) *slog.Logger) {
	m.bar = &bar{terminal: terminal, columns: func() int { return columns(terminal) }, text: m.figures}
	m.Log, m.end = log(m.bar), sync.OnceFunc(m.bar.end)
}

// Files shows the progress of many files.
func (m *Meter) Files(p tree.Progress) {
	note := fmt.Sprintf(" (%d of %d files)", p.Files, p.TotalFiles)
	if p.Listing { // there may be more
		note = fmt.Sprintf(" (%d of %d files so far, %d keys listed)", p.Files, p.TotalFiles, p.Keys)
	}
	m.show(note, amount{p.Bytes, p.Earlier, p.TotalBytes})
}

// Bytes shows how many bytes were transferred, how many of them by an earlier run, and of
// how many; a total of -1 is unknown.
func (m *Meter) Bytes(done, earlier, total int64) { m.show("", amount{done, earlier, total}) }

func (m *Meter) show(note string, now amount) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note, m.now = note, now
	if m.begun.IsZero() {
		m.begun = time.Now()
	}
	switch {
	case m.bar != nil:
		m.bar.begin()
	case time.Since(m.last) >= every:
		m.last = time.Now()
		m.Log.Info("Copying "+m.name+note+": "+now.text(time.Since(m.begun)), "event", "progress", "bytes", now.done, "earlier", now.earlier, "total", now.total)
	}
}

// figures returns what the bar shows.
func (m *Meter) figures() (name, figures string, part float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.name + m.note, m.now.text(time.Since(m.begun)), m.now.part()
}

// part returns the part that is done, or -1.
func (a amount) part() float64 {
	if a.total <= 0 {
		return -1
	}
	return min(1, float64(a.done)/float64(a.total))
}

// text returns the amount, and the speed and the time left by what this run has transferred
// since it began.
func (a amount) text(since time.Duration) string {
	text := report.Bytes(a.done)
	if a.total > 0 {
		text += fmt.Sprintf(" of %s (%.0f %%)", report.Bytes(a.total), 100*a.part())
	}
	moved := a.done - a.earlier
	if moved <= 0 || since < time.Second {
		return text
	}
	text += ", " + report.Rate(moved, since)
	if left := a.total - a.done; left > 0 {
		text += ", " + report.Span(time.Duration(min(float64(left)/float64(moved)*float64(since), 1<<62))) + " left"
	}
	return text
}

// Resumed logs that a broken body is resumed.
func (m *Meter) Resumed(r httpretry.Resumption) {
	m.Log.Info(fmt.Sprintf("Resuming %s at %s", r.URL, report.Bytes(r.Offset)), "event", "resumed",
		"url", r.URL, "offset", r.Offset, "total", r.Total, "error", r.Break.Error())
}

// End removes the bar. It may be called again.
func (m *Meter) End() {
	if m.end != nil {
		m.end()
	}
}
