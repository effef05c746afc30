package simulate

import (
	"io"
	"strings"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/chart"
)

// SVG writes a picture of the operations that succeed over time, with a line per policy.
func (c *Comparison) SVG(w io.Writer) error {
	x := c.drawing().goodput()
	return x.SVG(w)
}

// goodput returns the chart of the operations that succeed with each policy. The name of a line has the loss.
func (d drawing) goodput() chart.Chart {
	title := d.Scenario.Name
	if len(d.Scenario.Faults) > 0 {
		title += ": " + strings.Join(d.faults(), "; ")
	}
	x := chart.Chart{
		Title: title, Text: "Operations that succeed, over time, with each policy; and the traffic that is lost",
		X: chart.Axis{Time: true, Max: d.Scenario.Duration.Seconds()}, Y: chart.Axis{Title: "operations a second that succeed"},
	}
	for i, o := range d.Outcomes {
		line := chart.Line{Name: o.Name + ": " + seconds(o.Result.Lost) + " lost"}
		for _, m := range d.moments[i] {
			if m.at <= d.Scenario.Duration {
				line.Points = append(line.Points, chart.Point{X: m.at.Seconds(), Y: m.good})
			}
		}
		x.Lines = append(x.Lines, line)
	}
	for _, f := range d.Scenario.Faults {
		x.Bands = append(x.Bands, chart.Band{Name: f.Kind.String(), From: f.From.Seconds(), To: f.To.Seconds()})
	}
	return x
}
