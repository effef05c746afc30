package plan

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/chart"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A Comparison holds the plans of several policies, each with a name.
type Comparison []*Plan

// Table writes the plans for people, one per line.
func (c Comparison) Table(w io.Writer) error {
	fmt.Fprintf(w, "Each attempt fails with a chance of %.4g %%\n\n", c[0].FailureRate*100)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "policy\tattempts\ttypical end\tworst\tsuccess\tload\tload in outage\tbudget\tgate\t")
	for _, p := range c {
		fmt.Fprintln(t, p.row())
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, p := range c {
		if len(p.Warnings) == 0 {
			continue
		}
		if _, err := fmt.Fprintf(w, "\n%s\n%s", p.Policy.Name, p.warnings()); err != nil {
			return err
		}
	}
	return nil
}

// row returns the line of a plan.
func (p *Plan) row() string {
	last := p.Attempts[len(p.Attempts)-1]
	mean, outage := p.Amplification()
	attempts, typical, worst, load := fmt.Sprint(p.Policy.Attempts()), short(last.Likely), short(p.Worst.Ends), fmt.Sprintf("%.0f", outage)
	if p.Policy.Attempts() == retry.Unlimited {
		attempts = "unlimited"
	}
	if p.Endless {
		typical, worst, load = "-", "-", "more than "+load
	}
	budget, gate := "-", "-"
	if b := p.Breaker; b != nil && b.Budget > 0 {
		budget = fmt.Sprintf("%g", b.Budget)
	}
	if b := p.Breaker; b != nil && b.Gate != circuit.NoGate {
		gate = b.Gate.String()
	}
	return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%.2f\t%s\t%s\t%s\t",
		p.Policy.Name, attempts, typical, worst, percent(p.Success()), mean, load, budget, gate)
}

// SVG writes a picture with the last attempt of each policy.
func (c Comparison) SVG(w io.Writer) error {
	picture := chart.Chart{
		Title: fmt.Sprintf("The last attempt, if each fails with a chance of %.4g %%", c[0].FailureRate*100),
		X:     chart.Axis{Title: "time since the first attempt began", Time: true},
		Y:     chart.Axis{Title: "policy"},
		Legend: []chart.Key{
			{Name: "begins from the earliest to the latest"},
			{Name: "likely, and the chance of success by then", Dot: true},
		},
	}
	for _, p := range c {
		last := p.Attempts[len(p.Attempts)-1]
		likely := last.Likely.Seconds()
		picture.Text += p.Policy.Name + ": " + p.Title() + ". "
		picture.Rows = append(picture.Rows, chart.Row{
			Name: p.Policy.Name, From: last.Earliest.Seconds(), To: max(p.Worst.Begins.Seconds(), likely), Dot: &likely, Label: percent(p.Success()),
		})
	}
	return picture.SVG(w)
}

// JSON writes each plan as one object in a line, like [Plan.JSON].
func (c Comparison) JSON(w io.Writer) error {
	for _, p := range c {
		if err := p.JSON(w); err != nil {
			return err
		}
	}
	return nil
}
