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

// A Row is the state of one key in a Snapshot. Its JSON form is stable; fields that are
// unknown or do not apply are absent.
type Row struct {
	Key       string        `json:"key"`
	State     circuit.State `json:"state"`                 // closed, open, half-open or isolated
	Since     *time.Time    `json:"since,omitempty"`       // when the state last changed; absent if never
	Reason    string        `json:"reason,omitempty"`      // why the state last changed
	Failures  int           `json:"failures"`              // consecutive failures of a closed breaker
	NextProbe *time.Time    `json:"next_probe,omitempty"`  // when an open breaker admits the next call; a past instant means now
	LeaseEnds *time.Time    `json:"lease_ends,omitempty"`  // when the lease of the probe in flight ends
	LeaseHost string        `json:"lease_host,omitempty"`  // host of the probe, if hosts share the store
	LeasePID  int           `json:"lease_pid,omitempty"`   // process of the probe; absent if unknown
	NotBefore *time.Time    `json:"not_before,omitempty"`  // end of a Retry-After that all calls respect
	Budget    *float64      `json:"budget,omitempty"`      // tokens for retries; absent if unused, or without a budget
	Rate      float64       `json:"rate,omitempty"`        // maximum calls per second, of the last caller; absent if unlimited
	Queued    int           `json:"queued,omitempty"`      // calls that wait for the rate
	InFlight  int           `json:"in_flight,omitempty"`   // calls in flight under Concurrency, in all processes
	Limit     int           `json:"concurrency,omitempty"` // lowest Concurrency of the running processes; absent if unlimited
	Waiting   int           `json:"waiting,omitempty"`     // calls that wait at a gate, in all processes
	Demand    float64       `json:"demand,omitempty"`      // operations per second, at least, while a gate limits
	Admitted  float64       `json:"admitted,omitempty"`    // calls per second that the gate has admitted since it began to limit
	Trips     uint64        `json:"trips"`                 // how often the breaker has opened
	Rejected  uint64        `json:"rejected"`              // refused calls
	Probes    uint64        `json:"probes"`                // admitted probes

	metrics circuit.Metrics // of this host
}

// startBudget is the initial balance of budgets, in tokens.
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
		Store: s.store, Budget: 1000, Observe: func(context.Context, circuit.Transition) {},
	}
	b := circuit.New(key, c)
	m := b.Metrics()
	limited := false // by a gate: only a breaker with a gate reads that
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
		Waiting: m.AtGate, Demand: m.Demand, Admitted: m.Admitted, metrics: m,
	}
	if r.Since != nil {
		r.Reason = m.Reason.String()
	}
	if m.Balance != startBudget {
		r.Budget = &m.Balance
	}
	if m.State == circuit.HalfOpen {
		// The snapshot is private, so a call of it shows whether the next call would be the probe.
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

// agree applies the fleet's decision to r, where it is newer than the state of this host.
func (r *Row) agree(s redisstore.Status, now time.Time) {
	ahead := s.State == circuit.Isolated || s.State == circuit.Open && s.Until.After(now)
	if ahead && r.State == circuit.Closed {
		r.State, r.Reason, r.NextProbe = s.State, "set by the fleet", instant(s.Until)
	}
	if s.Lease.After(now) {
		r.LeaseEnds, r.LeaseHost, r.LeasePID = &s.Lease, s.Holder, s.PID
	}
}

// refused makes a call and returns its refusal, or nil.
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

// state returns the state, with the figures of a gate that limits: half-open 410/s of
// 1600/s, 96 waiting.
func (r Row) state() string {
	text := r.State.String()
	if r.Demand > 0 {
		text += fmt.Sprintf(" %s of %s", perSecond(r.Admitted), perSecond(max(r.Demand, r.Admitted))) // Demand is recent and excludes retries
	}
	if r.Waiting > 0 {
		text += fmt.Sprintf(", %d waiting", r.Waiting)
	}
	return text
}

// perSecond returns a rate, with one decimal below ten.
func perSecond(rate float64) string {
	if rate < 10 {
		return fmt.Sprintf("%.1f/s", rate)
	}
	return fmt.Sprintf("%.0f/s", rate)
}

// why returns the reason of the state, the failures so far, and the limits.
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
	case r.InFlight > 0: // the command of a perdure that was killed
		parts = append(parts, fmt.Sprintf("%d in flight", r.InFlight))
	}
	return strings.Join(parts, ", ")
}
