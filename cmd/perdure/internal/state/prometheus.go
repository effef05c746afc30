package state

import (
	"io"

	"github.com/seed-0f2c7998/perdure/metrics"
)

// WritePrometheus writes the snapshot in Prometheus' text format 0.0.4.
func (s *Snapshot) WritePrometheus(w io.Writer) error { return s.Metrics(nil).Write(w, metrics.Text) }

// Metrics returns what all processes of this user have counted for the keys that wanted
// accepts; nil accepts all.
func (s *Snapshot) Metrics(wanted func(key string) bool) (all metrics.Snapshot) {
	for _, r := range s.Rows() {
		if wanted != nil && !wanted(r.Key) {
			continue
		}
		m := r.metrics
		m.State = r.State            // the fleet's may be newer
		m.Budgeted = r.Budget != nil // the file has a budget for each key
		m.Gated = true               // and a gate
		all.AddBreaker(r.Key, m)
	}
	return all
}
