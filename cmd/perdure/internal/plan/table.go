package plan

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/report"
	"github.com/seed-0f2c7998/perdure/internal/gate"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/retry"
)

// rows is the maximum number of attempts in a table.
const rows = 24

// Table writes the plan for people.
func (p *Plan) Table(w io.Writer) error {
	fmt.Fprintf(w, "%s: %s\n\n", p.Policy.Name, p.Title())
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "attempt\tceiling\twait\tearliest\tlikely\tlatest\tsuccess by then\t")
	for i, a := range p.Attempts {
		switch {
		case i < rows-2 || i == len(p.Attempts)-1 && !p.Endless || len(p.Attempts) <= rows:
			fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t\n", a.Number, ceiling(a), wait(a),
				short(a.Earliest), short(a.Likely), latest(a), percent(a.Success))
		case i == rows-2:
			fmt.Fprintln(t, "...\t\t\t\t\t\t\t")
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s%s%s%s", p.summary(), p.limits(), p.gate(), p.warnings())
	return err
}

// gate returns the lines about the gate, if there is one.
func (p *Plan) gate() string {
	if p.Breaker == nil {
		return ""
	}
	text := "Gate     after 5 overloads or 10 failures in a row, or fewer if it has seen few calls, it admits attempts at the rate that the service can handle;\n"
	switch p.Breaker.Gate {
	case circuit.Wait:
		text += fmt.Sprintf("         the others wait until their deadline, at most %s\n", short(p.GateWait))
	case circuit.FailFast:
		text += "         the others are refused at once\n"
	case circuit.NoGate:
		return ""
	}
	if t := p.Policy.AttemptTimeout; t > 0 {
		return text + fmt.Sprintf("         an attempt that times out after %s counts as an overload\n", short(t))
	}
	return text + fmt.Sprintf("         an attempt that takes %s, and eight times as long as usual, counts as an overload; an attempt_timeout notices it sooner\n", short(gate.LateAfter(p.GateWait, 0)))
}

// warnings returns two lines for each warning.
func (p *Plan) warnings() (text string) {
	for _, w := range p.Warnings {
		text += fmt.Sprintf("\nWarning  %s is %s: %s.\n         %s.\n", w.Field, w.Value, w.Why, w.Do)
	}
	return text
}

// Title returns the policy in one line.
func (p *Plan) Title() string {
	text := report.Count(p.Policy.Attempts(), "attempt", "attempts")
	if p.Policy.Attempts() == retry.Unlimited {
		text = "unlimited attempts"
	}
	if p.Policy.MaxElapsed > 0 {
		text += " within " + short(p.Policy.MaxElapsed)
	}
	return fmt.Sprintf("%s, each fails with a chance of %.4g %%", text, p.FailureRate*100)
}

// summary returns the lines about all attempts.
func (p *Plan) summary() string {
	last := p.Attempts[len(p.Attempts)-1]
	mean, outage := p.Amplification()
	if p.Endless {
		return p.beyond(mean)
	}
	text := fmt.Sprintf("Typical  %s after %s (%v)\n", short(last.Likely), report.Count(len(p.Attempts), "attempt", "attempts"), reason(p.Stop))
	text += fmt.Sprintf("Worst    %s with %s", short(p.Worst.Ends), report.Count(p.Worst.Attempts, "attempt", "attempts"))
	if p.Policy.AttemptTimeout > 0 {
		text += fmt.Sprintf(", each taking its %s\n", short(p.Policy.AttemptTimeout))
	} else {
		text += ", plus the time that they take (no attempt_timeout)\n"
	}
	text += fmt.Sprintf("Success  %s\nLoad     %.2f attempts per operation; %.0f while everything fails\n",
		percent(p.Success()), mean, outage)
	if p.Budget != nil {
		budgeted := "1 retry"
		if p.Budget.Fresh != 1 {
			budgeted = fmt.Sprintf("%d retries", p.Budget.Fresh)
		}
		text += fmt.Sprintf("Budget   covers %s when new, %d when full\n",
			budgeted, p.Budget.Full)
	}
	return text
}

// limits returns the lines about limits of all operations.
func (p *Plan) limits() (text string) {
	if p.Breaker == nil {
		return ""
	}
	if rate := p.Breaker.Rate; rate > 0 {
		text = fmt.Sprintf("Rate     at most %s, and %d at once\n", setting.RateText(rate), max(p.Breaker.Burst, 1))
	}
	if n := p.Breaker.Concurrency; n > 0 {
		text += fmt.Sprintf("Limit    at most %d in flight\n", n)
	}
	return text
}

