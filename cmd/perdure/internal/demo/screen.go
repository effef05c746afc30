package demo

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// A Screen shows the demo.
type Screen struct {
	w      io.Writer
	color  bool
	phases int
	broken func(error) // called if w cannot be written to; may be nil
}

// NewScreen returns a screen that writes to w, with or without color. If w is nil, nothing
// is shown.
func NewScreen(w io.Writer, color bool) *Screen {
	if w == nil {
		w = io.Discard
	}
	return &Screen{w: w, color: color}
}

// Terminal codes.
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

// steps is the number of phases.
const steps = 4

// phase begins a phase. about may have several lines.
func (s *Screen) phase(title, about string) phase {
	s.phases++
	s.line("")
	s.line("%s", s.paint(bold, fmt.Sprintf("Step %d of %d: %s", s.phases, steps, title)))
	for text := range strings.SplitSeq(about, "\n") {
		s.line("   %s", text)
	}
	s.line("")
	return phase{s, time.Now()}
}

// end shows the result of a phase and how long it took.
func (p phase) end(format string, args ...any) {
	p.screen.line("   %s %s", p.screen.paint(green, "ok"), fmt.Sprintf(format, args...)+
		fmt.Sprintf(" (%.1f s)", time.Since(p.began).Seconds()))
}

// note shows a remark between the events.
func (s *Screen) note(format string, args ...any) {
	s.line("   %s %s", s.paint(green, "->"), fmt.Sprintf(format, args...))
}

// event shows a line as the command logs it, and its cause beside it.
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

// text shows a sentence, in lines for a narrow terminal.
func (s *Screen) text(text string) { s.wrapped("  ", 78, strings.Fields(text)) }

// list shows texts separated by commas, in lines for a narrow terminal.
func (s *Screen) list(texts []string) {
	items := slices.Clone(texts)
	for i := range len(items) - 1 {
		items[i] += ","
	}
	s.wrapped(strings.Repeat(" ", 16), 60, items)
}

// wrapped shows items, each after a space, in lines of so many columns after the indent.
func (s *Screen) wrapped(indent string, columns int, items []string) {
	line := ""
	for _, item := range items {
		if len(line)+1+len(item) > columns {
			s.line("%s%s", indent, line)
			line = ""
		}
		line += " " + item
	}
	s.line("%s%s", indent, line)
}
