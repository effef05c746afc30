package demo

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// A Screen is where the demo is watched.
type Screen struct {
	w      io.Writer
	color  bool
	phases int
	broken func(error) // called when it can't be written to; may be nil
}

// NewScreen returns a screen that writes to w, in color or not; nil is nowhere.
func NewScreen(w io.Writer, color bool) *Screen {
	if w == nil {
		w = io.Discard
	}
	return &Screen{w: w, color: color}
}

// What is shown how: terminal codes.
const (
	bold   = "1"
	dim    = "2"
	green  = "32"
	yellow = "33"
)

func (s *Screen) paint(code, text string) string {
	if !s.color || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s *Screen) line(format string, args ...any) {
	text := strings.TrimRight(fmt.Sprintf(format, args...), " ")
	if _, err := fmt.Fprintln(s.w, text); err != nil && s.broken != nil {
		s.broken(err)
	}
}

// A phase is a section of the screen.
type phase struct {
	screen *Screen
	began  time.Time
}

// phase begins one. What it is about may have several lines.
func (s *Screen) phase(title, about string) phase {
	s.phases++
	s.line("")
	s.line("%s", s.paint(bold, fmt.Sprintf("%d  %s", s.phases, title)))
	for text := range strings.SplitSeq(about, "\n") {
		s.line("   %s", text)
	}
	s.line("")
	return phase{s, time.Now()}
}

// end tells how it went.
func (p phase) end(format string, args ...any) {
	p.screen.line("   %s %s", p.screen.paint(green, "ok"), fmt.Sprintf(format, args...)+
		fmt.Sprintf(" (%.1f s)", time.Since(p.began).Seconds()))
}

// note is a remark between the events.
func (s *Screen) note(format string, args ...any) {
	s.line("   %s %s", s.paint(green, "->"), fmt.Sprintf(format, args...))
}

// event is a line as the command logs it, and beside it what it is about.
func (s *Screen) event(level, message, cause string) {
	text := level + ": " + message
	pad := ""
	if cause != "" {
		pad = strings.Repeat(" ", max(2, 58-len(text))) + cause
	}
	if level == "WARN" {
		text = s.paint(yellow, text)
	}
	s.line("   %s%s", text, s.paint(dim, pad))
}

// list writes the texts with commas between them, in lines that a narrow
// terminal can show.
func (s *Screen) list(texts []string) {
	line := ""
	for i, text := range texts {
		if i+1 < len(texts) {
			text += ","
		}
		if len(line)+1+len(text) > 60 {
			s.line("                %s", line)
			line = ""
		}
		line += " " + text
	}
	s.line("                %s", line)
}
