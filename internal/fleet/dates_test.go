package fleet

import (
	"testing"
	"time"
)

// When an override was made is known as well as by the answer that took the least
// time, until a clock is set.
func TestDates(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for what, c := range map[string]struct {
		known, learned time.Duration // ago, when it was made: as is known, and by an answer
		took           time.Duration // that answer; less than 0: it was pushed
		named          string
		want           time.Duration
	}{
		"a slower answer":              {known: time.Minute, learned: 59 * time.Second, took: 2 * time.Second, named: "1", want: time.Minute},
		"a faster one":                 {known: 59 * time.Second, learned: time.Minute, took: time.Millisecond, named: "1", want: time.Minute},
		"pushed, late":                 {known: time.Minute, learned: 50 * time.Second, took: -1, named: "1", want: time.Minute},
		"a clock is set forward":       {known: time.Hour, learned: time.Minute, took: 2 * time.Second, named: "1", want: time.Minute},
		"a clock is put back":          {known: time.Minute, learned: time.Hour, took: 2 * time.Second, named: "1", want: time.Hour},
		"another override":             {known: time.Minute, learned: 59 * time.Second, took: 2 * time.Second, named: "2", want: 59 * time.Second},
		"within what instants round":   {known: time.Minute, learned: time.Minute - rounding, took: 0, named: "1", want: time.Minute},
		"beyond, in an answer at once": {known: time.Minute, learned: time.Minute - 2*rounding, took: 0, named: "1", want: time.Minute - 2*rounding},
	} {
		m := remote{known: true, view: view{epoch: "e", override: "1", overriddenAt: ago(c.known)}}
		sent := time.Time{}
		if c.took >= 0 {
			sent = ago(c.took)
		}
		m.update(view{epoch: "e", override: c.named, overriddenAt: ago(c.learned)}, sent, now)
		if got := now.Sub(m.view.overriddenAt); got != c.want {
			t.Errorf("%s: known to be made %v ago, and learned, in %v, to be %v ago: it is %v, want %v", what, c.known, c.took, c.learned, got, c.want)
		}
	}
}
