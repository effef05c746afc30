package simulate

import (
	"fmt"
	"io"
	"log/slog"
	"time"
)

// A Progress tells how far a simulation has come, if that takes long.
type Progress struct {
	Terminal io.Writer // has a line that changes; nil means that there is none
	Log      *slog.Logger

	last time.Time // when it was told, or began
	line bool      // there is one on the terminal
}

// Tell is called often, with what is simulated, and with how much of all has been.
func (p *Progress) Tell(name string, part float64) {
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

// End takes the line away.
func (p *Progress) End() {
	if p.line {
		fmt.Fprint(p.Terminal, "\r\x1b[K")
	}
}
