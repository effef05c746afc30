package metrics_test

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/fallback"
	"github.com/seed-0f2c7998/perdure/metrics"
	"github.com/seed-0f2c7998/perdure/retry"
)

var update = flag.Bool("update", false, "write the golden files")

// morning runs operations that set every metric except those of HTTP.
func morning(t *testing.T, r *metrics.Registry) {
	t.Helper()
	quiet := func(context.Context, retry.Event) {}
	log := func(context.Context, circuit.Transition) {}
	fetch := retry.Policy{Name: "fetch", BaseDelay: time.Second, Jitter: retry.NoJitter, Observe: quiet, Metrics: r}
	fetch.Breaker = circuit.New("stations", circuit.Config{Budget: 10, Observe: log, RecoveryTimeout: 30 * time.Second})
	failing := func(n int, err error) func(context.Context) error {
		return func(context.Context) error {
			if n--; n >= 0 {
				return err
			}
			return nil
		}
	}
	for _, f := range []func(context.Context) error{
		failing(0, nil), failing(1, retry.Transient(errDown)), failing(1, retry.After(errDown, 5*time.Second)),
		failing(1, retry.Permanent(errDown)), failing(9, retry.Transient(errDown)), failing(9, retry.Transient(errDown)),
		failing(9, retry.Transient(errDown)), failing(9, retry.Transient(errDown)), failing(0, nil),
	} {
		_ = retry.Do(t.Context(), &fetch, f)
	}
	load := retry.Policy{Name: "load", Metrics: r, Observe: quiet, BaseDelay: time.Second, Jitter: retry.NoJitter}
	load.Breaker = circuit.New("lake", circuit.Config{Gate: circuit.Wait, Rate: 1000, Burst: 1000, Observe: log})
	for range 3 {
		_ = retry.Do(t.Context(), &load, failing(4, retry.Transient(errDown)))
	}
	prices := fallback.Policy{Name: "prices", Metrics: r, Observe: func(context.Context, fallback.Event) {}}
	for _, n := range []int{0, 1, 2} { // not called, called, failed
		f := failing(n, retry.Transient(errDown))
		_ = fallback.Do(t.Context(), &prices, f, func(ctx context.Context, _ error) error { return f(ctx) })
	}
	<-time.After(10 * time.Second)
}

