// Package promtext reads, adds and writes metrics in Prometheus' text format 0.0.4: those of
// perdure itself, in a file that many processes add to.
package promtext

import (
	"cmp"
	"fmt"
	"io"
	"slices"

	"github.com/seed-0f2c7998/perdure/metrics"
)

// MaxSeries is the maximum number of series of one file.
const MaxSeries = 10_000

// Label returns the value of the label of that name, or "".
func Label(s metrics.Sample, name string) string {
	for _, l := range s.Labels {
		if l.Name == name {
			return l.Value
		}
	}
	return ""
}

// id returns the text that identifies the series in its family.
func id(s metrics.Sample) string { return fmt.Sprintf("%s%q", s.Suffix, s.Labels) }

// exposed returns the name of a family in the text.
func exposed(f metrics.Family) string {
	if f.Type == metrics.Counter {
		return f.Name + total
	}
	return f.Name
}

// total is the suffix of counters.
const total = "_total"

// Write writes the families, in order of their names, without those that have no sample.
func Write(w io.Writer, all []metrics.Family) error {
	all = slices.DeleteFunc(slices.Clone(all), func(f metrics.Family) bool { return len(f.Samples) == 0 })
	slices.SortFunc(all, func(a, b metrics.Family) int { return cmp.Compare(exposed(a), exposed(b)) })
	return metrics.Snapshot{Families: all}.Write(w, metrics.Text)
}

// Merge adds the samples of more to those of all: it adds counters and histograms, and
// replaces gauges. Above MaxSeries, samples of new series are counted under the operation
// other, and left out if they are of no operation. An error is about two types of one name.
func Merge(all, more []metrics.Family) ([]metrics.Family, error) { return merge(all, more, false) }

// Replace is Merge that replaces counters and histograms, too.
func Replace(all, more []metrics.Family) ([]metrics.Family, error) { return merge(all, more, true) }

func merge(all, more []metrics.Family, replace bool) ([]metrics.Family, error) {
	series, at := 0, map[string]int{}
	for i, f := range all {
		series += len(f.Samples)
		at[f.Name] = i
	}
	for _, f := range more {
		i, known := at[f.Name]
		if !known {
			i = len(all)
			at[f.Name] = i
			all = append(all, metrics.Family{Name: f.Name, Type: f.Type, Unit: f.Unit})
		}
		if all[i].Type != f.Type {
			return nil, fmt.Errorf("%s is a %s there, and a %s here", f.Name, all[i].Type, f.Type)
		}
		all[i].Help = f.Help
		series += mergeSamples(&all[i], f.Samples, MaxSeries-series, replace)
	}
	return all, nil
}

// mergeSamples adds samples to f, or replaces those of f, at most room of them as new series, and
// returns how many are new.
func mergeSamples(f *metrics.Family, samples []metrics.Sample, room int, replace bool) (added int) {
	at := make(map[string]int, len(f.Samples))
	for i, s := range f.Samples {
		at[id(s)] = i
	}
	for _, s := range samples {
		i, known := at[id(s)]
		if !known && added >= room {
			s.Labels = folded(s.Labels)
			i, known = at[id(s)]
		}
		switch {
		case known && (replace || f.Type == metrics.Gauge):
			f.Samples[i].Value = s.Value
		case known:
			f.Samples[i].Value += s.Value
		case added < room+reserve(s):
			at[id(s)] = len(f.Samples)
			f.Samples = append(f.Samples, s)
			added++
		}
	}
	return added
}

// reserve lets the operation other have its series above the limit: they are few.
func reserve(s metrics.Sample) int {
	if slices.Contains(s.Labels, metrics.Label{Name: "operation", Value: other}) {
		return MaxSeries
	}
	return 0
}

// other is the operation under which everything beyond a limit is counted.
const other = "other"

// folded returns labels with the operation other and no key. Labels without an operation
// are returned as they are.
func folded(labels []metrics.Label) []metrics.Label {
	if !slices.ContainsFunc(labels, func(l metrics.Label) bool { return l.Name == "operation" }) {
		return labels
	}
	labels = slices.Clone(labels)
	for i := range labels {
		switch labels[i].Name {
		case "operation":
			labels[i].Value = other
		case "key":
			labels[i].Value = ""
		}
	}
	return labels
}
