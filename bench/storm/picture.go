package main

import (
	_ "embed"
	"fmt"
	"html/template"
	"slices"
	"strings"

	"github.com/seed-0f2c7998/perdure/sim"
)

// The picture has a row for each driver and a column for each fault. Each field shows the operations that succeeded over time, in
// front of those that arrived.
//
//go:embed picture.svg
var pictureText string

// Sizes in the picture.
const (
	nameWide, fieldWide, fieldHigh = 170, 150, 46
	top                            = 60
)

// A field is a cell in the picture.
type field struct {
	X, Y             int
	Offered, Goodput string // paths
	Lost             string
}

type label struct {
	X, Y int
	Text string
}

// A picture is the data of the template.
type picture struct {
	Wide, High      int
	Faults, Drivers []label
	FaultX, FaultW  float64 // of the fault, in a field
	FieldW, FieldH  int
	Fields          []field
}

func draw(cells []*cell) (string, error) {
	t, err := template.New("picture").Parse(pictureText)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	err = t.Execute(&text, newPicture(cells))
	return text.String(), err
}

func newPicture(cells []*cell) picture {
	var faults, drivers []string
	place := func(list *[]string, name string) int {
		if i := slices.Index(*list, name); i >= 0 {
			return i
		}
		*list = append(*list, name)
		return len(*list) - 1
	}
	s := cells[0].spec
	scale := float64(fieldWide-10) / s.Duration.Seconds()
	p := picture{FaultX: s.From.Seconds() * scale, FaultW: (s.To - s.From).Seconds() * scale, FieldW: fieldWide - 10, FieldH: fieldHigh - 8}
	for _, c := range cells {
		f := field{X: nameWide + fieldWide*place(&faults, c.Fault), Y: top + fieldHigh*place(&drivers, c.Driver), Lost: "too slow"}
		if m := c.median(); m != nil {
			f.Lost = fmt.Sprintf("%.1f s", m.Lost)
			f.Offered = path(s, m.Steps, func(c counts) int { return c.Arrived })
			f.Goodput = path(s, m.Steps, func(c counts) int { return c.Succeeded })
		}
		p.Fields = append(p.Fields, f)
	}
	for i, name := range faults {
		p.Faults = append(p.Faults, label{nameWide + fieldWide*i, top - 10, name})
	}
	for i, name := range drivers {
		p.Drivers = append(p.Drivers, label{nameWide - 10, top + fieldHigh*i + fieldHigh/2, name})
	}
	p.Wide, p.High = nameWide+fieldWide*len(faults), top+fieldHigh*len(drivers)+20
	return p
}

// path is the area under the means of half a second. The field is twice as high as the load.
func path(s spec, steps []counts, of func(counts) int) string {
	const mean = 5
	end := min(len(steps), int(s.Duration/sim.Step))
	high := float64(fieldHigh - 8)
	var d strings.Builder
	fmt.Fprintf(&d, "M0 %.0f", high)
	for i := 0; i+mean <= end; i += mean {
		sum := 0
		for _, c := range steps[i : i+mean] {
			sum += of(c)
		}
		share := float64(sum) / (s.Rate * mean * sim.Step.Seconds())
		x := (float64(i) + mean/2.0) * sim.Step.Seconds() / s.Duration.Seconds() * (fieldWide - 10)
		fmt.Fprintf(&d, "L%.1f %.1f", x, max(0, high*(1-share/2)))
	}
	fmt.Fprintf(&d, "L%d %.0fZ", fieldWide-10, high)
	return d.String()
}
