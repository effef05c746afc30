package fleet

import (
	"testing"
	"time"
)

// The instant of an override is that of the fastest response, until a clock is set.
func TestOverrideTime(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for what, c := range map[string]struct {
		known, received time.Duration // since the override: as known before, and by a response
		took            time.Duration // that the response took; negative for a push
		named           string
		want            time.Duration
	}{
		"a slower response":             {known: time.Minute, received: 59 * time.Second, took: 2 * time.Second, named: "1", want: time.Minute},
		"a faster response":             {known: 59 * time.Second, received: time.Minute, took: time.Millisecond, named: "1", want: time.Minute},
		"pushed, late":                  {known: time.Minute, received: 50 * time.Second, took: -1, named: "1", want: time.Minute},
		"a clock is set forward":        {known: time.Hour, received: time.Minute, took: 2 * time.Second, named: "1", want: time.Minute},
		"a clock is set back":           {known: time.Minute, received: time.Hour, took: 2 * time.Second, named: "1", want: time.Hour},
		"another override":              {known: time.Minute, received: 59 * time.Second, took: 2 * time.Second, named: "2", want: 59 * time.Second},
		"within what instants round":    {known: time.Minute, received: time.Minute - rounding, took: 0, named: "1", want: time.Minute},
		"beyond, in a response at once": {known: time.Minute, received: time.Minute - 2*rounding, took: 0, named: "1", want: time.Minute - 2*rounding},
	} {
		m := remote{known: true, view: view{epoch: "e", override: "1", overriddenAt: ago(c.known)}}
		sent := time.Time{}
		if c.took >= 0 {
			sent = ago(c.took)
		}
		m.update(view{epoch: "e", override: c.named, overriddenAt: ago(c.received)}, sent, now)
		if got := now.Sub(m.view.overriddenAt); got != c.want {
			t.Errorf("%s: known: %v ago; received in %v: %v ago; got %v ago, want %v", what, c.known, c.took, c.received, got, c.want)
		}
	}
}
