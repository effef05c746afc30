package memory

import (
	"maps"
	"strconv"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/fleet"
)

// A record holds the state of one key. Its instants are in Unix milliseconds.
type record struct {
	epoch        string
	gen          int64
	state        circuit.State
	since, until int64
	reason       string
	manual       bool
	overriddenAt int64 // 0 if there was no override
	lease        lease
	lastFailed   string           // node whose probe failed last
	alive, votes map[string]int64 // by node: when it expires
	hasBudget    bool
	budget       int64            // tokens that no cell holds
	shares       map[string]share // by cell
	rate         rate
}

type lease struct {
	process, node string
	since, till   int64
	used, wanted  bool
}

type share struct{ limit, till int64 }

// A rate is a schedule in Unix nanoseconds, and the limit in force.
type rate struct {
	next, at int64
	limit    fleet.RateRequest
	usedAt   int64 // when a request last had the limit, in Unix milliseconds
}

func newRecord(epoch string) *record {
	return &record{epoch: epoch, alive: map[string]int64{}, votes: map[string]int64{}, shares: map[string]share{}}
}

// exec executes the call of m at now. It sets the Budget or Rate of v, and reports
// whether to publish the record.
func (r *record) exec(c fleet.Call, m fleet.Member, at time.Time, v *fleet.View) (changed bool) {
	now := at.UnixMilli()
	r.clampFuture(now)
	r.alive[m.Node] = now + m.Alive.Milliseconds()
	switch c.Op {
	case fleet.Trip:
		changed = r.trip(c, m, now)
	case fleet.Lease:
		r.requestLease(c.Lease, m, now)
	case fleet.Settle:
		changed = r.settle(c, m, now)
	case fleet.Release:
		if changed = r.lease.process == m.Process && r.gen == c.Token; changed {
			r.lease = lease{}
		}
	case fleet.Override:
		changed = r.override(c, now)
	case fleet.Restore:
		changed = r.restore(c, now)
	case fleet.ShareBudget:
		v.Budget = r.shareBudget(c.Budget, m, now)
	case fleet.Reserve:
		v.Rate = r.rate.reserve(c.Rate, at)
		v.Rate.Nodes = count(r.alive, now)
	case fleet.Read:
	}
	return changed
}

// reserve reserves instants, as redisstore/lua/reserve.lua does.
func (r *rate) reserve(want fleet.RateRequest, at time.Time) fleet.RateGrant {
	now, ms := at.UnixNano(), at.UnixMilli()
	l := r.limit
	lower := l.Interval > want.Interval || l.Interval == want.Interval && l.Burst < want.Burst
	if !lower || max(ms-r.usedAt, r.usedAt-ms) > (time.Minute+l.Interval).Milliseconds() {
		r.limit, r.usedAt, l = want, ms, want
	}
	from := max(r.next-max(r.at-now, 0), now)
	spare := int64(l.Burst-1) * int64(l.Interval)
	n := min(int((now+int64(want.Until)+spare-from)/int64(l.Interval))+1, want.Count)
	if now+int64(want.Until)+spare < from {
		n = 0
	}
	r.next, r.at = from+int64(n)*int64(l.Interval), now
	return fleet.RateGrant{From: time.Duration(from - now), Count: n, Interval: l.Interval, Burst: l.Burst}
}

// clampFuture shifts an interval that starts in the future, since the clock was set
// back, to now.
func (r *record) clampFuture(now int64) {
	if ahead := r.since - now; ahead > 0 {
		r.since, r.until = now, r.until-ahead
	}
	if ahead := r.lease.since - now; ahead > 0 {
		r.lease.since, r.lease.till = now, r.lease.till-ahead
	}
}

func (r *record) leased(now int64) bool { return r.lease.till > now }

func (r *record) enter(c fleet.Call, manual bool, now int64) {
	r.gen++
	r.state, r.since, r.until, r.reason, r.manual = c.State, now, now+ms(c.Open), c.Reason, manual
	r.lease = lease{}
	clear(r.votes)
}

func (r *record) trip(c fleet.Call, m fleet.Member, now int64) bool {
	if r.state != circuit.Closed {
		return false
	}
	r.votes[m.Node] = now + ms(c.Open)
	if count(r.votes, now) < min(c.Quorum, count(r.alive, now)) {
		return false
	}
	c.State = circuit.Open
	if c.Gate {
		c.Open = 0
	}
	r.enter(c, false, now)
	return true
}

// count returns how many of m have not expired, and drops the rest.
func count(m map[string]int64, now int64) int {
	maps.DeleteFunc(m, func(_ string, till int64) bool { return till <= now })
	return len(m)
}

