package promtext

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-0f2c7998/perdure/metrics"
)

// Own begins the names of all metrics of perdure.
const Own = "perdure_"

// Parse reads what Write has written. It accepts metrics of perdure alone, and each series
// once. An error names the line.
func Parse(text string) ([]metrics.Family, error) {
	if text != "" && !strings.HasSuffix(text, "\n") {
		return nil, errors.New("its last line is cut")
	}
	p := parser{seen: map[string]bool{}}
	for n, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if err := p.line(line); err != nil {
			return nil, fmt.Errorf("line %d: %w", n+1, err)
		}
	}
	return p.all, nil
}

// A parser reads line after line.
type parser struct {
	all  []metrics.Family
	seen map[string]bool // names of families, and series
}

func (p *parser) line(line string) error {
	switch kind, rest, _ := strings.Cut(line, " "); {
	case line == "":
		return nil
	case kind == "#":
		return p.comment(rest)
	}
	if len(p.all) == 0 {
		return errors.New("a sample before the first # TYPE")
	}
	if len(p.seen) > 2*MaxSeries {
		return fmt.Errorf("more than %d series", MaxSeries)
	}
	f := &p.all[len(p.all)-1]
	s, err := sample(f, line)
	if err != nil {
		return err
	}
	series := f.Name + id(s)
	if p.seen[series] {
		return errors.New("a series that is there twice: " + series)
	}
	p.seen[series] = true
	f.Samples = append(f.Samples, s)
	return nil
}

// comment reads a HELP or TYPE. Other comments are skipped.
func (p *parser) comment(rest string) error {
	kind, rest, _ := strings.Cut(rest, " ")
	name, text, _ := strings.Cut(rest, " ")
	if kind != "HELP" && kind != "TYPE" {
		return nil
	}
	if !strings.HasPrefix(name, Own) || !isName(name) {
		return fmt.Errorf("%q is no metric of perdure", name)
	}
	if kind == "HELP" {
		if p.seen[name] {
			return errors.New("a metric that is there twice: " + name)
		}
		p.seen[name] = true
		p.all = append(p.all, metrics.Family{Name: name, Help: strings.NewReplacer(`\\`, `\`, `\n`, "\n").Replace(text)})
		return nil
	}
	if n := len(p.all); n == 0 || p.all[n-1].Name != name || p.all[n-1].Type != "" {
		return errors.New("a TYPE without its HELP before it: " + name)
	}
	kindOf := metrics.Type(text)
	if !slices.Contains([]metrics.Type{metrics.Counter, metrics.Gauge, metrics.Histogram}, kindOf) ||
		(kindOf == metrics.Counter) != strings.HasSuffix(name, total) {
		return fmt.Errorf("%s has the type %q", name, text)
	}
	p.all[len(p.all)-1].Name, p.all[len(p.all)-1].Type = strings.TrimSuffix(name, total), kindOf
	return nil
}

// suffixes returns those that the samples of a family of that type may have.
func suffixes(t metrics.Type) []string {
	switch t {
	case metrics.Counter:
		return []string{total}
	case metrics.Histogram:
		return []string{"_bucket", "_sum", "_count"}
	default:
		return []string{""}
	}
}

// sample reads the line of a sample of f.
func sample(f *metrics.Family, line string) (s metrics.Sample, err error) {
	rest, ok := strings.CutPrefix(line, f.Name)
	s.Suffix = rest[:max(strings.IndexAny(rest, "{ "), 0)]
	rest = rest[len(s.Suffix):]
	if !ok || f.Type == "" || !slices.Contains(suffixes(f.Type), s.Suffix) {
		return s, fmt.Errorf("a sample that is none of %s", exposed(*f))
	}
	if strings.HasPrefix(rest, "{") {
		if s.Labels, rest, err = readLabels(rest[1:]); err != nil {
			return s, err
		}
	}
	text, ok := strings.CutPrefix(rest, " ")
	s.Value, err = strconv.ParseFloat(text, 64)
	if !ok || err != nil || math.IsNaN(s.Value) {
		return s, fmt.Errorf("%s has no number", exposed(*f))
	}
	if f.Type != metrics.Gauge && (s.Value < 0 || math.IsInf(s.Value, 0)) {
		return s, fmt.Errorf("%s is a %s with the value %s", exposed(*f), f.Type, text)
	}
	return s, nil
}

// readLabels reads labels up to the closing brace, and returns the text after it.
func readLabels(text string) (labels []metrics.Label, rest string, err error) {
	bad := errors.New("labels that are cut or not quoted")
	for {
		name, after, ok := strings.Cut(text, `="`)
		if !ok || !isName(name) || len(labels) > 20 {
			return nil, "", bad
		}
		value, after, ok := readValue(after)
		if !ok || after == "" {
			return nil, "", bad
		}
		labels = append(labels, metrics.Label{Name: name, Value: value})
		next := after[0]
		text = after[1:]
		if next == '}' {
			return labels, text, nil
		}
		if next != ',' {
			return nil, "", bad
		}
	}
}

// readValue reads the value of a label up to its closing quote.
func readValue(text string) (value, rest string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			return b.String(), text[i+1:], true
		case c == '\\' && i+1 < len(text):
			i++
			if text[i] == 'n' {
				b.WriteByte('\n')
			} else {
				b.WriteByte(text[i])
			}
		default:
			b.WriteByte(c)
		}
	}
	return "", "", false
}

func isName(name string) bool {
	for i, c := range []byte(name) {
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}
