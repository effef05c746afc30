package promtext_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/promtext"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
	"github.com/seed-0f2c7998/perdure/metrics"
)

// labels returns labels from pairs of a name and a value.
func labels(pairs ...string) (all []metrics.Label) {
	for pair := range slices.Chunk(pairs, 2) {
		all = append(all, metrics.Label{Name: pair[0], Value: pair[1]})
	}
	return all
}

// calls returns a counter, a gauge and a histogram with those values.
func calls(operation string, n float64) []metrics.Family {
	of := func(suffix string, pairs ...string) metrics.Sample {
		return metrics.Sample{Suffix: suffix, Labels: labels(pairs...), Value: n}
	}
	return []metrics.Family{
		{Name: "perdure_calls", Help: "Calls, by outcome.", Type: metrics.Counter, Samples: []metrics.Sample{
			of("_total", "operation", operation, "key", "k", "outcome", "success"),
		}},
		{Name: "perdure_gate_pace", Help: "Pace.", Type: metrics.Gauge, Samples: []metrics.Sample{of("", "key", "k")}},
		{Name: "perdure_call_retries", Help: "Retries a call.", Type: metrics.Histogram, Samples: []metrics.Sample{
			of("_bucket", "operation", operation, "le", "+Inf"), of("_sum"), of("_count"),
		}},
	}
}

// one is what a process adds that has made one call.
func one() (counted, shared []metrics.Family, err error) { return calls("a", 1), nil, nil }

