package main

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"github.com/spf13/pflag"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/promtext"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/state"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/metrics"
)

// A metricsFile is the file of --metrics-file, and what the command counts for it.
type metricsFile struct {
	path     string // "" if nothing is written
	registry metrics.Registry
}

// addMetricsFile adds the flag --metrics-file.
func addMetricsFile(flags *pflag.FlagSet, m *metricsFile) {
	flags.StringVar(&m.path, "metrics-file", "", "add metrics to `file`, such as /var/lib/node_exporter/perdure.prom, when the command ends")
}

// prepare returns an error if metrics cannot be added to the file. If no flag names the file,
// PERDURE_METRICS_FILE does.
func (m *metricsFile) prepare(a *app) error {
	source := "--metrics-file"
	if m.path == "" {
		m.path, source = a.getenv("PERDURE_METRICS_FILE"), "PERDURE_METRICS_FILE"
	}
	if m.path == "" {
		return nil
	}
	if err := promtext.Check(m.path); err != nil {
		return setting.Bad(source, m.path, "a file that perdure can add metrics to: "+reason(err))
	}
	return nil
}

// reason returns the text of err without the path, which the message has.
func reason(err error) string {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}

// write adds what was counted to the file. Breakers that processes share through the store
// are written as the store has them. A failure is logged: the outcome of the command stays
// what it is.
func (m *metricsFile) write(a *app, store string) {
	if m.path == "" {
		return
	}
	err := promtext.AddTo(context.Background(), m.path, func() (counted, shared []metrics.Family, err error) {
		own := m.registry.Snapshot().Families
		if store == "memory" {
			return own, nil, nil
		}
		snapshot, err := state.Take(store)
		if err != nil {
			return own, nil, nil //nolint:nilerr // the breakers are those of this process, which is logged elsewhere
		}
		used := keys(own)
		shared = snapshot.Metrics(func(key string) bool { return used[key] }).Families
		return without(own, keys(shared)), shared, nil
	})
	if err != nil {
		a.log.Warn("Metrics are not added to "+m.path+": "+reason(err), "event", "warning")
	}
}

// ofBreaker reports whether the metric is one of a breaker.
func ofBreaker(name string) bool {
	return strings.HasPrefix(name, "perdure_breaker_") || strings.HasPrefix(name, "perdure_budget_") || strings.HasPrefix(name, "perdure_gate_")
}

// keys returns the keys of the breakers in all.
func keys(all []metrics.Family) map[string]bool {
	found := map[string]bool{}
	for _, f := range all {
		if f.Name == "perdure_breaker_state" {
			for _, s := range f.Samples {
				found[promtext.Label(s, "key")] = true
			}
		}
	}
	return found
}

// without returns all without the metrics of the breakers with these keys.
func without(all []metrics.Family, keys map[string]bool) (rest []metrics.Family) {
	for _, f := range all {
		if ofBreaker(f.Name) {
			var kept []metrics.Sample
			for _, s := range f.Samples {
				if !keys[promtext.Label(s, "key")] {
					kept = append(kept, s)
				}
			}
			f.Samples = kept
		}
		rest = append(rest, f)
	}
	return rest
}
