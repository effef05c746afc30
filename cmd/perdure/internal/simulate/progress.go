package simulate

import (
	"fmt"
	"io"
	"log/slog"
	"time"
)

// A Progress reports the progress of a long simulation.
type Progress struct {
	Terminal io.Writer // shows one line, which is updated; nil means log lines
	Log      *slog.Logger

	last time.Time // of the last report, or the beginning
	line bool      // the terminal shows a line
}

// Report shows what is simulated and which part of the whole simulation is done: on a
// terminal each half second, else each 10 seconds.
func (p *Progress) Report(name string, part float64) {
	every := 10 * time.Second
	if p.Terminal != nil {
		every = time.Second / 2
	}
	now := time.Now()
	if p.last.IsZero() {
		p.last = now
	}
	if now.Sub(p.last) < every {
		return
	}
	p.last = now
	text := fmt.Sprintf("Simulating %s: %.0f %%", name, 100*part)
	if p.Terminal == nil {
		p.Log.Info(text, "event", "progress", "policy", name, "part", part)
		return
	}
	p.line = true
	fmt.Fprintf(p.Terminal, "\r\x1b[K%s", text)
}

// End clears the line.
func (p *Progress) End() {
	if p.line {
		fmt.Fprint(p.Terminal, "\r\x1b[K")
	}
}
