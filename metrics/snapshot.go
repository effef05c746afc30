package metrics

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/class"
	"github.com/seed-0f2c7998/perdure/internal/meter"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A Snapshot is the values of all metrics at one time. Each value is exact; the values are
// not read atomically together.
type Snapshot struct {
	Families []Family // in the order of docs/metrics.md; those without samples are missing
}

// A Family is one metric with its samples.
type Family struct {
	Name    string // as in OpenMetrics: without the suffix _total of a counter
	Help    string
	Type    Type
	Unit    string // seconds or bytes, which Name ends with; "" means none
	Samples []Sample
}

// A Type is the type of a [Family].
type Type string

// The types.
const (
	Counter   Type = "counter"
	Gauge     Type = "gauge"
	Histogram Type = "histogram"
)

// A Sample is one value.
type Sample struct {
	Suffix string  // of the name: _total of counters, _bucket, _sum or _count of histograms
	Labels []Label // in the order of docs/metrics.md; le of a _bucket is the last
	Value  float64
}

// A Label is a name and its value, which has no secrets.
type Label struct{ Name, Value string }

// Snapshot returns the values of all metrics of r.
func (r *Registry) Snapshot() Snapshot {
	t := new(Snapshot).table()
	type row struct {
		operation, key string
		counts         meter.Counts
	}
	var rows []row
	core := meter.Of(r)
	core.Each(func(operation, key string, series *meter.Series) {
		rows = append(rows, row{operation, key, series.Counts()})
	})
	slices.SortFunc(rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.operation, b.operation), cmp.Compare(a.key, b.key))
	})
	for i := range rows {
		o := operation{t, []Label{{"operation", rows[i].operation}, {"key", rows[i].key}}, &rows[i].counts}
		o.add()
	}
	breakers := core.Breakers()
	for _, key := range slices.Sorted(maps.Keys(breakers)) {
		breaker{t, []Label{{"key", key}}}.add(breakers[key].Metrics())
	}
	return Snapshot{t.filled()}
}

// AddBreaker adds the metrics of a breaker with the name key, for breakers that no Registry
// knows, such as those of a host file. The keys of one Snapshot must differ.
func (s *Snapshot) AddBreaker(key string, m circuit.Metrics) {
	t := s.table()
	breaker{t, []Label{{"key", meter.Label(key)}}}.add(m)
	s.Families = t.filled()
}

// A table is all families, also those without samples.
type table []Family

// table returns the table with the samples of s.
func (s *Snapshot) table() table {
	t := table(Families())
	for _, f := range s.Families {
		t[places()[f.Name]].Samples = f.Samples
	}
	return t
}

// places returns the index in the table of each name.
var places = sync.OnceValue(func() map[string]int { //nolint:gochecknoglobals // a constant table
	all := map[string]int{}
	for i, f := range Families() {
		all[f.Name] = i
	}
	return all
})

// filled returns the families that have samples.
func (t table) filled() []Family {
	return slices.DeleteFunc(t, func(f Family) bool { return len(f.Samples) == 0 })
}

// add adds a sample to the family with that name.
func (t table) add(name, suffix string, labels []Label, value float64) {
	f := &t[places()[name]]
	f.Samples = append(f.Samples, Sample{suffix, labels, value})
}

// with returns labels and one more.
func with(labels []Label, name, value string) []Label {
	return append(slices.Clip(labels), Label{name, value})
}

// An operation adds the metrics of one operation and key.
type operation struct {
	table  table
	labels []Label
	counts *meter.Counts
}

// count adds a sample of a counter unless it is 0.
func (o operation) count(name string, value float64, labels []Label) {
	if value != 0 {
		o.table.add(name, "_total", labels, value)
	}
}

func (o operation) add() {
	c := o.counts
	for number, byClass := range c.Attempts {
		for class, n := range byClass {
			labels := with(with(o.labels, "attempt", attemptName(number)), "class", className(class))
			o.count("perdure_attempts", float64(n), labels)
		}
	}
	o.calls()
	o.retries()
	for cause, d := range c.Waited {
		o.count("perdure_wait_seconds", d.Seconds(), with(o.labels, "cause", waitCauses()[cause]))
	}
	for what, n := range c.Hinted {
		labels := with(o.labels, "result", hintResults()[what])
		o.count("perdure_retry_after", float64(n), labels)
		o.count("perdure_retry_after_seconds", c.HintedTime[what].Seconds(), labels)
	}
	o.count("perdure_hedges", float64(c.Hedges), with(o.labels, "result", "sent"))
	o.count("perdure_hedges", float64(c.HedgesWon), with(o.labels, "result", "won"))
	o.count("perdure_fallbacks", float64(c.FallbacksUsed), with(o.labels, "result", "success"))
	o.count("perdure_fallbacks", float64(c.FallbacksFailed), with(o.labels, "result", "failure"))
	o.count("perdure_resumes", float64(c.Resumes), o.labels)
	o.count("perdure_resumed_bytes", float64(c.ResumedBytes), o.labels)
}

