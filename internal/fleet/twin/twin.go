// Package twin is a second implementation of a fleet's server, simple enough to be
// right: what each op does to the record of one key, with a bool for whether an instant
// has passed. The model tests of package fleet use it as their server, and the servers'
// tests compare their responses with it.
package twin

import "github.com/seed-0f2c7998/perdure/circuit"

// A Record is a server's record of one key. It has no votes: each vote opens. Records
// can be compared and copied.
type Record struct {
	Epoch  string
	Gen    int64
	State  circuit.State
	Due    bool // the open time has elapsed
	Far    bool // the open time has not elapsed, and is as long as only a Retry-After
	Manual bool
	Owner  string // of the lease, "" if no process holds it
	Leased bool   // the lease has not ended

	Now, Since, Overridden int64 // current instant; instants of the last change, and of the last override (0 if there was none)
}

// Enter changes the state.
func (r *Record) Enter(state circuit.State, due, manual bool) {
	r.Gen++
	r.State, r.Due, r.Far, r.Manual, r.Owner, r.Leased, r.Since = state, due, false, manual, "", false, r.Now
}

// Override sets a state manually, at then: before now if the server could not be reached
// then. It reports whether the state has changed, as the other methods do.
func (r *Record) Override(state circuit.State, due bool, then int64) bool {
	if then < r.Now && then < r.Overridden {
		return false
	}
	r.Overridden = max(then, r.Overridden+1)
	if then < r.Now && state != circuit.Isolated && then < r.Since && !r.Manual {
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

// Lease requests the lease.
func (r *Record) Lease(process string) {
	if r.State == circuit.Open && r.Due && !r.Leased {
		r.Gen++
		r.Owner, r.Leased = process, true
	}
}

// Settle reports the result of a probe.
func (r *Record) Settle(process string, token int64, state circuit.State, due bool) bool {
	if r.State != circuit.Open || r.Owner != process || r.Gen != token {
		return false
	}
	r.Enter(state, due, false)
	return true
}

// Release returns the lease.
func (r *Record) Release(process string, token int64) bool {
	if r.Owner != process || r.Gen != token {
		return false
	}
	r.Owner, r.Leased = "", false
	return true
}

// Restore restores a state that the server has lost. was.Overridden is 0 if no override
// had set that state.
func (r *Record) Restore(was Record) bool {
	if r.Epoch != was.Epoch && r.Gen != 0 || r.Epoch == was.Epoch && r.Gen >= was.Gen {
		return false
	}
	r.Gen = max(r.Gen, was.Gen)
	r.Overridden = max(r.Overridden, was.Overridden)
	r.Enter(was.State, was.Due, was.Manual)
	r.Far = was.Far
	return true
}
