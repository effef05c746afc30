// Package chart draws charts as SVG: lines over an axis of numbers or of time, and
// rows of bars. A chart needs no script, follows the reader's light or dark scheme,
// and is printed in the light one; lines differ in their dashes, too, not in colour alone.
package chart

import (
	"bytes"
	_ "embed"
	"html/template"
	"io"
	"strings"
)

// A Chart is lines, or rows if there are any. Texts may hold any characters; those
// that are too long for their place are cut.
type Chart struct {
	Title string
	// Text is what the chart shows, for readers who do not see it; "" means the
	// title alone.
	Text string
	// Width is that of the chart in pixels; 0 means 720. At this width no text is
	// smaller than 12 pixels.
	Width int
	// Height is that of the area of the lines in pixels; 0 means 240. Rows need
	// what they need.
	Height int

	X Axis
	Y Axis // of rows, only its title is shown

	Lines []Line
	Bands []Band
	Rows  []Row
	// Legend explains the styles of rows; lines explain themselves.
	Legend []Key
}

// An Axis begins at 0.
type Axis struct {
	Title string
	Max   float64 // 0 or less means the largest value that is shown
	Time  bool    // values are seconds
}

// A Line connects points from left to right.
type Line struct {
	Name   string
	Style  int // colour and dashes, from 1 to Styles; 0 means that of its position in Lines
	Points []Point
}

// A Point is a value of a line. One that is not a finite number leaves a gap.
type Point struct{ X, Y float64 }

// A Band is a span of the x axis that is shaded, as the time of a fault.
type Band struct {
	Name     string
	From, To float64
}

// A Row is a bar, with a name at its left and a label at its right.
type Row struct {
	Name     string
	Style    int // as a Line's; 0 means 1
	From, To float64
	Dot      *float64 // a dot on the bar; nil means none
	Label    string
}

// A Key is an entry of the legend of rows.
type Key struct {
	Name  string
	Style int  // as a Line's; 0 means 1
	Dot   bool // it explains the dots, not the bars
}

// Styles is how many styles of lines there are.
const Styles = 8

// CSS is the style sheet of a page that has charts inline.
//
//go:embed chart.css
var CSS string

//go:embed chart.svg
var source string

// SVG writes the chart as a file of its own.
func (c *Chart) SVG(w io.Writer) error {
	v := c.view()
	v.CSS = template.CSS(CSS) //nolint:gosec // a constant
	return write(w, v)
}

// HTML returns the chart as an element of a page, which must have [CSS].
func (c *Chart) HTML() (template.HTML, error) {
	var b strings.Builder
	err := write(&b, c.view())
	return template.HTML(b.String()), err //nolint:gosec // escaped by the template
}

// write writes all of the chart, or nothing.
func write(w io.Writer, v *view) error {
	drawing := template.Must(template.New("chart").Parse(source)) // here: most commands draw nothing
	var b bytes.Buffer
	if err := drawing.Execute(&b, v); err != nil {
		return err
	}
	_, err := b.WriteTo(w)
	return err
}
