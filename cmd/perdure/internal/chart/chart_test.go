package chart_test

import (
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/chart"
)

// An element is one of an SVG document.
type element struct {
	name, text string
	attributes map[string]string
}

// parse returns the elements of a chart that has been drawn, which must be XML.
func parse(t *testing.T, doc string) []element {
	t.Helper()
	var all []element
	var open []int
	d := xml.NewDecoder(strings.NewReader(doc))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("%v in %s", err, doc)
		}
		switch token := token.(type) {
		case xml.StartElement:
			e := element{name: token.Name.Local, attributes: map[string]string{}}
			for _, a := range token.Attr {
				e.attributes[a.Name.Local] = a.Value
			}
			open = append(open, len(all))
			all = append(all, e)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			if len(open) > 0 {
				all[open[len(open)-1]].text += string(token)
			}
		}
	}
}

func draw(t *testing.T, c chart.Chart) []element {
	t.Helper()
	var b strings.Builder
	if err := c.SVG(&b); err != nil {
		t.Fatal(err)
	}
	return parse(t, b.String())
}

// texts returns the texts of that class, one a line.
func texts(all []element, class string) string {
	var found []string
	for _, e := range all {
		if e.name == "text" && e.attributes["class"] == class {
			found = append(found, e.text)
		}
	}
	return strings.Join(found, " | ")
}

func TestTicks(t *testing.T) {
	for _, row := range []struct {
		axis chart.Axis
		want string
	}{
		{chart.Axis{}, "0.0 | 0.2 | 0.4 | 0.6 | 0.8 | 1.0"},
		{chart.Axis{Max: 22}, "0 | 5 | 10 | 15 | 20"},
		{chart.Axis{Max: 8000}, "0 | 1,000 | 2,000 | 3,000 | 4,000 | 5,000 | 6,000 | 7,000 | 8,000"},
		{chart.Axis{Max: 0.034}, "0.000 | 0.005 | 0.010 | 0.015 | 0.020 | 0.025 | 0.030"},
		{chart.Axis{Max: 7e12}, "0 | 1e+12 | 2e+12 | 3e+12 | 4e+12 | 5e+12 | 6e+12 | 7e+12"},
		{chart.Axis{Max: math.Inf(1)}, "0.0 | 0.2 | 0.4 | 0.6 | 0.8 | 1.0"},
		{chart.Axis{Max: 22, Time: true}, "0s | 5s | 10s | 15s | 20s"},
		{chart.Axis{Max: 0.15, Time: true}, "0s | 20ms | 40ms | 60ms | 80ms | 100ms | 120ms | 140ms"},
		{chart.Axis{Max: 150, Time: true}, "0s | 30s | 1m | 1m30s | 2m | 2m30s"},
		{chart.Axis{Max: 20000, Time: true}, "0s | 1h | 2h | 3h | 4h | 5h"},
		{chart.Axis{Max: 20 * 86400, Time: true}, "0s | 96h | 192h | 288h | 384h | 480h"},
	} {
		if got := texts(draw(t, chart.Chart{X: row.axis}), "quiet middle"); got != row.want {
			t.Errorf("%+v: ticks %s, want %s", row.axis, got, row.want)
		}
	}
	above := chart.Chart{Lines: []chart.Line{{Points: []chart.Point{{0, 3}, {1, 1234}}}}}
	if got := texts(draw(t, above), "quiet end"); got != "0 | 500 | 1,000 | 1,500" {
		t.Errorf("the ticks of y are %s: its end must be above what is shown", got)
	}
}

var numbers = regexp.MustCompile(`-?[0-9]+(\.[0-9]+)?`)

// Whatever the values and texts are, the picture is XML that says no more than it is
// told to, and everything is within it.
func TestAnyChart(t *testing.T) {
	values := []float64{0, 1, -1, 1e-300, 1e300, 5e9, math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64}
	hostile := "a<b> & \"c\" 'd' ]]> --> </svg><script>\x00\x1b\xff\u2028\ufffe{{.}}" + strings.Repeat("w", 20_000)
	var points []chart.Point
	for _, x := range values {
		for _, y := range values {
			points = append(points, chart.Point{X: x, Y: y})
		}
	}
	for _, x := range values {
		for _, timed := range []bool{false, true} {
			lines := chart.Chart{
				Title: hostile, Text: hostile, Width: 360, X: chart.Axis{Title: hostile, Time: timed}, Y: chart.Axis{Title: hostile, Max: x, Time: timed},
				Lines: []chart.Line{{Name: hostile, Style: -3, Points: points}, {}, {Name: "c", Style: 99}},
				Bands: []chart.Band{{Name: hostile, From: x, To: 3}, {From: 0, To: x}},
			}
			rows := chart.Chart{
				Title: hostile, X: chart.Axis{Max: x, Time: timed}, Legend: []chart.Key{{Name: hostile}, {Name: "b", Dot: true}},
				Rows: []chart.Row{{Name: hostile, From: x, To: x, Dot: &x, Label: hostile}, {To: x}},
			}
			for _, c := range []chart.Chart{lines, rows} {
				inside(t, draw(t, c))
			}
		}
	}
}

