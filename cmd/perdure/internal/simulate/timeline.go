package simulate

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/chart"
	"github.com/seed-0f2c7998/perdure/sim"
)

// A moment is the mean of some consecutive steps of a simulation.
type moment struct {
	at                      time.Duration // end of the last step
	offered, attempts, good float64       // per second
	queued, waiting         float64
	open, halfOpen          float64 // percent of the processes
	budget                  float64
	p50, p99                time.Duration // 0 if nothing succeeded
}

// A series is a figure over time, with its names in a table and in a picture.
type series struct {
	name, line, format string // "" is the format of seconds
	of                 func(m moment) float64
}

func allSeries() []series {
	return []series{
		{"time", "", "", func(m moment) float64 { return m.at.Seconds() }},
		{"offered/s", "offered", "%.0f", func(m moment) float64 { return m.offered }},
		{"attempts/s", "attempts", "%.0f", func(m moment) float64 { return m.attempts }},
		{"succeeded/s", "succeeded", "%.0f", func(m moment) float64 { return m.good }},
		{"queued", "at the service", "%.0f", func(m moment) float64 { return m.queued }},
		{"waiting", "at the gate", "%.0f", func(m moment) float64 { return m.waiting }},
		{"open", "open", "%.0f %%", func(m moment) float64 { return m.open }},
		{"half-open", "half-open", "%.0f %%", func(m moment) float64 { return m.halfOpen }},
		{"budget", "tokens", "%.1f", func(m moment) float64 { return m.budget }},
		{"p50", "half of them (p50)", "", func(m moment) float64 { return known(m.p50) }},
		{"p99", "99 of 100 (p99)", "", func(m moment) float64 { return known(m.p99) }},
	}
}

// known returns a duration in seconds, or NaN for 0.
func known(d time.Duration) float64 {
	if d == 0 {
		return math.NaN()
	}
	return d.Seconds()
}

// moments returns at most most moments, up to the last step in which anything happened.
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

// quiet reports whether nothing happened in a step, and nothing is queued or waiting.
func quiet(c sim.Counts) bool {
	return c.Arrived == 0 && c.Attempts == 0 && c.Succeeded == 0 && c.Failed == 0 && c.Queued == 0
}

// mean returns the mean of steps; p99 is the highest of theirs.
func mean(steps []sim.Counts) moment {
	var m moment
	n, succeeded, p50 := float64(len(steps)), 0, 0.0
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
		p50 += float64(c.Latency.P50) * float64(c.Succeeded)
		m.p99 = max(m.p99, c.Latency.P99)
		succeeded += c.Succeeded
	}
	m.p50 = time.Duration(p50 / float64(max(succeeded, 1)))
	return m
}

// table returns the figures of the pictures.
func table(steps []sim.Counts) (rows [][]string) {
	for _, m := range moments(steps, 40) {
		var row []string
		for _, s := range allSeries() {
			text := "-"
			switch x := s.of(m); {
			case math.IsNaN(x):
			case s.format == "":
				text = short(time.Duration(x * float64(time.Second)))
			default:
				text = fmt.Sprintf(s.format, x)
			}
			row = append(row, text)
		}
		rows = append(rows, row)
	}
	return rows
}

// A drawing holds the moments of all outcomes, so that all charts have the same axes.
type drawing struct {
	*Comparison

	moments [][]moment // of each outcome
}

func (c *Comparison) drawing() drawing {
	d := drawing{Comparison: c}
	for _, o := range c.Outcomes {
		d.moments = append(d.moments, moments(o.Result.Steps, 110))
	}
	return d
}

// overTime returns the charts of outcome n.
func (d drawing) overTime(i int) []chart.Chart {
	charts := []chart.Chart{
		d.lines(i, "Calls", "a second", "offered/s", "attempts/s", "succeeded/s"),
		d.lines(i, "Queues", "requests and operations that wait", "queued", "waiting"),
		d.lines(i, "Delay", "of the operations that succeed", "p50", "p99"),
	}
	for _, x := range []chart.Chart{
		d.lines(i, "Circuit breakers", "% of the processes", "open", "half-open"),
		d.lines(i, "Budget", "for retries, in each process", "budget"),
	} {
		if shows(x) {
			charts = append(charts, x)
		}
	}
	return charts
}

// shows reports whether a chart has a value that is not 0.
func shows(x chart.Chart) bool {
	return slices.ContainsFunc(x.Lines, func(l chart.Line) bool {
		return slices.ContainsFunc(l.Points, func(p chart.Point) bool { return p.Y > 0 })
	})
}

// lines returns the chart of some series of one outcome.
func (d drawing) lines(i int, title, unit string, names ...string) chart.Chart {
	const headroom = 1.15 // for the name of a fault above the lines
	x := chart.Chart{
		Title: title, Text: title + " of " + d.Outcomes[i].Name + " over time",
		X: chart.Axis{Time: true}, Y: chart.Axis{Title: unit},
	}
	for _, s := range allSeries() {
		if !slices.Contains(names, s.name) {
			continue
		}
		x.Y.Time = s.format == ""
		line := chart.Line{Name: s.line}
		for _, m := range d.moments[i] {
			line.Points = append(line.Points, chart.Point{X: m.at.Seconds(), Y: s.of(m)})
		}
		x.Lines = append(x.Lines, line)
		for _, m := range slices.Concat(d.moments...) {
			x.X.Max = max(x.X.Max, m.at.Seconds())
			if y := s.of(m) * headroom; y > x.Y.Max {
				x.Y.Max = y
			}
		}
	}
	for _, f := range d.Scenario.Faults {
		x.Bands = append(x.Bands, chart.Band{Name: f.Kind.String(), From: f.From.Seconds(), To: f.To.Seconds()})
	}
	return x
}