// page returns what r exposes in the format.
func page(t *testing.T, s metrics.Snapshot, format metrics.Format) string {
	t.Helper()
	var b strings.Builder
	if err := s.Write(&b, format); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The text of both formats is that of the golden files: names, labels and order are stable.
func TestGolden(t *testing.T) {
	for format, name := range map[metrics.Format]string{metrics.Text: "text.txt", metrics.OpenMetrics: "openmetrics.txt"} {
		synctest.Test(t, func(t *testing.T) {
			var r metrics.Registry
			morning(t, &r)
			got := page(t, r.Snapshot(), format)
			file := filepath.Join("testdata", name)
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil { //nolint:gosec // a test's data
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("%s is not what is exposed (go test ./metrics -update writes it):\n%s", file, got)
			}
		})
	}
}

var (
	header = regexp.MustCompile(`^# (HELP|TYPE|UNIT) ([a-z_]+) (.*)$`)
	sample = regexp.MustCompile(`^([a-z_]+)(?:\{(.*)\})? (\S+)$`)
	label  = regexp.MustCompile(`^([a-z]+)="((?:[^"\\\n]|\\["\\n])*)"(,|$)`)
)

// A reader is a strict parser of both formats.
type reader struct {
	t             *testing.T
	format        metrics.Format
	name, is      string // of the family
	unit          string
	families      map[string]bool
	series        map[string]float64
	bucket, infty float64 // of the histogram that is being read
	seen          bool    // a sample of the family
}

// read parses text and returns the value of each series by name and labels, which are
// unescaped.
func read(t *testing.T, text string, format metrics.Format) map[string]float64 {
	t.Helper()
	r := reader{t: t, format: format, families: map[string]bool{}, series: map[string]float64{}}
	if format == metrics.OpenMetrics {
		rest, ok := strings.CutSuffix(text, "# EOF\n")
		if text = rest; !ok {
			t.Error("the text does not end with # EOF")
		}
	}
	if !utf8.ValidString(text) || !strings.HasSuffix(text, "\n") {
		t.Error("the text is not valid UTF-8 with whole lines")
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if m := header.FindStringSubmatch(line); m != nil {
			r.header(m[1], m[2], m[3])
		} else if m := sample.FindStringSubmatch(line); m != nil {
			r.sample(m[1], m[2], m[3])
		} else {
			t.Errorf("not a line of the format: %q", line)
		}
	}
	return r.series
}

func (r *reader) header(what, name, text string) {
	switch {
	case what == "HELP":
		if r.families[name] {
			r.t.Errorf("the family %s comes twice", name)
		}
		r.name, r.is, r.unit, r.families[name], r.seen = name, "", "", true, false
	case name != r.name || r.seen:
		r.t.Errorf("%s of %s within %s", what, name, r.name)
	case what == "TYPE":
		r.is = text
	case r.format == metrics.Text:
		r.t.Errorf("the text format has no %s", what)
	default:
		r.unit = text
		if !strings.HasSuffix(name, "_"+text) {
			r.t.Errorf("%s has the unit %s", name, text)
		}
	}
}

func (r *reader) sample(name, labels, value string) {
	r.seen = true
	suffix, ok := strings.CutPrefix(name, r.name)
	allowed := map[string][]string{"counter": {"_total"}, "gauge": {""}, "histogram": {"_bucket", "_sum", "_count"}}[r.is]
	if r.format == metrics.Text && r.is == "counter" {
		allowed = []string{""}
		if !strings.HasSuffix(name, "_total") {
			r.t.Errorf("the counter %s has no suffix _total", name)
		}
	}
	if !ok || !slices.Contains(allowed, suffix) {
		r.t.Errorf("%s is no sample of the %s %s", name, r.is, r.name)
	}
	v, err := strconv.ParseFloat(value, 64)
	if err != nil || math.IsNaN(v) || v < 0 {
		r.t.Errorf("%s has the value %s", name, value)
	}
	id, names := name, map[string]bool{}
	for labels != "" {
		m := label.FindStringSubmatch(labels)
		if m == nil {
			r.t.Errorf("%s: not labels: %s", name, labels)
			return
		}
		if names[m[1]] {
			r.t.Errorf("%s has %s twice", name, m[1])
		}
		names[m[1]] = true
		id += " " + strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\"`, `"`).Replace(m[2])
		labels = labels[len(m[0]):]
		if m[3] == "," && labels == "" {
			r.t.Errorf("%s: a comma after the last label", name)
		}
	}
	if _, twice := r.series[id]; twice {
		r.t.Errorf("%q comes twice", id)
	}
	r.series[id] = v
	r.histogram(id, suffix, v)
}

// histogram checks that buckets grow, and that the last is the count.
func (r *reader) histogram(id, suffix string, v float64) {
	switch {
	case suffix == "_bucket" && v < r.bucket:
		r.t.Errorf("%q is less than the bucket before it", id)
	case suffix == "_bucket" && strings.HasSuffix(id, " +Inf"):
		r.bucket, r.infty = 0, v
	case suffix == "_bucket":
		r.bucket = v
	case suffix == "_count" && v != r.infty:
		r.t.Errorf("%q is not the bucket +Inf, %v", id, r.infty)
	}
}

// A strict parser reads from both formats exactly the values of the Snapshot, also those
// with hostile labels.
func TestFormatsAreStrict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r metrics.Registry
		morning(t, &r)
		for _, name := range []string{"a\"b", `back\slash\n`, "new\nline", "\xff\xfe", "", "ümlaut 統計", "x{y=\"z\"} 1\n# EOF"} {
			p := retry.Policy{Name: name, Metrics: &r, Breaker: circuit.New("of "+name, circuit.Config{})}
			if err := retry.Do(t.Context(), &p, func(context.Context) error { return nil }); err != nil {
				t.Fatal(err)
			}
		}
		s := r.Snapshot()
		for _, format := range []metrics.Format{metrics.Text, metrics.OpenMetrics} {
			got := read(t, page(t, s, format), format)
			want := map[string]float64{}
			for _, f := range s.Families {
				for _, sample := range f.Samples {
					id := f.Name + sample.Suffix
					for _, l := range sample.Labels {
						id += " " + l.Value
						if l.Name == "le" && l.Value != "+Inf" && format == metrics.OpenMetrics {
							id += ".0"
						}
					}
					want[id] = sample.Value
				}
			}
			if !maps.Equal(got, want) {
				t.Errorf("format %d: read\n%v\nof\n%v", format, got, want)
			}
		}
	})
}

// No label has a secret of a name, in any format.
func TestLabelsHaveNoSecrets(t *testing.T) {
	var r metrics.Registry
	for _, secret := range []string{
		"https://user:hunter2secret@host/path", "https://host/x?X-Amz-Signature=hunter2secret&a=b", "get Authorization: Bearer hunter2secret",
		"https://host/?token=hunter2secret", "postgres://app:hunter2secret@db/app", "x-amz-security-token: hunter2secret",
		strings.Repeat("x", 780) + " https://host/?token=hunter2secrethunter2secrethunter2secret",
	} {
		p := retry.Policy{Name: secret, Metrics: &r, Breaker: circuit.New(secret, circuit.Config{})}
		if err := retry.Do(t.Context(), &p, func(context.Context) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if got := page(t, r.Snapshot(), metrics.Text); strings.Contains(got, "hunter2") {
			t.Fatalf("the name %q is exposed as\n%s", secret, got)
		}
	}
}

func TestContentNegotiation(t *testing.T) {
	const plain, open = "text/plain; version=0.0.4; charset=utf-8", "application/openmetrics-text; version=1.0.0; charset=utf-8"
	for _, c := range []struct{ accept, want string }{
		{"", plain},
		{"*/*", plain},
		{"text/html", plain},
		{"text/plain", plain},
		{"application/openmetrics-text", open},
		{"application/openmetrics-text; version=1.0.0; charset=utf-8", open},
		{"application/openmetrics-text;version=2.0.0", plain},
		{"application/openmetrics-text;q=0", plain},
		{"text/plain;q=0.9, application/openmetrics-text;q=0.3", plain},
		{"application/openmetrics-text;q=x", plain},
		// what Prometheus 2 and 3 send
		{"application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", open},
		{"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2", open},
	} {
		req := httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil)
		if c.accept != "" {
			req.Header.Set("Accept", c.accept)
		}
		w := httptest.NewRecorder()
		metrics.Handler().ServeHTTP(w, req)
		if got := w.Header().Get("Content-Type"); got != c.want || w.Code != 200 {
			t.Errorf("Accept %q: status %d, %s, want %s", c.accept, w.Code, got, c.want)
		}
		if eof := strings.HasSuffix(w.Body.String(), "# EOF\n"); eof != (c.want == open) {
			t.Errorf("Accept %q: ends with # EOF: %v", c.accept, eof)
		}
	}
	w := httptest.NewRecorder()
	metrics.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "POST", "/metrics", nil))
	if w.Code != 405 || w.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: status %d, Allow %q", w.Code, w.Header().Get("Allow"))
	}
}

// The table of docs/metrics.md has each metric with its type, unit and labels.
func TestDocsListTheMetrics(t *testing.T) {
	text, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(perdure_[a-z_]+)` \\| (\\w+) \\| (\\w*) ?\\| (.*) \\|$").FindAllStringSubmatch(string(text), -1) {
		rows[m[1]] = m[2:]
	}
	exposed := map[string]bool{}
	synctest.Test(t, func(t *testing.T) {
		var r metrics.Registry
		morning(t, &r)
		s := r.Snapshot()
		all := circuit.Metrics{Budgeted: true, Gated: true, Attempts: circuit.Attempts{Success: 1}, Refused: circuit.Refused{Open: 1}}
		s.AddBreaker("all", all)
		for _, f := range s.Families {
			name := f.Name
			if f.Type == metrics.Counter {
				name += "_total"
			}
			exposed[name] = true
			row := rows[name]
			if row == nil || row[0] != string(f.Type) || row[1] != f.Unit {
				t.Errorf("docs/metrics.md has %q for the %s %s in %q", row, f.Type, name, f.Unit)
				continue
			}
			for _, sample := range f.Samples {
				for _, l := range sample.Labels {
					values, ok := strings.CutPrefix(row[2][max(0, strings.Index(row[2], "`"+l.Name+"`")):], "`"+l.Name+"`")
					if listed, _, _ := strings.Cut(values, ";"); !ok || strings.HasPrefix(values, ":") && l.Name != "reason" && !strings.Contains(listed, l.Value) {
						t.Errorf("docs/metrics.md does not have %s=%q of %s", l.Name, l.Value, name)
					}
				}
			}
		}
	})
	for name := range rows {
		if !exposed[name] && !strings.Contains(name, "hedge") && !strings.Contains(name, "resume") { // see httpretry
			t.Errorf("docs/metrics.md has %s, which nothing exposes", name)
		}
	}
	if len(rows) < 20 {
		t.Error(fmt.Sprint("only ", len(rows), " rows were read"))
	}
}
