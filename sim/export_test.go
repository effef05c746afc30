package sim

import "github.com/seed-0f2c7998/perdure/retry"

// An Outcome is how a failed attempt has ended.
type Outcome struct {
	Err      error
	Class    retry.Class
	TimedOut bool
}

// Outcomes returns the outcomes of failed attempts.
func Outcomes() (all []Outcome) {
	for a := failed; a <= timedOut; a++ {
		err, class := a.err()
		all = append(all, Outcome{err, class, a == timedOut})
	}
	return all
}