// inside fails the test if an element is not one of a chart, or is outside it.
func inside(t *testing.T, all []element) {
	t.Helper()
	side := func(of string) float64 {
		x, err := strconv.ParseFloat(all[0].attributes[of], 64)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	limit := max(side("width"), side("height"))
	for _, e := range all {
		switch e.name {
		case "svg", "desc", "style", "rect", "text", "path", "circle", "title":
		default:
			t.Errorf("there is an element %q", e.name)
		}
		for _, name := range []string{"x", "y", "d", "cx", "cy", "width", "height"} {
			for _, n := range numbers.FindAllString(e.attributes[name], -1) {
				if x, err := strconv.ParseFloat(n, 64); err != nil || x < 0 || x > limit {
					t.Errorf("%s of %s is %s", name, e.name, e.attributes[name])
				}
			}
		}
	}
}

// The names of bands do not lie on each other: there are three lines for them, and no more.
func TestNamesOfBands(t *testing.T) {
	c := chart.Chart{X: chart.Axis{Max: 10}}
	for _, from := range []float64{1, 1, 1.5, 2, 8} {
		c.Bands = append(c.Bands, chart.Band{Name: "a long name", From: from, To: from + 1})
	}
	got := map[string]int{}
	for _, e := range draw(t, c) {
		if e.text == "a long name" {
			got[e.attributes["y"]]++
		}
	}
	if want := map[string]int{"29": 2, "49": 1, "69": 1}; !maps.Equal(got, want) {
		t.Errorf("the names are at the heights %v, want %v", got, want)
	}
}

// A line of very many points is drawn with a few for each pixel, and keeps its peaks.
func TestManyPoints(t *testing.T) {
	var points []chart.Point
	for i := range 200_000 {
		points = append(points, chart.Point{X: float64(i), Y: 1})
	}
	points[77_777].Y = 100
	var b strings.Builder
	c := chart.Chart{Lines: []chart.Line{{Name: "load", Points: points}}}
	if err := c.SVG(&b); err != nil {
		t.Fatal(err)
	}
	highest := math.Inf(1)
	for _, e := range parse(t, b.String()) {
		if d := e.attributes["d"]; strings.Contains(d, "L") {
			for _, pair := range strings.FieldsFunc(d, func(r rune) bool { return r == 'M' || r == 'L' }) {
				_, y, _ := strings.Cut(pair, " ")
				if y, err := strconv.ParseFloat(y, 64); err == nil {
					highest = min(highest, y)
				}
			}
		}
	}
	if b.Len() > 60_000 {
		t.Errorf("%d bytes", b.Len())
	}
	if highest > 120 {
		t.Errorf("the highest point is at y = %v", highest)
	}
}

// A chart in a page has the page's style sheet, and its own colour of paper.
func TestInAPage(t *testing.T) {
	c := chart.Chart{Title: "delays", Text: "they are short", Lines: []chart.Line{{Name: "a", Points: []chart.Point{{0, 1}, {math.NaN(), 0}, {1, 1}, {2, 1}}}}}
	inline, err := c.HTML()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range parse(t, string(inline)) {
		if e.name == "style" || e.attributes["class"] == "back" {
			t.Errorf("there is a %s %v", e.name, e.attributes)
		}
		if d := e.attributes["d"]; strings.Contains(d, "L") && strings.Count(d, "M") != 2 {
			t.Errorf("the path of a line with a gap is %s", d)
		}
	}
	if !strings.Contains(string(inline), `aria-label="delays"`) || !strings.Contains(string(inline), "<desc>they are short</desc>") {
		t.Errorf("no words for those who do not see it: %s", inline)
	}
}

var rule = regexp.MustCompile(`\.chart (?:\.)?([a-z0-9]+) \{[^}]*?(?:fill|color): (#[0-9a-f]{3,6})`)

// On the paper of either scheme, texts and lines stand out as WCAG 2.1 wants it, AA:
// 4.5 to 1 and 3 to 1.
func TestContrast(t *testing.T) {
	light, dark, ok := strings.Cut(chart.CSS, "@media screen and (prefers-color-scheme: dark)")
	if !ok {
		t.Fatal("no dark scheme")
	}
	for scheme, sheet := range map[string]string{"light": light, "dark": dark} {
		colours := map[string]float64{}
		for _, m := range rule.FindAllStringSubmatch(sheet, -1) {
			colours[m[1]] = luminance(t, m[2])
		}
		for _, name := range []string{"text", "quiet", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8"} {
			if _, ok := colours[name]; !ok {
				t.Errorf("%s: no colour of %s", scheme, name)
			}
			least := 3.0
			if name == "text" || name == "quiet" {
				least = 4.5
			}
			for _, paper := range []string{"back", "band"} {
				a, b := colours[name], colours[paper]
				if ratio := (max(a, b) + 0.05) / (min(a, b) + 0.05); ratio < least {
					t.Errorf("%s: %s on %s is %.2f to 1, want %v", scheme, name, paper, ratio, least)
				}
			}
		}
	}
}

// luminance is that of WCAG 2.1.
func luminance(t *testing.T, colour string) float64 {
	t.Helper()
	digits := colour[1:]
	if len(digits) == 3 {
		digits = strings.Repeat(digits[:1], 2) + strings.Repeat(digits[1:2], 2) + strings.Repeat(digits[2:], 2)
	}
	sum := 0.0
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		n, err := strconv.ParseUint(digits[2*i:2*i+2], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		c := float64(n) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}
