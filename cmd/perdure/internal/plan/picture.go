package plan

import (
	"bytes"
	"image/color"
	"io"
	"strconv"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// pictured is how many attempts a picture shows at most.
const pictured = 40

// SVG writes the plan as a picture: for each attempt, from when to when it can
// begin, and the chance of success that the operation has by then.
func (p *Plan) SVG(w io.Writer) error {
	chart, err := p.chart()
	if err != nil {
		return err
	}
	height := 2.2 + 0.25*float64(len(p.pictured()))
	canvas := vgsvg.New(8*vg.Inch, vg.Length(height)*vg.Inch)
	all := draw.New(canvas)
	all.SetColor(color.White)
	all.Fill(all.Path())
	chart.Draw(draw.Crop(all, 10, -10, 10, -10))
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return err
	}
	// A reader without that font shall not see the letters of just any other.
	_, err = w.Write(bytes.ReplaceAll(b.Bytes(), []byte("Liberation Sans"), []byte("Liberation Sans,Arial,Helvetica,sans-serif")))
	return err
}

// pictured returns the attempts that a picture shows.
func (p *Plan) pictured() []Attempt { return p.Attempts[:min(len(p.Attempts), pictured)] }

// chart returns the picture before it is drawn.
func (p *Plan) chart() (*plot.Plot, error) {
	chart := plot.New()
	chart.Title.Text = p.Policy.Name + ": " + p.Title()
	chart.Title.Padding = vg.Points(8)
	chart.X.Label.Text = "time since the first attempt began"
	chart.Y.Label.Text = "attempt"
	chart.X.Padding, chart.Y.Padding = vg.Points(4), vg.Points(4)
	chart.X.Tick.Marker, chart.Y.Tick.Marker = plot.TickerFunc(times), plot.TickerFunc(numbers)
	chart.Legend.Padding = vg.Points(3)
	// Its texts stand to the right of its signs, so that they do not grow into
	// those in the font of another reader; only the first attempt is as low.
	chart.Legend.Left, chart.Legend.XOffs, chart.Legend.YOffs = true, vg.Points(265), vg.Points(8)
	chart.Legend.TextStyle.Font.Size = vg.Points(10)
	for _, style := range []*text.Style{
		&chart.Title.TextStyle, &chart.X.Label.TextStyle, &chart.Y.Label.TextStyle,
		&chart.X.Tick.Label, &chart.Y.Tick.Label, &chart.Legend.TextStyle,
	} {
		style.Font.Variant = "Sans"
	}
	grid := plotter.NewGrid()
	grid.Horizontal.Width = 0
	grid.Vertical.Color = color.Gray{0xdd}
	chart.Add(grid)
	if err := p.draw(chart); err != nil {
		return nil, err
	}
	chart.X.Min, chart.X.Max = 0, max(chart.X.Max*1.12, 1e-3) // room for the last label
	chart.Y.Min, chart.Y.Max = 0.4, float64(len(p.pictured()))+0.6
	return chart, nil
}

// draw adds the attempts: for each a bar from its earliest to its latest
// instant, a dot at the likely one, and the chance of success by then.
func (p *Plan) draw(chart *plot.Plot) error {
	var likely plotter.XYs
	var chances plotter.XYLabels
	for _, a := range p.pictured() {
		y, end := float64(a.Number), p.end(a)
		bar, err := plotter.NewLine(plotter.XYs{{X: a.Earliest.Seconds(), Y: y}, {X: end, Y: y}})
		if err != nil {
			return err
		}
		bar.Width, bar.Color = vg.Points(7), color.RGBA{R: 0x9e, G: 0xca, B: 0xe1, A: 0xff}
		chart.Add(bar)
		if a.Number == 1 {
			chart.Legend.Add("from the earliest to the latest", bar)
		}
		likely = append(likely, plotter.XY{X: a.Likely.Seconds(), Y: y})
		chances.XYs = append(chances.XYs, plotter.XY{X: end, Y: y})
		chances.Labels = append(chances.Labels, percent(a.Success))
	}
	dots, err := plotter.NewScatter(likely)
	if err != nil {
		return err
	}
	dots.Shape, dots.Radius, dots.Color = draw.CircleGlyph{}, vg.Points(3.5), color.RGBA{R: 0x08, G: 0x45, B: 0x94, A: 0xff}
	labels, err := plotter.NewLabels(chances)
	if err != nil {
		return err
	}
	labels.Offset = vg.Point{X: vg.Points(7)}
	for i := range labels.TextStyle {
		labels.TextStyle[i].Font.Variant = "Sans"
		labels.TextStyle[i].YAlign = text.YCenter
	}
	chart.Add(dots, labels)
	chart.Legend.Add("likely, and the chance of success by then", dots)
	return nil
}

// end is where the bar of an attempt ends: one that comes too late is not made.
func (p *Plan) end(a Attempt) float64 {
	if !a.InTime {
		return p.Policy.MaxElapsed.Seconds()
	}
	return a.Latest.Seconds()
}

// times are the ticks of an axis of seconds: at most 8, in steps that people
// count in.
func times(_, high float64) []plot.Tick {
	limit := time.Duration(high * float64(time.Second))
	step := time.Duration(1)
	for step < limit/8 {
		step = next(step)
	}
	var all []plot.Tick
	for at := time.Duration(0); at <= limit; at += step {
		all = append(all, plot.Tick{Value: at.Seconds(), Label: short(at)})
	}
	return all
}

// next returns the step after step: 1, 2, 5 and 10 of a unit up to 10 seconds,
// then what a clock shows.
func next(step time.Duration) time.Duration {
	for _, s := range []time.Duration{
		15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 15 * time.Minute,
		30 * time.Minute, time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour,
	} {
		if step >= 10*time.Second && s > step {
			return s
		}
	}
	first := step
	for first >= 10 {
		first /= 10
	}
	if first == 2 {
		return step / 2 * 5
	}
	return step * 2
}

// numbers are the ticks of an axis of attempts.
func numbers(low, high float64) []plot.Tick {
	var all []plot.Tick
	for n := int(low) + 1; float64(n) <= high; n++ {
		all = append(all, plot.Tick{Value: float64(n), Label: strconv.Itoa(n)})
	}
	return all
}
