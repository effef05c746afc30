package simulate

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/chart"
	"github.com/seed-0f2c7998/perdure/sim"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

// A page is what the template shows.
type page struct {
	Title    string
	CSS      template.CSS
	Faults   []string
	Load     string
	Columns  []string
	Charts   []template.HTML
	Policies []section
	Series   []string
	Terms    []term
}

// A section describes one policy.
type section struct {
	ID, Name, Verdict, Advice, Settings string
	Grade                               Grade
	Figures                             []string
	Charts                              []template.HTML
	Rows                                [][]string
}

type term struct{ Name, Meaning string }

// terms returns the meanings of the columns.
func terms() []term {
	return []term{
		{"lost", "Traffic that failed since the fault began, as time: 2 s means as many operations as arrive in 2 s."},
		{"failed", "Operations that failed, of all that arrived."},
		{"load in fault, load after", "Attempts per operation that reach the service, during the fault and after it."},
		{"wasted", "Part of the service's work since the fault began that was for callers that had given up."},
		{"recovery", "Time from the end of the fault until at least 95 % of operations succeed for 3 s."},
		{"p50, p99", "Duration of operations that succeeded: half, and 99 of 100, took at most this long."},
	}
}

// HTML writes the comparison as a page without scripts and other files.
func (c *Comparison) HTML(w io.Writer) error {
	p := page{
		Title: c.Scenario.Name, CSS: template.CSS(chart.CSS + pageCSS), //nolint:gosec // constants
		Faults: c.faults(), Load: c.load(), Columns: columns(), Terms: terms(),
	}
	for _, s := range allSeries() {
		p.Series = append(p.Series, s.name)
	}
	var err error
	if p.Charts, err = draw(c.overview()); err != nil {
		return err
	}
	d := c.drawing()
	for i, o := range c.Outcomes {
		s := section{
			ID: fmt.Sprintf("policy-%d", i+1), Name: o.Name, Verdict: o.Verdict.Text, Advice: c.advice(o), Settings: settings(o.Contender),
			Grade: o.Verdict.Grade, Figures: c.figures(o.Result), Rows: table(o.Result.Steps),
		}
		if s.Charts, err = draw(d.overTime(i)); err != nil {
			return err
		}
		p.Policies = append(p.Policies, s)
	}
	return template.Must(template.New("page").Parse(pageHTML)).Execute(w, p)
}

func draw(charts []chart.Chart) (all []template.HTML, err error) {
	for _, c := range charts {
		c.Width, c.Height = 350, 150
		svg, err := c.HTML()
		if err != nil {
			return nil, err
		}
		all = append(all, svg)
	}
	return all, nil
}

// settings returns the settings of a policy and its circuit breaker, in the form of a file.
func settings(c sim.Contender) string {
	if c.Library != "" {
		return "as that library does by default"
	}
	text := "policy: " + object(c.Policy)
	if c.Breaker != nil {
		text += " · circuit_breaker: " + object(c.Breaker)
	}
	return text
}

func object(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return strings.NewReplacer(`"`, "", ",", ", ", ":", ": ").Replace(string(text))
}

// overview returns the charts that compare the policies.
func (c *Comparison) overview() []chart.Chart {
	lost := chart.Chart{Title: "Traffic lost", X: chart.Axis{Time: true}, Y: chart.Axis{Title: "seconds of traffic"}}
	load := chart.Chart{Title: "Load in the fault", Y: chart.Axis{Title: "attempts for each operation"}}
	back := chart.Chart{Title: "Recovery", X: chart.Axis{Time: true}, Y: chart.Axis{Title: "time after the fault"}}
	longest := time.Second
	for _, o := range c.Outcomes {
		if o.Result.Recovery != sim.Never {
			longest = max(longest, o.Result.Recovery)
		}
	}
	for _, o := range c.Outcomes {
		r, figures := o.Result, c.figures(o.Result)
		lost.Rows = append(lost.Rows, chart.Row{Name: o.Name, To: r.Lost.Seconds(), Label: figures[0]})
		load.Rows = append(load.Rows, chart.Row{Name: o.Name, To: r.Amplification.During, Style: 2, Label: figures[2]})
		back.Rows = append(back.Rows, chart.Row{Name: o.Name, To: min(r.Recovery, longest*5/4).Seconds(), Style: 3, Label: figures[5]})
	}
	switch {
	case len(c.Scenario.Faults) == 0:
		return []chart.Chart{lost}
	case c.showsRecovery():
		return []chart.Chart{lost, load, back}
	default:
		return []chart.Chart{lost, load}
	}
}
