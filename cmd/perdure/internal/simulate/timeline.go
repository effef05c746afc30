package simulate

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/chart"
	"github.com/seed-0f2c7998/perdure/sim"
)

// A moment is some steps of a run together: their mean, in the unit of the series.
type moment struct {
	at                      time.Duration // the end
	offered, attempts, good float64       // a second
	queued, waiting         float64
	open, halfOpen          float64 // percent of the processes
	budget                  float64
	p50, p99                float64 // seconds; NaN if nothing succeeded
}

// A series is a figure over time, with its name in a table and in a picture.
type series struct {
	name, line, format string
	of                 func(m moment) float64
}

func allSeries() []series {
	return []series{
		{"time", "", "%.1f s", func(m moment) float64 { return m.at.Seconds() }},
		{"offered/s", "offered", "%.0f", func(m moment) float64 { return m.offered }},
		{"attempts/s", "attempts", "%.0f", func(m moment) float64 { return m.attempts }},
		{"succeeded/s", "succeeded", "%.0f", func(m moment) float64 { return m.good }},
		{"queued", "at the service", "%.0f", func(m moment) float64 { return m.queued }},
		{"waiting", "at the gate", "%.0f", func(m moment) float64 { return m.waiting }},
		{"open", "open", "%.0f %%", func(m moment) float64 { return m.open }},
		{"half-open", "half-open", "%.0f %%", func(m moment) float64 { return m.halfOpen }},
		{"budget", "tokens", "%.1f", func(m moment) float64 { return m.budget }},
		{"p50", "half of them (p50)", "%.3f s", func(m moment) float64 { return m.p50 }},
		{"p99", "99 of 100 (p99)", "%.3f s", func(m moment) float64 { return m.p99 }},
	}
}

// moments returns at most that many, up to the last step in which anything happened.
func moments(steps []sim.Counts, most int) []moment {
	end := len(steps)
	for end > 0 && quiet(steps[end-1]) {
		end--
	}
	every := max((end+most-1)/most, 1)
	var all []moment
	for from := 0; from < end; from += every {
		to := min(from+every, end)
		m := mean(steps[from:to])
		m.at = time.Duration(to) * sim.Step
		all = append(all, m)
	}
	return all
}

// quiet reports whether nothing happened in a step, and nothing is left to happen.
func quiet(c sim.Counts) bool {
	return c.Arrived == 0 && c.Attempts == 0 && c.Succeeded == 0 && c.Failed == 0 && c.Queued == 0
}

// mean returns some steps together. Of the latencies that are above 99 of 100 it is the highest.
func mean(steps []sim.Counts) moment {
	var m moment
	n, succeeded := float64(len(steps)), 0
	second := n * sim.Step.Seconds()
	for _, c := range steps {
		m.offered += float64(c.Arrived) / second
		m.attempts += float64(c.Attempts) / second
		m.good += float64(c.Succeeded) / second
		m.queued += float64(c.Queued) / n
		m.waiting += float64(c.Waiting) / n
		m.open += 100 * c.Open / n
		m.halfOpen += 100 * c.HalfOpen / n
		m.budget += c.Budget / n
		m.p50 += c.Latency.P50.Seconds() * float64(c.Succeeded)
		m.p99 = max(m.p99, c.Latency.P99.Seconds())
		succeeded += c.Succeeded
	}
	m.p50 /= float64(succeeded)
	if succeeded == 0 {
		m.p99 = math.NaN()
	}
	return m
}

// table returns the figures of the pictures.
func table(steps []sim.Counts) (rows [][]string) {
	for _, m := range moments(steps, 40) {
		var row []string
		for _, s := range allSeries() {
			text := "-"
			if x := s.of(m); !math.IsNaN(x) {
				text = fmt.Sprintf(s.format, x)
			}
			row = append(row, text)
		}
		rows = append(rows, row)
	}
	return rows
}

// overTime returns the charts of a policy. Those of all policies have the same axes.
func (c *Comparison) overTime(o Outcome) []chart.Chart {
	charts := []chart.Chart{
		c.lines(o, "Calls", "a second", "offered/s", "attempts/s", "succeeded/s"),
		c.lines(o, "Queues", "requests and operations that wait", "queued", "waiting"),
		c.lines(o, "Delay", "of the operations that succeed", "p50", "p99"),
	}
	for _, x := range []chart.Chart{
		c.lines(o, "Circuit breakers", "% of the processes", "open", "half-open"),
		c.lines(o, "Budget", "for retries, in each process", "budget"),
	} {
		if shows(x) {
			charts = append(charts, x)
		}
	}
	return charts
}

// shows reports whether anything in a chart is not 0.
func shows(x chart.Chart) bool {
	return slices.ContainsFunc(x.Lines, func(l chart.Line) bool {
		return slices.ContainsFunc(l.Points, func(p chart.Point) bool { return p.Y > 0 })
	})
}

// lines returns the chart of some series.
func (c *Comparison) lines(o Outcome, title, unit string, names ...string) chart.Chart {
	const (
		drawn    = 110  // moments
		headroom = 1.15 // for the name of a fault above the lines
	)
	x := chart.Chart{Title: title, Text: title + " of " + o.Name + " over time", X: chart.Axis{Time: true}, Y: chart.Axis{Title: unit, Time: title == "Delay"}}
	for _, s := range allSeries() {
		if !slices.Contains(names, s.name) {
			continue
		}
		line := chart.Line{Name: s.line}
		for _, m := range moments(o.Result.Steps, drawn) {
			line.Points = append(line.Points, chart.Point{X: m.at.Seconds(), Y: s.of(m)})
		}
		x.Lines = append(x.Lines, line)
		for _, other := range c.Outcomes {
			for _, m := range moments(other.Result.Steps, drawn) {
				x.X.Max = max(x.X.Max, m.at.Seconds())
				if y := s.of(m) * headroom; y > x.Y.Max {
					x.Y.Max = y
				}
			}
		}
	}
	for _, f := range c.Scenario.Faults {
		x.Bands = append(x.Bands, chart.Band{Name: f.Kind.String(), From: f.From.Seconds(), To: f.To.Seconds()})
	}
	return x
}
