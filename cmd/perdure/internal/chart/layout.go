package chart

import (
	"html/template"
	"iter"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A view is a chart with the coordinates of all that is drawn.
type view struct {
	CSS           template.CSS
	Text          string
	Width, Height float64
	Title         string
	Keys          []key
	Bands         []area
	Grid, Axes    string // paths
	Texts         []text
	Lines         []line
	Bars          []area

	left, top, right, bottom float64 // of the area of the lines or rows
	xMax, yMax               float64
}

type text struct {
	X, Y        float64
	Class, Text string
}

type key struct {
	X, Y  float64
	Kind  string
	Style int
	Text  text
}

type line struct {
	Name, Path string
	Style      int
}

type area struct {
	X, Y, Width, Height float64
	Style               int
	Text                text
	Dot                 *dot
}

type dot struct {
	X, Y  float64
	Style int
}

// Sizes in pixels.
const (
	margin    = 12
	lineSpace = 20 // of a line of text
	rowSpace  = 24 // of a row
	letter    = 7.2
	maxShown  = 10_000 // of a text, before it is cut to its place
)

// view lays the chart out.
func (c *Chart) view() *view {
	v := &view{Width: 720, Text: clean(c.Text)}
	if c.Width > 0 {
		v.Width = float64(c.Width)
	}
	v.title(clean(c.Title))
	c.keys(v)
	v.xMax, v.yMax = c.limits()
	if c.Y.Title != "" {
		v.say("quiet", margin, v.top+12, c.Y.Title, v.Width-2*margin)
		v.top += lineSpace
	}
	if len(c.Rows) > 0 {
		c.rows(v)
	} else {
		c.area(v)
	}
	v.Height = v.bottom + lineSpace + margin
	if c.X.Title != "" {
		v.say("quiet middle", (v.left+v.right)/2, v.bottom+2*lineSpace-2, c.X.Title, v.right-v.left)
		v.Height += lineSpace
	}
	return v
}

// title places the title, in two lines if it is long.
func (v *view) title(words string) {
	const bold = 9.4 / letter // how much wider than other text
	v.Title, v.top = words, margin
	width := (v.Width - 2*margin) / bold
	first, rest := words, ""
	if cut := int(width / letter); utf8.RuneCountInString(words) > cut {
		if space := strings.LastIndexByte(string([]rune(words)[:cut+1]), ' '); space > 0 {
			first, rest = words[:space], words[space+1:]
		}
	}
	for _, words := range []string{first, rest} {
		if words != "" {
			v.say("title", margin, v.top+13, words, width)
			v.top += lineSpace
		}
	}
	v.top += 4
}

// keys places the legend.
func (c *Chart) keys(v *view) {
	const sign, gap = 34, 20
	x, y := float64(margin), v.top+8
	add := func(name, kind string, style int) {
		shown := fit(clean(name), v.Width-2*margin-sign)
		if width := sign + wide(shown); x > margin && x+width > v.Width-margin {
			x, y = margin, y+lineSpace
		}
		v.Keys = append(v.Keys, key{X: round(x), Y: y, Kind: kind, Style: style, Text: text{X: round(x + sign), Y: y + 4.5, Text: shown}})
		x += sign + wide(shown) + gap
	}
	for i, l := range c.Lines {
		add(l.Name, "line", style(l.Style, i))
	}
	for _, k := range c.Legend {
		kind := "bar"
		if k.Dot {
			kind = "dot"
		}
		add(k.Name, kind, style(k.Style, 0))
	}
	if len(v.Keys) > 0 {
		v.top = y + lineSpace
	}
}

// style returns the number of a style that may be that of a position.
func style(s, position int) int {
	if s <= 0 {
		s = position + 1
	}
	return (s-1)%Styles + 1
}

// limits returns the ends of the axes.
func (c *Chart) limits() (x, y float64) {
	for _, l := range c.Lines {
		for _, p := range l.Points {
			if finite(p.X) && finite(p.Y) {
				x, y = max(x, p.X), max(y, p.Y)
			}
		}
	}
	for _, r := range c.Rows {
		for _, end := range []float64{r.From, r.To} {
			if finite(end) {
				x = max(x, end)
			}
		}
	}
	return c.X.end(x), c.Y.end(y)
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// area places the lines, and their axes.
func (c *Chart) area(v *view) {
	v.bottom = v.top + 240
	if c.Height > 0 {
		v.bottom = v.top + float64(c.Height)
	}
	step := c.Y.step(v.yMax, int(max(2, (v.bottom-v.top)/45)))
	if !(c.Y.Max > 0) {
		v.yMax = step * math.Ceil(v.yMax/step*(1-1e-9))
	}
	v.left, v.right = margin, v.Width-margin-letter
	for at := range marks(v.yMax, step) {
		v.left = max(v.left, margin+wide(c.Y.label(at, step))+6)
	}
	for at := range marks(v.yMax, step) {
		v.Grid += path('M', v.left, v.y(at)) + "H" + coordinate(v.right)
		v.say("quiet end", v.left-6, v.y(at)+4, c.Y.label(at, step), v.left)
	}
	c.bands(v)
	c.xAxis(v)
	for i, l := range c.Lines {
		v.Lines = append(v.Lines, line{clean(l.Name), v.path(l.Points), style(l.Style, i)})
	}
}

// bands places what is shaded. A name goes below those that are in its way, up to a few lines.
func (c *Chart) bands(v *view) {
	var ends [3]float64 // of the names in each line
	for _, b := range c.Bands {
		from, to := v.x(b.From), v.x(b.To)
		name := fit(clean(b.Name), v.right-from)
		row := slices.IndexFunc(ends[:], func(end float64) bool { return end <= from })
		if row < 0 {
			row, name = 0, ""
		} else {
			ends[row] = from + 4 + wide(name)
		}
		v.Bands = append(v.Bands, area{
			X: from, Y: v.top, Width: round(max(to-from, 1)), Height: round(v.bottom - v.top),
			Text: text{X: from + 4, Y: round(v.top + 13 + lineSpace*float64(row)), Text: name},
		})
	}
}

// rows places the bars, with their names and labels.
func (c *Chart) rows(v *view) {
	names, labels := 0.0, 0.0
	for _, r := range c.Rows {
		names, labels = max(names, wide(clean(r.Name))), max(labels, wide(clean(r.Label)))
	}
	names, labels = min(names, v.Width/3), min(labels, v.Width/3)
	v.left, v.right = margin+names+8, v.Width-margin-labels-8
	v.bottom = v.top + rowSpace*float64(len(c.Rows))
	for i, r := range c.Rows {
		y := v.top + rowSpace*(float64(i)+0.5)
		from, to := v.x(r.From), v.x(r.To)
		bar := area{X: from, Y: y - 6, Width: round(max(to-from, 2)), Height: 12, Style: style(r.Style, 0)}
		if r.Dot != nil {
			bar.Dot = &dot{v.x(*r.Dot), y, bar.Style}
		}
		v.Bars = append(v.Bars, bar)
		v.say("end", v.left-8, y+4.5, r.Name, names)
		v.say("", from+bar.Width+8, y+4.5, r.Label, labels)
	}
	c.xAxis(v)
}

// xAxis places the lower axis.
func (c *Chart) xAxis(v *view) {
	step := c.X.step(v.xMax, int(max(2, (v.right-v.left)/75)))
	for at := range marks(v.xMax, step) {
		v.Grid += path('M', v.x(at), v.top) + "V" + coordinate(v.bottom)
		v.say("quiet middle", v.x(at), v.bottom+16, c.X.label(at, step), v.right-v.left)
	}
	v.Axes = path('M', v.left, v.bottom) + "H" + coordinate(v.right)
}

// marks yields the places of the ticks of an axis from 0 to high.
func marks(high, step float64) iter.Seq[float64] {
	return func(yield func(float64) bool) {
		for i := 0.0; i*step <= high*(1+1e-9) && yield(i*step); i++ {
		}
	}
}

// x returns where a value of the x axis is; what is outside is at the end.
func (v *view) x(at float64) float64 {
	return round(v.left + (v.right-v.left)*part(at, v.xMax))
}

func (v *view) y(at float64) float64 {
	return round(v.bottom - (v.bottom-v.top)*part(at, v.yMax))
}

// part returns x / limit from 0 to 1; 0 if x is not a number.
func part(x, limit float64) float64 {
	if !(x > 0) {
		return 0
	}
	return min(x/limit, 1)
}

// say adds a text, cut to its place.
func (v *view) say(class string, x, y float64, words string, width float64) {
	v.Texts = append(v.Texts, text{X: round(x), Y: round(y), Class: class, Text: fit(clean(words), width)})
}

// path returns the points of a line as a path, at most four for each pixel column:
// the first, the lowest, the highest and the last.
func (v *view) path(points []Point) string {
	var b strings.Builder
	begun := false
	for i := 0; i < len(points); {
		if !finite(points[i].X) || !finite(points[i].Y) {
			begun = false
			i++
			continue
		}
		column := math.Floor(v.x(points[i].X))
		low, high, last := i, i, i
		end := i + 1
		for ; end < len(points) && finite(points[end].X) && finite(points[end].Y) && math.Floor(v.x(points[end].X)) == column; end++ {
			last = end
			if points[end].Y < points[low].Y {
				low = end
			}
			if points[end].Y > points[high].Y {
				high = end
			}
		}
		for _, at := range distinct(i, min(low, high), max(low, high), last) {
			command := byte('L')
			if !begun {
				command, begun = 'M', true
			}
			b.WriteString(path(command, v.x(points[at].X), v.y(points[at].Y)))
		}
		i = end
	}
	return b.String()
}

// distinct returns ascending numbers without repeats.
func distinct(all ...int) []int {
	kept := all[:1]
	for _, n := range all[1:] {
		if n != kept[len(kept)-1] {
			kept = append(kept, n)
		}
	}
	return kept
}

func path(command byte, x, y float64) string {
	return string(command) + coordinate(x) + " " + coordinate(y)
}

func coordinate(x float64) string { return strconv.FormatFloat(round(x), 'f', -1, 64) }

// round returns x with one digit.
func round(x float64) float64 { return math.Round(x*10) / 10 }

// wide returns about how many pixels a text needs.
func wide(s string) (width float64) {
	for _, r := range s {
		switch {
		case r >= 0x1100: // Korean, Chinese and Japanese scripts, and pictures
			width += 2 * letter
		case strings.ContainsRune("MWmw@%", r):
			width += 1.8 * letter
		default:
			width += letter
		}
	}
	return width
}

// fit returns s, or as much of it as there is place for.
func fit(s string, width float64) string {
	if wide(s) <= width {
		return s
	}
	const more = "…"
	used := wide(more)
	for i, r := range s {
		if used += wide(string(r)); used > width {
			return s[:i] + more
		}
	}
	return s
}

// clean returns s with spaces in the place of what XML can't hold.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError || r == '\ufffe' || r == '\uffff' {
			return ' '
		}
		return r
	}, s[:min(len(s), maxShown)])
}
