package chart

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// end returns where the axis ends if the largest value on it is highest.
func (a Axis) end(highest float64) float64 {
	const least = 1e-9 // there is nothing, or all is 0
	most := 1e15       // whole numbers are exact
	if a.Time {
		most = 100 * 365 * 24 * 3600 // a time.Duration holds it
	}
	if finite(a.Max) && a.Max > 0 {
		highest = a.Max
	}
	if highest < least {
		return 1
	}
	return min(highest, most)
}

// step returns the distance between the ticks of an axis that ends at high: at most
// most of them after the first, in steps that people count in.
func (a Axis) step(high float64, most int) float64 {
	least := high / float64(most) * (1 - 1e-9)
	if a.Time {
		step := time.Duration(1)
		for step.Seconds() < least {
			step = next(step)
		}
		return step.Seconds()
	}
	step := math.Pow(10, math.Floor(math.Log10(least)))
	for _, factor := range []float64{1, 2, 5} {
		if factor*step >= least {
			return factor * step
		}
	}
	return 10 * step
}

// label returns the text of a tick.
func (a Axis) label(at, step float64) string {
	if a.Time {
		return setting.DurationText(time.Duration(math.Round(at * 1e9)))
	}
	digits := max(0, -int(math.Floor(math.Log10(step)+1e-9)))
	if at >= 1e9 || digits > 6 {
		return strconv.FormatFloat(at, 'g', 3, 64)
	}
	whole, rest, broken := strings.Cut(strconv.FormatFloat(at, 'f', digits, 64), ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if broken {
		return whole + "." + rest
	}
	return whole
}

// next returns the step after step: 1, 2, 5 and 10 of a unit up to 10 seconds,
// then what a clock shows, then days.
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
	if first == 2 && step < 10*time.Second {
		return step / 2 * 5
	}
	return step * 2
}
