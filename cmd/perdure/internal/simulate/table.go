package simulate

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/seed-0f2c7998/perdure/sim"
)

// Table writes the comparison for people.
func (c *Comparison) Table(w io.Writer) error {
	fmt.Fprintf(w, "%s: %s\n%s\n\n", c.Scenario.Name, strings.Join(c.faults(), "; "), c.load())
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	width := len("policy")
	for _, o := range c.Outcomes {
		width = max(width, utf8.RuneCountInString(o.Name))
	}
	fmt.Fprintf(t, "%-*s\t%s\t\n", width, "policy", strings.Join(columns(), "\t"))
	for _, o := range c.Outcomes {
		fmt.Fprintf(t, "%-*s\t%s\t\n", width, o.Name, strings.Join(c.figures(o.Result), "\t"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	var b strings.Builder
	for _, o := range c.Outcomes {
		fmt.Fprintf(&b, "\n%s: %s.\n  %s.\n", o.Name, o.Verdict.Text, c.advice(o))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// columns returns the headings of the table after that of the policy.
func columns() []string {
	return []string{"lost", "failed", "load in fault", "load after", "wasted", "recovery", "p50", "p99"}
}

// figures returns the values of a result below columns.
func (c *Comparison) figures(r sim.Result) []string {
	during, after, recovery := fmt.Sprintf("%.2f×", r.Amplification.During), fmt.Sprintf("%.2f×", r.Amplification.After), seconds(r.Recovery)
	if len(c.Scenario.Faults) == 0 {
		during = "-"
	}
	if c.tail() <= 0 {
		after = "-"
	}
	if !c.showsRecovery() {
		recovery = "-"
	}
	return []string{
		seconds(r.Lost), percent(r.Failed, r.Operations), during, after,
		fmt.Sprintf("%.0f %%", 100*r.Wasted), recovery, short(r.Latency.P50), short(r.Latency.P99),
	}
}

// showsRecovery reports whether operations arrive for long enough after the faults to see the recovery.
func (c *Comparison) showsRecovery() bool {
	return len(c.Scenario.Faults) > 0 && c.tail() >= 3*time.Second
}

// tail returns how long operations arrive after the last fault; 0 or less if they end first.
func (c *Comparison) tail() time.Duration {
	tail := c.Scenario.Duration
	for _, f := range c.Scenario.Faults {
		tail = min(tail, c.Scenario.Duration-f.To)
	}
	return tail
}

// advice returns what to change in a policy, and the result of that change.
func (c *Comparison) advice(o Outcome) string {
	if o.Changed == nil {
		return o.Verdict.Advice
	}
	text := o.Verdict.Advice + ": it then loses " + seconds(o.Changed.Lost)
	switch {
	case worse(*o.Changed, o.Result):
		return text + ", which is worse: the " + cause(c.Scenario) + " causes the loss, not the policy"
	case !better(*o.Changed, o.Result):
		return text + ": the " + cause(c.Scenario) + " causes the loss, not the policy"
	case c.showsRecovery() && o.Changed.Recovery == sim.Never:
		return text + ", and does not recover, either"
	default:
		return text
	}
}

// worse reports whether a loses a tenth more than b, or does not recover while b does.
func worse(a, b sim.Result) bool {
	return a.Lost > b.Lost+max(b.Lost/10, sim.Step) || a.Recovery == sim.Never && b.Recovery != sim.Never
}

// better reports whether a result is by a tenth better than another, in loss, recovery or load.
func better(a, b sim.Result) bool {
	return a.Lost < b.Lost-b.Lost/10 || a.Recovery < b.Recovery-b.Recovery/10 || a.Amplification.During < 0.9*b.Amplification.During
}

// faults says what goes wrong.
func (c *Comparison) faults() []string {
	if len(c.Scenario.Faults) == 0 {
		return []string{"no fault"}
	}
	var all []string
	for _, f := range c.Scenario.Faults {
		text := meaning(f)
		if f.Shard > 0 && f.Kind <= sim.Errors {
			text += fmt.Sprintf(", in shard %d of %d", f.Shard, c.Scenario.Backend.Shards)
		}
		if f.To > f.From {
			text += fmt.Sprintf(", from %v to %v", f.From, f.To)
		} else {
			text += fmt.Sprintf(", at %v", f.From)
		}
		if f.Ramp > 0 && f.Kind <= sim.Fade {
			text += fmt.Sprintf(", and back to full capacity within %v", f.Ramp)
		}
		all = append(all, text)
	}
	return all
}

// meaning returns the description of a fault.
func meaning(f sim.Fault) string {
	part := fmt.Sprintf("%.4g %%", 100*f.Level)
	switch f.Kind {
	case sim.Outage:
		return "every request gets a 503"
	case sim.Crash:
		return "connections are refused, and queued requests are lost"
	case sim.BlackHole:
		return "no request gets a response"
	case sim.Brownout:
		return part + " of the capacity is left"
	case sim.Fade:
		return "the capacity fades to " + part
	case sim.Throttle:
		text := "requests beyond " + part + " of the capacity get a 429"
		if f.RetryAfter > 0 {
			text += fmt.Sprintf(" and Retry-After: %g", f.RetryAfter.Seconds())
		}
		return text
	case sim.Errors:
		return part + " of the requests fail with 500"
	case sim.Surge:
		return fmt.Sprintf("%.4g times as many operations arrive", f.Level)
	case sim.SlowNetwork:
		return fmt.Sprintf("the network takes %v longer", f.Delay)
	case sim.Stall:
		return part + " of the processes are suspended"
	case sim.Restart:
		return "all processes restart with empty memory"
	case sim.ClockStep:
		return fmt.Sprintf("the clock is set by %v", f.Delay)
	default:
		return f.Kind.String()
	}
}

// load returns the description of clients and backend.
func (c *Comparison) load() string {
	l, by, b := c.Scenario.Load, c.Scenario.Clients, c.Scenario.Backend
	calls := fmt.Sprintf("%.6g operations a second", l.Rate)
	if l.Clients > 0 {
		calls = fmt.Sprintf("%d clients in each process", l.Clients)
	}
	from := fmt.Sprintf("%d processes", by.Processes)
	if by.Processes <= 1 {
		from = "1 process"
	} else if by.Shared {
		from += " that share one state"
	}
	waits := "callers wait as long as it takes"
	if by.Deadline > 0 {
		waits = fmt.Sprintf("callers wait for %v", by.Deadline)
	}
	return fmt.Sprintf("%s from %s for %v; %s; %d workers of %v each; seed %d",
		calls, from, c.Scenario.Duration, waits, b.Workers, b.Service.Mean, c.Seed)
}

func percent(n, of int) string {
	if of == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", 100*float64(n)/float64(of))
}

// short returns a duration with the precision of the percentiles.
func short(d time.Duration) string {
	switch {
	case d == 0:
		return "-"
	case d < 10*time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	default:
		return d.Round(10 * time.Millisecond).String()
	}
}

// JSON writes the comparison as one object for each policy. Times are in seconds.
func (c *Comparison) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	for _, o := range c.Outcomes {
		r := o.Result
		object := map[string]any{
			"event": "simulation", "scenario": c.Scenario.Name, "seed": c.Seed, "policy": o.Name,
			"operations": r.Operations, "succeeded": r.Succeeded, "failed": r.Failed, "attempts": r.Attempts, "trips": r.Trips,
			"lost": r.Lost.Seconds(), "recovery": recovery(r), "wasted": r.Wasted, "latency": latency(r.Latency),
			"amplification": map[string]float64{"in_fault": r.Amplification.During, "after_fault": r.Amplification.After},
			"grade":         o.Verdict.Grade, "verdict": o.Verdict.Text, "advice": o.Verdict.Advice, "changed": nil,
			"steps": steps(r.Steps),
		}
		if o.Changed != nil {
			object["changed"] = map[string]any{"lost": o.Changed.Lost.Seconds(), "recovery": recovery(*o.Changed)}
		}
		if err := e.Encode(object); err != nil {
			return err
		}
	}
	return nil
}

// recovery returns the recovery in seconds; nil if there is no recovery.
func recovery(r sim.Result) *float64 {
	if r.Recovery == sim.Never {
		return nil
	}
	s := r.Recovery.Seconds()
	return &s
}

func latency(l sim.Latency) map[string]float64 {
	return map[string]float64{"mean": l.Mean.Seconds(), "p50": l.P50.Seconds(), "p99": l.P99.Seconds(), "max": l.Max.Seconds()}
}

// steps returns each figure over time, as a list.
func steps(all []sim.Counts) map[string]any {
	columns := map[string][]float64{}
	for _, c := range all {
		for name, x := range map[string]float64{
			"arrived": float64(c.Arrived), "attempts": float64(c.Attempts), "succeeded": float64(c.Succeeded), "failed": float64(c.Failed),
			"queued": float64(c.Queued), "waiting": float64(c.Waiting), "open": c.Open, "half_open": c.HalfOpen, "budget": c.Budget,
			"p50": c.Latency.P50.Round(time.Microsecond).Seconds(), "p99": c.Latency.P99.Round(time.Microsecond).Seconds(),
		} {
			columns[name] = append(columns[name], x)
		}
	}
	object := map[string]any{"seconds": sim.Step.Seconds()}
	for name, column := range columns {
		object[name] = column
	}
	return object
}
