package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"
)

// A row is a measured scenario.
type row struct {
	name    string
	figures map[library]figure
}

// writeTable writes rows, two lines each: time and margin, then bytes and allocations. A library without a figure in
// any row has no column.
func writeTable(w io.Writer, rows []row) error {
	columns := shown(rows)
	lines := [][]string{{"ns a call over the bare call"}, {"bytes, allocations"}}
	for _, name := range columns {
		lines[0] = append(lines[0], string(name))
		lines[1] = append(lines[1], "")
	}
	for _, r := range rows {
		times, memory := []string{r.name}, []string{""}
		for _, name := range columns {
			t, m := r.text(name)
			times, memory = append(times, t), append(memory, m)
		}
		lines = append(lines, times, memory)
	}
	return writeAligned(w, lines)
}

// shown returns the libraries with a figure.
func shown(rows []row) []library {
	var columns []library
	for _, name := range libraries() {
		for _, r := range rows {
			if _, ok := r.figures[name]; ok {
				columns = append(columns, name)
				break
			}
		}
	}
	return columns
}

// text returns the two lines of a cell.
func (r row) text(name library) (times, memory string) {
	f, ok := r.figures[name]
	if !ok {
		return "-", ""
	}
	digits := 0
	if max(math.Abs(f.ns), f.margin) < 100 {
		digits = 1
	}
	return fmt.Sprintf("%.*f ±%.*f", digits, f.ns, digits, f.margin), fmt.Sprintf("%d B, %d", whole(f.bytes), whole(f.allocs))
}

func whole(f float64) int64 { return int64(math.Round(f)) }

// writeAligned writes lines with the first cell of each to the left and the others to the right.
func writeAligned(w io.Writer, lines [][]string) error {
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, line := range lines {
		for i, cell := range line {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				b.WriteString(cell + pad)
			} else {
				b.WriteString("  " + pad + cell)
			}
		}
		b.WriteString("\n")
	}
	// Lines end where their text does.
	for line := range strings.Lines(b.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}
