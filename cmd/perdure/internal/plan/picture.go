package plan

import (
	"bytes"
	"fmt"
	"image/color"
	"io"
	"math"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// SVG writes the plan as a picture: for each attempt, from when to when it can
// begin, and the chance of success that the operation has by then.
func (p *Plan) SVG(w io.Writer) error {
	chart := plot.New()
	chart.Title.Text = p.Policy.Name + ": " + p.Title()
	chart.Title.Padding = vg.Points(10)
	chart.X.Label.Text = "seconds since the first attempt began"
	chart.Y.Label.Text = "chance of success by then (%)"
	chart.Y.Min, chart.Y.Max = 0, 100
	chart.X.Tick.Marker = ticks{chart.X.Tick.Marker}
	sans(chart)

	grid := plotter.NewGrid()
	grid.Horizontal.Color, grid.Vertical.Color = faint(), faint()
	chart.Add(grid)
	if err := p.draw(chart); err != nil {
		return err
	}
	chart.X.Min = 0
	chart.X.Max = math.Max(chart.X.Max*1.03, 1e-3)

	canvas := vgsvg.New(8*vg.Inch, 4.5*vg.Inch)
	chart.Draw(draw.New(canvas))
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return err
	}
	// A reader without that font shall not see another one's letters in its place.
	_, err := w.Write(bytes.ReplaceAll(b.Bytes(), []byte("Liberation Sans"), []byte("Liberation Sans,Arial,Helvetica,sans-serif")))
	return err
}

// draw adds the attempts: a step of the chance at each, a bar from its
// earliest to its latest instant, and a dot with its number at the likely one.
func (p *Plan) draw(chart *plot.Plot) error {
	var steps, dots plotter.XYs
	var numbers []string
	before := 0.0
	for i, a := range p.Attempts {
		at, chance := a.Likely.Seconds(), a.Success*100
		steps = append(steps, plotter.XY{X: at, Y: before}, plotter.XY{X: at, Y: chance})
		dots = append(dots, plotter.XY{X: at, Y: chance})
		numbers = append(numbers, number(i, len(p.Attempts)))
		before = chance
		bar, err := plotter.NewLine(plotter.XYs{{X: a.Earliest.Seconds(), Y: chance}, {X: p.end(a), Y: chance}})
		if err != nil {
			return err
		}
		bar.Width, bar.Color = vg.Points(5), color.RGBA{R: 0x9e, G: 0xca, B: 0xe1, A: 0xff}
		chart.Add(bar)
		if i == 0 {
			chart.Legend.Add("from the earliest to the latest", bar)
		}
	}
	line, points, err := plotter.NewLinePoints(steps)
	if err != nil {
		return err
	}
	line.Width, line.Color = vg.Points(1.2), strong()
	points.XYs = dots
	points.Shape, points.Radius, points.Color = draw.CircleGlyph{}, vg.Points(3), strong()
	labels, err := plotter.NewLabels(plotter.XYLabels{XYs: dots, Labels: numbers})
	if err != nil {
		return err
	}
	labels.Offset = vg.Point{X: vg.Points(4), Y: vg.Points(-12)}
	for i := range labels.TextStyle {
		labels.TextStyle[i].Font.Variant = "Sans"
	}
	chart.Add(line, points, labels)
	chart.Legend.Add("likely, with the attempt's number", line, points)
	return nil
}

// end is where the bar of an attempt ends: what comes too late is not made.
func (p *Plan) end(a Attempt) float64 {
	if !a.InTime {
		return p.Policy.MaxElapsed.Seconds()
	}
	return a.Latest.Seconds()
}

// number is the label of an attempt: of very many, only some have one.
func number(i, of int) string {
	if i > 8 && i < of-1 || i == of-1 && of > 100 {
		return ""
	}
	return strconv.Itoa(i + 1)
}

// sans sets all texts in a font without serifs, and the legend where the curve
// does not come.
func sans(chart *plot.Plot) {
	for _, style := range []*draw.TextStyle{
		&chart.Title.TextStyle, &chart.X.Label.TextStyle, &chart.Y.Label.TextStyle,
		&chart.X.Tick.Label, &chart.Y.Tick.Label, &chart.Legend.TextStyle,
	} {
		style.Font.Variant = "Sans"
	}
	chart.Legend.Left, chart.Legend.Top = false, false
	chart.Legend.Padding = vg.Points(3)
	chart.Legend.XOffs, chart.Legend.YOffs = vg.Points(-8), vg.Points(8)
}

func faint() color.Color  { return color.Gray{0xe6} }
func strong() color.Color { return color.RGBA{R: 0x08, G: 0x45, B: 0x94, A: 0xff} }

// ticks writes numbers without an exponent.
type ticks struct{ plot.Ticker }

func (t ticks) Ticks(low, high float64) []plot.Tick {
	all := t.Ticker.Ticks(low, high)
	for i := range all {
		if all[i].Label != "" {
			all[i].Label = fmt.Sprint(math.Round(all[i].Value*1e6) / 1e6)
		}
	}
	return all
}
