package progress

import (
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
	"golang.org/x/text/width"
)

// redraw is the time between two drawings of a bar.
const redraw = 200 * time.Millisecond

// A bar is one line at the end of a terminal, which is drawn again and again. It has no escape
// sequences and no line break: the cursor stays in the line, so what the terminal echoes there,
// such as ^C, is overwritten. What is written to a bar appears above it.
type bar struct {
	terminal io.Writer
	columns  func() int
	text     func() (name, figures string, part float64) // part is less than 0 if it is unknown

	once  sync.Once // begins the drawing, unless it has ended
	done  chan struct{}
	draws sync.WaitGroup
	mu    sync.Mutex // held while something is written
	shown string     // the line on the terminal, or ""
	drawn int        // its columns
}

// begin draws the bar until it ends. It does not wait for the terminal.
func (b *bar) begin() {
	b.once.Do(func() {
		b.done = make(chan struct{})
		b.draws.Go(func() {
			ticker := time.NewTicker(redraw)
			defer ticker.Stop()
			for {
				b.draw()
				select {
				case <-ticker.C:
				case <-b.done:
					return
				}
			}
		})
	})
}

// end removes the bar. Afterwards it is not drawn again. It is called once.
func (b *bar) end() {
	b.once.Do(func() {})
	if b.done == nil {
		return
	}
	close(b.done)
	b.draws.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	_, _ = io.WriteString(b.terminal, b.cleared())
	b.shown, b.drawn = "", 0
}

// Write writes lines above the bar, and the bar again in the same call: the cursor is never at the
// beginning of an empty line, where an echoed ^C would stay in front of the next text.
func (b *bar) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, err := io.WriteString(b.terminal, b.cleared()+string(p)+b.shown); err != nil {
		return 0, err
	}
	return len(p), nil
}

// cleared returns what removes the line. b.mu is held.
func (b *bar) cleared() string {
	if b.drawn == 0 {
		return ""
	}
	return "\r" + strings.Repeat(" ", b.drawn) + "\r"
}

// draw draws the line, and leaves the cursor at the end of its text: two ^C have room there.
func (b *bar) draw() {
	name, figures, part := b.text()
	b.mu.Lock()
	defer b.mu.Unlock()
	room := max(b.columns()-1, 10)
	text := line(name, figures, part, room-4)
	b.shown = "\r" + text + strings.Repeat(" ", room-columnsOf(text)) + "\r" + text
	b.drawn = room
	_, _ = io.WriteString(b.terminal, b.shown)
}

// The columns of the parts of a line.
const (
	figuresRoom = 52
	leastName   = 8
	leastBar    = 10
	mostBar     = 40
)

// line returns the line in at most room columns: the name, truncated at its beginning, a bar if
// there is room, and the figures.
func line(name, figures string, part float64, room int) string {
	name = tail(name, max(room-figuresRoom, leastName))
	text := name + " "
	if size := min(room-figuresRoom-columnsOf(text)-3, mostBar); part >= 0 && size >= leastBar {
		full := int(part * float64(size))
		text += "[" + strings.Repeat("=", full) + strings.Repeat(" ", size-full) + "] "
	}
	return head(text+figures, room)
}

// tail returns the end of text in at most room columns.
func tail(text string, room int) string {
	size, runes := columnsOf(text), []rune(text)
	if size <= room {
		return text
	}
	for size > room-1 {
		size -= columnsOf(string(runes[:1]))
		runes = runes[1:]
	}
	return "…" + string(runes)
}

// head returns the beginning of text in at most room columns.
func head(text string, room int) string {
	for i, r := range text {
		if room -= columnsOf(string(r)); room < 0 {
			return text[:i]
		}
	}
	return text
}

// columnsOf returns how many columns of a terminal text takes.
func columnsOf(text string) (n int) {
	for _, r := range text {
		n++
		if kind := width.LookupRune(r).Kind(); kind == width.EastAsianWide || kind == width.EastAsianFullwidth {
			n++
		}
	}
	return n
}

// columns returns the width of a terminal.
func columns(terminal *os.File) int {
	if n, _, err := term.GetSize(int(terminal.Fd())); err == nil && n > 0 {
		return n
	}
	return 80
}
