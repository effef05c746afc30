// Package promtext reads, adds and writes metrics in Prometheus' text format 0.0.4: those of
// perdure itself, in a file that many processes add to.
package promtext

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// The types of a Family.
const (
	Counter   = "counter"
	Gauge     = "gauge"
	Histogram = "histogram"
)

// MaxSeries is the maximum number of series of one file.
const MaxSeries = 10_000

// A Family is the samples of one metric.
type Family struct {
	Name, Help, Type string
	Samples          []Sample
}

// A Sample is the value of one series.
type Sample struct {
	Suffix string // of a histogram: _bucket, _sum or _count; else ""
	Labels []Label
	Value  float64
}

// A Label is a name with its value.
type Label struct{ Name, Value string }

// Labels returns labels from pairs of a name and a value.
func Labels(pairs ...string) []Label {
	var all []Label
	for i := 0; i+1 < len(pairs); i += 2 {
		all = append(all, Label{pairs[i], pairs[i+1]})
	}
	return all
}

// Add appends a sample to the family.
func (f *Family) Add(value float64, labels ...string) {
	f.Samples = append(f.Samples, Sample{Labels: Labels(labels...), Value: value})
}

// Label returns the value of the label of that name, or "".
func (s Sample) Label(name string) string {
	for _, l := range s.Labels {
		if l.Name == name {
			return l.Value
		}
	}
	return ""
}

// id returns the text that identifies the series in its family.
func (s Sample) id() string { return s.Suffix + labelText(s.Labels) }

func labelText(labels []Label) string {
	if len(labels) == 0 {
		return ""
	}
	parts := make([]string, len(labels))
	for i, l := range labels {
		parts[i] = l.Name + `="` + escapes().Replace(l.Value) + `"`
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func escapes() *strings.Replacer { return strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`) }

// Write writes the families, in order of their names, without those that have no sample.
func Write(w io.Writer, all []Family) error {
	var b strings.Builder
	for _, f := range slices.SortedFunc(slices.Values(all), func(a, b Family) int { return cmp.Compare(a.Name, b.Name) }) {
		if len(f.Samples) == 0 {
			continue
		}
		help := strings.NewReplacer(`\`, `\\`, "\n", `\n`).Replace(f.Help)
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", f.Name, help, f.Name, f.Type)
		for _, s := range f.Samples {
			fmt.Fprintf(&b, "%s%s %s\n", f.Name, s.id(), strconv.FormatFloat(s.Value, 'g', -1, 64))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Merge adds the samples of more to those of all: it adds counters and histograms, and
// replaces gauges. Above MaxSeries, samples of new series are counted under the operation
// other, and left out if they are of no operation. An error is about two types of one name.
func Merge(all, more []Family) ([]Family, error) { return merge(all, more, false) }

// Replace is Merge that replaces counters and histograms, too.
func Replace(all, more []Family) ([]Family, error) { return merge(all, more, true) }

func merge(all, more []Family, replace bool) ([]Family, error) {
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
			all = append(all, Family{Name: f.Name, Type: f.Type})
		}
		if all[i].Type != f.Type {
			return nil, fmt.Errorf("%s is a %s there, and a %s here", f.Name, all[i].Type, f.Type)
		}
		all[i].Help = f.Help
		series += all[i].merge(f.Samples, MaxSeries-series, replace)
	}
	return all, nil
}

// merge adds samples to f, or replaces those of f, at most room of them as new series, and
// returns how many are new.
func (f *Family) merge(samples []Sample, room int, replace bool) (added int) {
	at := make(map[string]int, len(f.Samples))
	for i, s := range f.Samples {
		at[s.id()] = i
	}
	for _, s := range samples {
		i, known := at[s.id()]
		if !known && added >= room {
			s.Labels = folded(s.Labels)
			i, known = at[s.id()]
		}
		switch {
		case known && (replace || f.Type == Gauge):
			f.Samples[i].Value = s.Value
		case known:
			f.Samples[i].Value += s.Value
		case added < room+reserve(s):
			at[s.id()] = len(f.Samples)
			f.Samples = append(f.Samples, s)
			added++
		}
	}
	return added
}

// reserve lets the operation other have its series above the limit: they are few.
func reserve(s Sample) int {
	if slices.Contains(s.Labels, Label{"operation", other}) {
		return MaxSeries
	}
	return 0
}

// other is the operation under which everything beyond a limit is counted.
const other = "other"

// folded returns labels with the operation other and no key. Labels without an operation
// are returned as they are.
func folded(labels []Label) []Label {
	if !slices.ContainsFunc(labels, func(l Label) bool { return l.Name == "operation" }) {
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
