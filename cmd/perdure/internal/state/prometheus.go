package state

import (
	"bytes"
	"io"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/promtext"
)

// WritePrometheus writes the snapshot in Prometheus' text format 0.0.4.
func (s *Snapshot) WritePrometheus(w io.Writer) error {
	var b bytes.Buffer
	if err := promtext.Write(&b, Families(s.Rows())); err != nil {
		return err
	}
	_, err := b.WriteTo(w)
	return err
}

// Families returns the metrics of the rows: what all processes of this user have counted
// for each key.
func Families(rows []Row) []promtext.Family {
	var all []promtext.Family
	for _, m := range figures() {
		f := promtext.Family{Name: m.name, Help: m.help, Type: m.kind}
		for i := range rows {
			m.add(&rows[i], func(value float64, labels ...string) {
				f.Add(value, append([]string{"key", rows[i].Key}, labels...)...)
			})
		}
		all = append(all, f)
	}
	return all
}

// A figure is one metric of a row.
type figure struct {
	name, kind, help string
	add              func(r *Row, add func(value float64, labels ...string))
}

func figures() []figure {
	count := func(name, help string, of func(*Row) uint64) figure {
		return figure{name, promtext.Counter, help, func(r *Row, add func(float64, ...string)) { add(float64(of(r))) }}
	}
	gauge := func(name, help string, of func(*Row) float64) figure {
		return figure{name, promtext.Gauge, help, func(r *Row, add func(float64, ...string)) { add(of(r)) }}
	}
	return []figure{
		{"perdure_breaker_state", promtext.Gauge, "Whether the circuit breaker is in the state: 1 or 0.", addStates},
		count("perdure_breaker_trips_total", "How often the circuit breaker has opened.", func(r *Row) uint64 { return r.Trips }),
		count("perdure_breaker_probes_total", "Probes that the circuit breaker has admitted.", func(r *Row) uint64 { return r.Probes }),
		{"perdure_budget_balance", promtext.Gauge, "Tokens in the retry budget, if it has been used.", addBalance},
		gauge("perdure_gate_limited", "Whether the gate limits calls: 1 or 0.", func(r *Row) float64 { return flag(r.Demand > 0 || r.Admitted > 0) }),
		gauge("perdure_gate_pace", "Calls per second that the gate has admitted since it began to limit.", func(r *Row) float64 { return r.Admitted }),
		gauge("perdure_gate_waiters", "Calls that wait at the gate.", func(r *Row) float64 { return float64(r.Waiting) }),
	}
}

func addStates(r *Row, add func(value float64, labels ...string)) {
	for _, s := range []circuit.State{circuit.Closed, circuit.HalfOpen, circuit.Open, circuit.Isolated} {
		add(flag(r.State == s), "state", s.String())
	}
}

func addBalance(r *Row, add func(value float64, labels ...string)) {
	if r.Budget != nil {
		add(*r.Budget)
	}
}

func flag(on bool) float64 {
	if on {
		return 1
	}
	return 0
}
