package plan

import (
	"io"
	"strconv"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/chart"
)

// pictured is the maximum number of attempts in a picture.
const pictured = 40

// SVG writes the plan as a picture: for each attempt, when it can begin, and the chance of
// success until then.
func (p *Plan) SVG(w io.Writer) error {
	c := chart.Chart{
		Title: p.Policy.Name + ": " + p.Title(),
		Text:  p.summary(),
		X:     chart.Axis{Title: "time since the first attempt began", Time: true},
		Y:     chart.Axis{Title: "attempt"},
		Legend: []chart.Key{
			{Name: "from the earliest to the latest"},
			{Name: "likely, and the chance of success by then", Dot: true},
		},
	}
	for _, a := range p.Attempts[:min(len(p.Attempts), pictured)] {
		likely, latest := a.Likely.Seconds(), a.Latest.Seconds()
		if !a.InTime { // the attempt is not made after that
			latest = p.Policy.MaxElapsed.Seconds()
		}
		c.Rows = append(c.Rows, chart.Row{
			Name: strconv.Itoa(a.Number), From: a.Earliest.Seconds(), To: latest, Dot: &likely, Label: percent(a.Success),
		})
	}
	return c.SVG(w)
}