// beyond returns the summary of an endless plan.
func (p *Plan) beyond(mean float64) string {
	text, outage := "It retries until it succeeds: nothing else ends it.\n", "unlimited"
	if p.Policy.Attempts() != retry.Unlimited || p.Policy.MaxElapsed > 0 {
		text, outage = fmt.Sprintf("It makes more than %d attempts, the most that a plan counts.\n", maxAttempts), fmt.Sprintf("more than %d", maxAttempts)
	}
	if p.FailureRate == 1 {
		return text + "Load     " + outage + " attempts per operation\n"
	}
	return text + fmt.Sprintf("Load     %.2f attempts per operation; %s while everything fails\n", mean, outage)
}

// JSON writes the plan as one object, with durations in seconds. The circuit
// breaker's settings are given as they are: a plan is of one operation, which
// does not know how the others fare.
func (p *Plan) JSON(w io.Writer) error {
	type attempt struct {
		Number   int     `json:"attempt"`
		Ceiling  float64 `json:"ceiling"`
		Shortest float64 `json:"wait_min"`
		Longest  float64 `json:"wait_max"`
		Earliest float64 `json:"earliest"`
		Likely   float64 `json:"likely"`
		Latest   float64 `json:"latest"`
		InTime   bool    `json:"latest_in_time"`
		Success  float64 `json:"success"`
	}
	attempts := make([]attempt, len(p.Attempts))
	for i, a := range p.Attempts {
		attempts[i] = attempt{
			a.Number, a.Ceiling.Seconds(), a.Shortest.Seconds(), a.Longest.Seconds(),
			a.Earliest.Seconds(), a.Likely.Seconds(), a.Latest.Seconds(), a.InTime, a.Success,
		}
	}
	mean, outage := p.Amplification()
	stop := ""
	if p.Stop != nil {
		stop = reason(p.Stop)
	}
	object := map[string]any{
		"event": "plan", "policy": p.Policy, "circuit_breaker": p.Breaker, "failure_rate": p.FailureRate,
		"attempts": attempts, "endless": p.Endless, "stop": stop, "success": p.Success(),
		"worst":         map[string]any{"attempts": p.Worst.Attempts, "begins": p.Worst.Begins.Seconds(), "ends": p.Worst.Ends.Seconds()},
		"amplification": map[string]any{"mean": mean, "outage": outage},
	}
	if len(p.Warnings) > 0 {
		object["warnings"] = p.Warnings
	}
	if p.Budget != nil {
		object["budget"] = map[string]any{"fresh": p.Budget.Fresh, "full": p.Budget.Full}
	}
	return json.NewEncoder(w).Encode(object)
}

func ceiling(a Attempt) string {
	if a.Number == 1 {
		return "-"
	}
	return short(a.Ceiling)
}

func wait(a Attempt) string {
	switch {
	case a.Number == 1:
		return "-"
	case a.Shortest == a.Longest:
		return short(a.Longest)
	default:
		return short(a.Shortest) + " to " + short(a.Longest)
	}
}

func latest(a Attempt) string {
	if !a.InTime {
		return "too late"
	}
	return short(a.Latest)
}

// reason returns why no attempt follows.
func reason(err error) string {
	if errors.Is(err, retry.ErrDeadline) {
		return "max_elapsed"
	}
	return err.Error()
}

// short returns a duration rounded for a reader.
func short(d time.Duration) string {
	for _, r := range []struct{ from, to time.Duration }{
		{time.Minute, 100 * time.Millisecond}, {time.Second, 10 * time.Millisecond}, {time.Millisecond, 10 * time.Microsecond},
	} {
		if d >= r.from {
			d = d.Round(r.to)
			break
		}
	}
	return setting.DurationText(d)
}

// percent returns a chance in percent, with enough digits to differ from 100 %.
func percent(chance float64) string {
	if chance > 0.99999 && chance < 1 {
		return ">99.999 %"
	}
	digits := 1
	for rest := (1 - chance) * 100; rest > 0 && rest < 0.1; rest *= 10 {
		digits++
	}
	return strconv.FormatFloat(chance*100, 'f', digits, 64) + " %"
}
