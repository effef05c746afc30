package state

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/hostplaces"
	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/redisstore"
)

// A Row is what a Snapshot has of one key. Its JSON form is for programs:
// names stay, and what is not known or does not apply is left out.
type Row struct {
	Key       string        `json:"key"`
	State     circuit.State `json:"state"`                 // closed, open, half-open or isolated
	Since     *time.Time    `json:"since,omitempty"`       // when the state last changed; absent: never
	Reason    string        `json:"reason,omitempty"`      // why it did
	Failures  int           `json:"failures"`              // consecutive ones so far, of a closed breaker
	NextProbe *time.Time    `json:"next_probe,omitempty"`  // when an open breaker lets the next call through; past: it would now
	LeaseEnds *time.Time    `json:"lease_ends,omitempty"`  // a probe is out, and is given up then
	LeaseHost string        `json:"lease_host,omitempty"`  // where it was sent, if another host may have
	LeasePID  int           `json:"lease_pid,omitempty"`   // the process that has sent it; absent: not known
	NotBefore *time.Time    `json:"not_before,omitempty"`  // servers asked several times in a row not to be called until then
	Budget    *float64      `json:"budget,omitempty"`      // tokens for retries; absent: untouched, or there is no budget
	Rate      float64       `json:"rate,omitempty"`        // most calls per second, of who has called last; absent: no limit
	Queued    int           `json:"queued,omitempty"`      // calls that wait for the rate
	InFlight  int           `json:"in_flight,omitempty"`   // calls that hold a place of Concurrency, of all processes
	Limit     int           `json:"concurrency,omitempty"` // the lowest Concurrency of the processes that run; absent: none has one
	Waiting   int           `json:"waiting,omitempty"`     // calls that wait at a gate, of all processes
	Demand    float64       `json:"demand,omitempty"`      // operations per second, at least, while a gate is limited
	Admitted  float64       `json:"admitted,omitempty"`    // calls per second that a gate has admitted since it was limited
	Trips     uint64        `json:"trips"`                 // how often it has opened
	Rejected  uint64        `json:"rejected"`              // calls that were refused
	Probes    uint64        `json:"probes"`                // probes that were let through
}

// longest is for a breaker whose settings are not known: no instant that they
// could have set is too far ahead for it.
const longest = 30 * 24 * time.Hour

// startBudget is the balance with which budgets begin, in tokens.
const startBudget = 1

// Rows returns a row for each key.
func (s *Snapshot) Rows() []Row {
	rows := make([]Row, len(s.Keys))
	inFlight := hostplaces.Read(filepath.Dir(s.Path), s.Keys)
	for i, key := range s.Keys {
		rows[i] = s.row(key)
		rows[i].InFlight, rows[i].Limit = inFlight[key].Taken, inFlight[key].Limit
		if fleet, ok := s.fleet[key]; ok {
			rows[i].agree(fleet, time.Now())
		}
	}
	return rows
}

func (s *Snapshot) row(key string) Row {
	c := circuit.Config{
		Store: s.store, RecoveryTimeout: longest, ProbeLease: longest, Budget: 1000,
		Observe: func(context.Context, circuit.Transition) {},
	}
	b := circuit.New(key, c)
	m := b.Metrics()
	limited := false // by a gate, which only a breaker that has one sees
	if m.State == circuit.Closed {
		c.Gate = circuit.FailFast
		b = circuit.New(key, c)
		m = b.Metrics()
		limited = m.State != circuit.Closed
	}
	r := Row{
		Key: redact.String(key), State: m.State, Since: instant(m.Since), Failures: m.Failures,
		NextProbe: instant(m.RetryAt), NotBefore: instant(m.NotBefore),
		Rate: m.Rate, Queued: m.Queued, Trips: m.Trips, Rejected: m.Rejected, Probes: m.Probes,
		Waiting: m.AtGate, Demand: m.Demand, Admitted: m.Admitted,
	}
	if r.Since != nil {
		r.Reason = m.Reason.String()
	}
	if m.Balance != startBudget {
		r.Budget = &m.Balance
	}
	if m.State == circuit.HalfOpen {
		// Nobody else sees it: whether the next call would be the probe is asked by making it.
		switch refusal := refused(b); {
		case refusal != nil && limited:
			r.NextProbe = &refusal.RetryAt
		case refusal != nil:
			r.LeaseEnds, r.LeasePID = &refusal.RetryAt, m.Prober
		default:
			now := time.Now()
			r.NextProbe = &now
		}
	}
	return r
}

// agree has r show what the fleet has agreed on, where that is more than this
// host knows: what is seen of the host may be from before.
func (r *Row) agree(s redisstore.Status, now time.Time) {
	ahead := s.State == circuit.Isolated || s.State == circuit.Open && s.Until.After(now)
	if ahead && r.State == circuit.Closed {
		r.State, r.Reason, r.NextProbe = s.State, "set by the fleet", instant(s.Until)
	}
	if s.Lease.After(now) {
		r.LeaseEnds, r.LeaseHost, r.LeasePID = &s.Lease, s.Holder, s.PID
	}
}

// refused returns the refusal that b has for a call, or nil.
func refused(b *circuit.Breaker) *circuit.OpenError {
	_, err := b.Acquire()
	refusal, _ := errors.AsType[*circuit.OpenError](err)
	return refusal
}

func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// state is the state, with what a gate does while it is limited: half-open 410/s of
// 1600/s, 96 waiting.
func (r Row) state() string {
	text := r.State.String()
	if r.Demand > 0 {
		text += fmt.Sprintf(" %s of %s", perSecond(r.Admitted), perSecond(max(r.Demand, r.Admitted))) // Demand is of late, and without retries
	}
	if r.Waiting > 0 {
		text += fmt.Sprintf(", %d waiting", r.Waiting)
	}
	return text
}

// perSecond is a rate, with one decimal below ten.
func perSecond(rate float64) string {
	if rate < 10 {
		return fmt.Sprintf("%.1f/s", rate)
	}
	return fmt.Sprintf("%.0f/s", rate)
}

// why is the reason in words, with what is on the way to the next, and the limits.
func (r Row) why() string {
	var parts []string
	switch {
	case r.State == circuit.Closed && r.Failures == 1:
		parts = append(parts, "1 failure so far")
	case r.State == circuit.Closed && r.Failures > 1:
		parts = append(parts, fmt.Sprintf("%d consecutive failures so far", r.Failures))
	case r.Reason != "":
		parts = append(parts, r.Reason)
	}
	if r.Rate > 0 {
		parts = append(parts, "at most "+setting.RateText(r.Rate))
	}
	if r.Rate > 0 && r.Queued > 0 {
		parts = append(parts, fmt.Sprintf("%d waiting", r.Queued))
	}
	switch {
	case r.Limit > 0:
		parts = append(parts, fmt.Sprintf("%d of %d in flight", r.InFlight, r.Limit))
	case r.InFlight > 0: // of a command whose perdure was killed
		parts = append(parts, fmt.Sprintf("%d in flight", r.InFlight))
	}
	return strings.Join(parts, ", ")
}
