// Package twin has what the tests of a fleet's protocol hold its servers against:
// what the ops do to the record of one key, with instants as whether they are
// over. The models of package fleet walk with it, and its servers must answer as
// it does.
package twin

import "github.com/seed-0f2c7998/perdure/circuit"

// A Record is what a server keeps of one key. Votes are left out: each opens. It
// can be compared and copied.
type Record struct {
	Epoch string
	Gen   int64
	State circuit.State
	Due   bool // the open time is over
	Far   bool // it is not, and ends as late as only servers ask for
	Hand  bool
	Owner string // of the lease, "" for nobody or when it is over
	Holds bool   // the lease is not over

	Now, Since, Handed int64 // instants: this one, of the last change, of the last override (0: none)
}

// Enter changes the state.
func (r *Record) Enter(state circuit.State, due, hand bool) {
	r.Gen++
	r.State, r.Due, r.Far, r.Hand, r.Owner, r.Holds, r.Since = state, due, false, hand, "", false, r.Now
}

// Override sets what was wanted at that instant, which is now unless it could not
// be said then. As the others do, it reports whether the state has changed.
func (r *Record) Override(state circuit.State, due bool, then int64) bool {
	if then < r.Now && then < r.Handed {
		return false
	}
	r.Handed = max(then, r.Handed+1)
	if then < r.Now && state != circuit.Isolated && then < r.Since && !r.Hand {
		return false
	}
	r.Enter(state, due, true)
	return true
}

// Trip votes.
func (r *Record) Trip(due bool) bool {
	if r.State != circuit.Closed {
		return false
	}
	r.Enter(circuit.Open, due, false)
	return true
}

// Lease asks for the lease.
func (r *Record) Lease(process string) {
	if r.State == circuit.Open && r.Due && !r.Holds {
		r.Gen++
		r.Owner, r.Holds = process, true
	}
}

// Settle tells the result of a probe.
func (r *Record) Settle(process string, token int64, state circuit.State, due bool) bool {
	if r.State != circuit.Open || r.Owner != process || r.Gen != token {
		return false
	}
	r.Enter(state, due, false)
	return true
}

// Release gives the lease back.
func (r *Record) Release(process string, token int64) bool {
	if r.Owner != process || r.Gen != token {
		return false
	}
	r.Owner, r.Holds = "", false
	return true
}

// Restore tells what was, before it was forgotten; handed is 0 if that was no
// override.
func (r *Record) Restore(was Record) bool {
	if r.Epoch != was.Epoch && r.Gen != 0 || r.Epoch == was.Epoch && r.Gen >= was.Gen {
		return false
	}
	r.Gen = max(r.Gen, was.Gen)
	r.Handed = max(r.Handed, was.Handed)
	r.Enter(was.State, was.Due, was.Hand)
	r.Far = was.Far
	return true
}
