package sim

import "github.com/seed-0f2c7998/perdure/retry"

// An Answer is how an attempt that failed has ended.
type Answer struct {
	Err      error
	Class    retry.Class
	TimedOut bool
}

// Answers returns all that a simulation knows.
func Answers() (all []Answer) {
	for a := failed; a <= timedOut; a++ {
		err, class := a.err()
		all = append(all, Answer{err, class, a == timedOut})
	}
	return all
}