func waitCauses() []string  { return []string{"backoff", "gate", "rate", "concurrency"} }
func hintResults() []string { return []string{"asked", "obeyed", "refused"} }

// attemptName returns 1, 2, 3 or 4+.
func attemptName(i int) string {
	if i == meter.Numbers-1 {
		return strconv.Itoa(meter.Numbers) + "+"
	}
	return strconv.Itoa(i + 1)
}

func className(i int) string {
	if i == meter.Success {
		return "success"
	}
	return class.Class(i).String() //nolint:gosec // an index of a small array
}

// calls adds the operations by outcome. Success is always there, so that a rate of
// failures has both its parts.
func (o operation) calls() {
	add := func(outcome, reason string, n uint64) {
		labels := with(with(o.labels, "outcome", outcome), "reason", reason)
		o.table.add("perdure_calls", "_total", labels, float64(n))
	}
	add("success", "", o.counts.Succeeded)
	for i := range meter.Reasons {
		reason := retry.Reason(i) //nolint:gosec // small
		outcome := "failure"
		if reason == retry.ReasonCancelled {
			outcome = "cancelled"
		}
		if n := o.counts.Failed[i]; n > 0 {
			add(outcome, reason.String(), n)
		}
		if n := o.counts.Refused[i]; n > 0 {
			add("refused", reason.String(), n)
		}
	}
}

// retries adds the histogram of retries.
func (o operation) retries() {
	n := uint64(0)
	for i, bound := range meter.Bounds() {
		n += o.counts.Retries[i]
		o.table.add("perdure_call_retries", "_bucket", with(o.labels, "le", strconv.Itoa(bound)), float64(n))
	}
	n += o.counts.Retries[meter.Buckets-1]
	o.table.add("perdure_call_retries", "_bucket", with(o.labels, "le", "+Inf"), float64(n))
	o.table.add("perdure_call_retries", "_sum", o.labels, float64(o.counts.Sum))
	o.table.add("perdure_call_retries", "_count", o.labels, float64(n))
}

// A breaker adds the metrics of one breaker.
type breaker struct {
	table  table
	labels []Label
}

func (b breaker) gauge(name string, value float64) { b.table.add(name, "", b.labels, value) }

func (b breaker) count(name string, value float64) { b.table.add(name, "_total", b.labels, value) }

// by adds a sample of a counter with one more label, unless it is 0.
func (b breaker) by(name, label, is string, n uint64) {
	if n > 0 {
		b.table.add(name, "_total", with(b.labels, label, is), float64(n))
	}
}

func (b breaker) add(m circuit.Metrics) {
	for s := circuit.Closed; s <= circuit.Isolated; s++ {
		is := 0.0
		if s == m.State {
			is = 1
		}
		b.table.add("perdure_breaker_state", "", with(b.labels, "state", s.String()), is)
	}
	b.count("perdure_breaker_open_seconds", m.OpenTime.Seconds())
	b.count("perdure_breaker_trips", float64(m.Trips))
	b.count("perdure_breaker_probes", float64(m.Probes))
	b.refusals(m)
	if m.Budgeted {
		b.gauge("perdure_budget_balance", m.Balance)
		b.count("perdure_budget_denials", float64(m.Refused.Budget))
	}
	if m.Gated {
		limited := 0.0
		if m.Limited {
			limited = 1
		}
		b.gauge("perdure_gate_limited", limited)
		b.gauge("perdure_gate_pace", m.Admitted)
		b.gauge("perdure_gate_waiters", float64(m.AtGate))
	}
	if m.Gated || m.Rate > 0 || m.Waits > 0 {
		b.count("perdure_breaker_waits", float64(m.Waits))
		b.count("perdure_breaker_wait_seconds", m.Waited.Seconds())
	}
	b.attempts(m.Attempts)
}

// refusals adds the refusals by reason. Those that an older release counted have none.
func (b breaker) refusals(m circuit.Metrics) {
	r := m.Refused
	const name = "perdure_breaker_refusals"
	b.by(name, "reason", "open", r.Open)
	b.by(name, "reason", "half-open", r.HalfOpen)
	b.by(name, "reason", "isolated", r.Isolated)
	b.by(name, "reason", "not-before", r.NotBefore)
	b.by(name, "reason", "gate", r.Gate)
	b.by(name, "reason", "limit", r.Limit)
}

// attempts adds the attempts of all processes that share the state.
func (b breaker) attempts(a circuit.Attempts) {
	const name = "perdure_breaker_attempts"
	b.by(name, "class", "success", a.Success)
	b.by(name, "class", "transient", a.Transient)
	b.by(name, "class", "throttled", a.Throttled)
	b.by(name, "class", "conflict", a.Conflict)
	b.by(name, "class", "permanent", a.Permanent)
	b.by(name, "class", "ignored", a.Ignored)
	b.by(name, "class", "unknown", a.Unknown)
	if a != (circuit.Attempts{}) {
		b.count("perdure_breaker_retries", float64(a.Retries))
	}
}
