// Package chart draws charts as SVG: lines over an axis of numbers or of time, and
// rows of bars. A chart needs no script, follows the reader's light or dark scheme,
// and is printed in the light scheme. Lines differ in dashes and in colour.
package chart

import (
	"bytes"
	_ "embed"
	"html/template"
	"io"
	"strings"
)

// A Chart shows rows, or lines if it has no rows. Texts may have any characters; long texts
// are truncated.
type Chart struct {
	Title string
	// Text describes the chart for screen readers; "" means the title.
	Text string
	// Width is the width of the chart in pixels; 0 means 720. At this width, text has at
	// least 12 pixels.
	Width int
	// Height is the height of the area of lines in pixels; 0 means 240. Rows ignore it.
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

// A Band is a shaded span of the x axis, such as the duration of a fault.
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

// Styles is the number of styles of lines.
const Styles = 8

// CSS is the style sheet for a page with inline charts.
//
//go:embed chart.css
var CSS string

//go:embed chart.svg
var source string

// SVG writes the chart as an SVG file.
func (c *Chart) SVG(w io.Writer) error {
	v := c.view()
	v.CSS = template.CSS(CSS) //nolint:gosec // a constant
	return write(w, v)
}

// HTML returns the chart as an element for a page with [CSS].
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