func (r *record) requestLease(t fleet.LeaseRequest, m fleet.Member, now int64) {
	if r.state != circuit.Open || r.until > now {
		return
	}
	l := &r.lease
	switch {
	case !r.leased(now):
		if r.lastFailed == m.Node && r.until+ms(t.Yield) > now && count(r.alive, now) > 1 {
			return // other nodes go first
		}
		r.gen++
		*l = lease{process: m.Process, node: m.Node, since: now, till: now + ms(t.Length), used: t.Used}
	case l.process != m.Process:
		l.wanted = true
	case t.Used, !l.wanted, l.since+ms(t.Idle) > now:
		l.till, l.used = max(l.till, now+ms(t.Length)), l.used || t.Used
	}
}

func (r *record) settle(c fleet.Call, m fleet.Member, now int64) bool {
	if c.State == circuit.Closed {
		delete(r.votes, m.Node)
	}
	responded := c.Gate && !r.manual && r.until <= now
	if r.state != circuit.Open || !responded && (r.lease.process != m.Process || r.gen != c.Token) {
		return false
	}
	if r.lastFailed = ""; c.State == circuit.Open {
		r.lastFailed = m.Node
	}
	r.enter(c, false, now)
	return true
}

func (r *record) override(c fleet.Call, now int64) bool {
	ago := ms(c.Ago)
	at := now - ago
	if ago > 0 && at < r.overriddenAt {
		return false
	}
	r.overriddenAt = max(at, r.overriddenAt+1)
	if ago > 0 && c.State != circuit.Isolated && at < r.since && !r.manual {
		return false
	}
	if c.State == circuit.Closed {
		clear(r.shares)
		if r.hasBudget {
			r.budget = max(r.budget, cell.Token)
		}
	}
	r.lastFailed = ""
	r.enter(c, true, now)
	return true
}

func (r *record) restore(c fleet.Call, now int64) bool {
	if r.epoch != c.Epoch && r.gen != 0 || r.epoch == c.Epoch && r.gen >= c.Gen {
		return false
	}
	r.gen = max(r.gen, c.Gen)
	if c.Manual {
		r.overriddenAt = max(r.overriddenAt, now-ms(c.Ago), 1)
	}
	r.enter(c, c.Manual, now)
	return true
}

// shareBudget grants a cell its share of the budget, as redisstore/lua/budget.lua does.
func (r *record) shareBudget(d fleet.BudgetRequest, m fleet.Member, now int64) fleet.BudgetGrant {
	cells, others := int64(1), int64(0)
	maps.DeleteFunc(r.shares, func(name string, s share) bool { return name != d.Cell && s.till <= now })
	for name, s := range r.shares {
		if name != d.Cell {
			cells, others = cells+1, others+s.limit
		}
	}
	if !r.hasBudget && d.Phase == fleet.FirstRequest {
		r.budget = cell.Token
	}
	r.hasBudget = true
	available := max(min(r.budget+d.Returned, d.Ceiling-others-d.Limit), 0)
	if d.Phase == fleet.LastRequest {
		delete(r.shares, d.Cell)
		r.budget = available
		return fleet.BudgetGrant{Available: available}
	}
	fair := d.Ceiling / (cells + 1)
	if fair < cell.Token {
		if fair = 0; available*2 >= d.Ceiling {
			fair = cell.Token
		}
	}
	granted := min(max(fair-d.Balance, d.Need-d.Balance, 0), available)
	available -= granted
	limit := d.Balance + granted + max(d.Ceiling-others-available-d.Balance-granted, 0)/cells
	r.budget = available
	r.shares[d.Cell] = share{max(limit, d.Limit+granted), now + m.Alive.Milliseconds()}
	return fleet.BudgetGrant{Granted: granted, Limit: limit, FairShare: fair, Available: available}
}

// view returns the view of r at now.
func (r *record) view(key string, now int64) fleet.View {
	v := fleet.View{
		Key: key, Epoch: r.epoch, Gen: r.gen, State: r.state, Manual: r.manual, Open: span(r.until - now), Reason: r.reason,
	}
	if r.leased(now) {
		v.Process, v.Node, v.Lease = r.lease.process, r.lease.node, span(r.lease.till-now)
	}
	if r.overriddenAt != 0 {
		v.Override, v.Ago = strconv.FormatInt(r.overriddenAt, 10), span(now-r.overriddenAt)
		if now < r.overriddenAt {
			v.Ago = -span(r.overriddenAt - now)
		}
	}
	return v
}
