package metrics

import (
	"io"
	"math"
	"strconv"
	"strings"
)

// A Format is a text format of Prometheus.
type Format int

// The formats.
const (
	Text        Format = iota // text format 0.0.4, as for the textfile collector
	OpenMetrics               // OpenMetrics 1.0
)

// ContentType returns the media type of the format.
func (f Format) ContentType() string {
	if f == OpenMetrics {
		return "application/openmetrics-text; version=1.0.0; charset=utf-8"
	}
	return "text/plain; version=0.0.4; charset=utf-8"
}

// Write writes s to w in the format. The error is that of w.
func (s Snapshot) Write(w io.Writer, format Format) error {
	var b strings.Builder
	for _, f := range s.Families {
		f.write(&b, format)
	}
	if format == OpenMetrics {
		b.WriteString("# EOF\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (f *Family) write(b *strings.Builder, format Format) {
	name := f.Name
	if format == Text && f.Type == Counter {
		name += "_total"
	}
	b.WriteString("# HELP " + name + " " + escape(f.Help, format == OpenMetrics) + "\n")
	b.WriteString("# TYPE " + name + " " + string(f.Type) + "\n")
	if format == OpenMetrics && f.Unit != "" {
		b.WriteString("# UNIT " + name + " " + f.Unit + "\n")
	}
	for _, s := range f.Samples {
		b.WriteString(f.Name)
		b.WriteString(s.Suffix)
		for i, l := range s.Labels {
			b.WriteByte("{,"[min(i, 1)])
			b.WriteString(l.Name)
			b.WriteString(`="`)
			b.WriteString(escape(l.text(format), true))
			b.WriteByte('"')
		}
		if len(s.Labels) > 0 {
			b.WriteByte('}')
		}
		b.WriteByte(' ')
		b.WriteString(number(s.Value))
		b.WriteByte('\n')
	}
}

// text returns the value of the label: the bound of a bucket is a float in OpenMetrics.
func (l Label) text(format Format) string {
	if l.Name == "le" && format == OpenMetrics && !strings.Contains(l.Value, "Inf") {
		return l.Value + ".0"
	}
	return l.Value
}

// escape returns s as the text of a label, with quotes escaped, or of a help.
func escape(s string, quotes bool) string {
	if !strings.ContainsAny(s, "\\\n\"") {
		return s
	}
	s = strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), "\n", `\n`)
	if quotes {
		s = strings.ReplaceAll(s, `"`, `\"`)
	}
	return s
}

// number returns v without an exponent if it is a count.
func number(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
		return strconv.FormatInt(int64(v), 10)
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}