func text(t *testing.T, all []metrics.Family) string {
	t.Helper()
	var b strings.Builder
	if err := promtext.Write(&b, all); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// What was written is read as it was, whatever the values of labels contain.
func TestWhatIsWrittenIsRead(t *testing.T) {
	random := rand.New(rand.NewPCG(testseed.Of(t, 1), 0))
	alphabet := []rune("ab\\\"\n{},= \x00é\u2028")
	for range 500 {
		value := make([]rune, random.IntN(12))
		for i := range value {
			value[i] = alphabet[random.IntN(len(alphabet))]
		}
		written := text(t, calls(string(value), float64(random.Uint64N(1<<53))))
		read, err := promtext.Parse(written)
		if err != nil {
			t.Fatalf("label %q: %v in\n%s", string(value), err, written)
		}
		if again := text(t, read); again != written {
			t.Fatalf("label %q: read and written again\n%swant\n%s", string(value), again, written)
		}
	}
}

// Counters and histograms add up, gauges have the last value.
func TestMerge(t *testing.T) {
	all, err := promtext.Merge(nil, calls("a", 2))
	if err == nil {
		all, err = promtext.Merge(all, calls("b", 1))
	}
	if err == nil {
		all, err = promtext.Merge(all, calls("a", 5))
	}
	got := text(t, all)
	for _, want := range []string{
		`perdure_calls_total{operation="a",key="k",outcome="success"} 7`,
		`perdure_calls_total{operation="b",key="k",outcome="success"} 1`,
		`perdure_gate_pace{key="k"} 5`,
		`perdure_call_retries_bucket{operation="a",le="+Inf"} 7`,
		`perdure_call_retries_count 8`,
	} {
		if err != nil || !strings.Contains(got, want+"\n") {
			t.Errorf("error %v, no %s in\n%s", err, want, got)
		}
	}
	if _, err := promtext.Merge(all, []metrics.Family{{Name: "perdure_gate_pace", Type: metrics.Counter}}); err == nil {
		t.Error("no error for a gauge that becomes a counter")
	}
}

// Beyond the limit, what is new is counted under the operation other; nothing is lost.
func TestMergeBeyondTheLimit(t *testing.T) {
	var all []metrics.Family
	for n := range promtext.MaxSeries + 5 {
		var err error
		c := metrics.Family{Name: "perdure_calls", Type: metrics.Counter, Help: "Calls.", Samples: []metrics.Sample{
			{Suffix: "_total", Labels: labels("operation", fmt.Sprint("op", n), "key", fmt.Sprint("k", n)), Value: 1},
		}}
		if n == 0 || n >= promtext.MaxSeries-1 { // one by one around the limit
			all, err = promtext.Merge(all, []metrics.Family{c})
		} else {
			all[0].Samples = append(all[0].Samples, c.Samples...)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := text(t, all); !strings.Contains(got, `perdure_calls_total{operation="other",key=""} 5`+"\n") || len(all[0].Samples) != promtext.MaxSeries+1 {
		t.Errorf("%d series, the last ones %s", len(all[0].Samples), got[len(got)-200:])
	}
}

const header = "# Metrics of perdure. Processes add to this file: see perdure run --metrics-file.\n"

// A file that is not ours, or damaged, is refused with a reason, and left as it is.
func TestFilesThatAreRefused(t *testing.T) {
	help := "# HELP perdure_calls_total Calls.\n# TYPE perdure_calls_total counter\n"
	for content, want := range map[string]string{
		"node_load1 0.5\n":                                                                 "is not a metrics file of perdure",
		"#!/bin/sh\n":                                                                      "is not a metrics file of perdure",
		header + "node_load1 0.5\n":                                                        "before the first # TYPE",
		header + "# HELP node_load1 Load.\n":                                               "is no metric of perdure",
		header + help + "perdure_calls_total 1":                                            "last line is cut",
		header + help + "perdure_calls_total\n":                                            "a sample that is none of perdure_calls_total",
		header + help + "perdure_calls_total -1\n":                                         "with the value -1",
		header + help + "perdure_calls_total NaN\n":                                        "has no number",
		header + help + "perdure_calls_total 1 123\n":                                      "has no number",
		header + help + "perdure_calls_total{a=\"b} 1\n":                                   "labels that are cut",
		header + help + "perdure_other_total 1\n":                                          "a sample that is none of perdure_calls_total",
		header + help + "perdure_calls_total 1\nperdure_calls_total 2\n":                   "there twice",
		header + help + help:                                                               "there twice",
		header + "# TYPE perdure_calls_total counter\n":                                    "without its HELP",
		header + "# HELP perdure_x X.\n# TYPE perdure_x summary\n":                         `has the type "summary"`,
		header + "# HELP perdure_x X.\n# TYPE perdure_x counter\n":                         `perdure_x has the type "counter"`,
		header + "# HELP perdure_x_total X.\n# TYPE perdure_x_total gauge\n":               `perdure_x_total has the type "gauge"`,
		header + strings.Repeat("# "+strings.Repeat("x", 1022)+"\n", promtext.MaxSize>>10): "is larger than",
	} {
		path := filepath.Join(t.TempDir(), "perdure.prom")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		short := content[:min(len(content), 200)]
		if err := promtext.Check(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", short, err, want)
		}
		if err := promtext.AddTo(t.Context(), path, one); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", short, err, want)
		}
		if now, err := os.ReadFile(path); err != nil || string(now) != content {
			t.Errorf("%q: the file was changed", short)
		}
	}
}

// Nothing is lost when many add at the same time, and a reader always sees a whole file.
func TestManyAddAtTheSameTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "perdure.prom")
	ctx, stop := context.WithCancel(t.Context())
	var readers, writers sync.WaitGroup
	readers.Go(func() {
		for ctx.Err() == nil {
			if err := promtext.Check(path); err != nil {
				t.Errorf("a reader: %v", err)
			}
		}
	})
	const processes, times = 8, 10
	for range processes {
		writers.Go(func() {
			for range times {
				if err := promtext.AddTo(ctx, path, one); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	stop()
	readers.Wait()
	content, err := os.ReadFile(path)
	want := fmt.Sprintf("perdure_calls_total{operation=\"a\",key=\"k\",outcome=\"success\"} %d\n", processes*times)
	if err != nil || !strings.Contains(string(content), want) {
		t.Errorf("error %v, no %s in\n%s", err, want, content)
	}
}

// What a killed process has left is no obstacle, and ends with the next one.
func TestRestsOfAKilledProcess(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "perdure.prom")
	for _, rest := range []string{".perdure.prom.tmp", ".perdure.prom.lock"} {
		if err := os.WriteFile(filepath.Join(dir, rest), []byte("half a li"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := promtext.AddTo(t.Context(), path, one); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, ".perdure.prom.tmp")); !os.IsNotExist(err) {
		t.Errorf("the temporary file is still there: %v", err)
	}
}

// No text makes Parse panic, and what it accepts it reads again as the same.
func FuzzParse(f *testing.F) {
	f.Add("# HELP perdure_x X.\n# TYPE perdure_x gauge\nperdure_x{a=\"\\\\\\n\\\"\"} 1\n")
	f.Add("# HELP perdure_x X.\n# TYPE perdure_x histogram\nperdure_x_bucket{le=\"+Inf\"} 1e3\nperdure_x_sum 1\n")
	f.Fuzz(func(t *testing.T, content string) {
		all, err := promtext.Parse(content)
		if err != nil {
			return
		}
		written := text(t, all)
		again, err := promtext.Parse(written)
		if err != nil || text(t, again) != written {
			t.Errorf("%q is read as\n%s and that not: %v", content, written, err)
		}
	})
}
