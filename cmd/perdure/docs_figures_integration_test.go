//go:build integration && unix

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/simulate"
	"github.com/seed-0f2c7998/perdure/sim"
)

// redraw, set by `make figures`, writes what the pages are to show in the place of comparing it.
var redraw = os.Getenv("PERDURE_TEST_REDRAW") != ""

// What is simulated in the pages is what the command prints and draws, to the byte: its outputs, the pictures of which a
// page shows the command, and the tables below a comment as
//
//	<!-- simulated: none,service in outage,docs/scenarios/blip.yaml -->
func TestSimulatedFiguresOfThePages(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	f := pageFigures{t: t, root: root, simulated: map[string]string{}}
	for _, path := range append(pages, filepath.Join(root, "README.md")) {
		f.page(path)
	}
	if f.outputs < 1 || f.pictures < 2 || f.tables < 2 {
		t.Errorf("the pages have %d outputs, %d pictures and %d tables: the test no longer finds them", f.outputs, f.pictures, f.tables)
	}
}

// pageFigures compares what pages show with what the command says.
type pageFigures struct {
	t                         *testing.T
	root                      string
	simulated                 map[string]string // by the command line, or by policy and scenario
	outputs, pictures, tables int
}

var (
	shownOutput  = regexp.MustCompile("(?s)(```\n\\$ perdure )(simulate[^\n]*)(\n)(.*?)```")
	shownPicture = regexp.MustCompile(`(?m)^perdure (simulate .*) --svg (docs/\S+\.svg)$`)
	shownTable   = regexp.MustCompile(`(?m)^<!-- simulated: (\S+) in (\S+) -->\n(\|.*\n\|-.*\n)((?:\|.*\n)*)`)
)

func (f *pageFigures) page(path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		f.t.Fatal(err)
	}
	want := shownOutput.ReplaceAllStringFunc(string(text), func(block string) string {
		f.outputs++
		m := shownOutput.FindStringSubmatch(block)
		return m[1] + m[2] + m[3] + f.run(m[2]) + "```"
	})
	want = shownTable.ReplaceAllStringFunc(want, func(block string) string {
		f.tables++
		m := shownTable.FindStringSubmatch(block)
		return strings.TrimSuffix(block, m[4]) + f.table(m[1], strings.Split(m[2], ","))
	})
	f.file(path, text, want)
	for _, m := range shownPicture.FindAllStringSubmatch(want, -1) {
		f.pictures++
		drawn, _ := os.ReadFile(filepath.Join(f.root, m[2])) // if it cannot be read, it differs
		f.file(filepath.Join(f.root, m[2]), drawn, f.run(m[1]+" --svg -"))
	}
}

// file compares the text of a file with what it is to be, or writes that.
func (f *pageFigures) file(path string, has []byte, want string) {
	switch {
	case string(has) == want:
	case redraw:
		if err := os.WriteFile(path, []byte(want), 0o600); err != nil {
			f.t.Fatal(err)
		}
	default:
		f.t.Errorf("%s is not what is simulated now: `make figures` writes it again; read the sentences around its figures then", path)
	}
}

// run returns what the command prints, run in the root.
func (f *pageFigures) run(line string) string {
	if out, known := f.simulated[line]; known {
		return out
	}
	c := command(f.t, nil, strings.Fields(line)...)
	c.Dir = f.root
	out, err := c.Output()
	if err != nil {
		f.t.Fatalf("perdure %s: %v", line, err)
	}
	f.simulated[line] = string(out)
	return string(out)
}

// table returns a row for each policy: what is lost, the load in the fault and the 99th percentile in each scenario.
func (f *pageFigures) table(policies string, scenarios []string) string {
	var all strings.Builder
	for name := range strings.SplitSeq(policies, ",") {
		fmt.Fprintf(&all, "| `%s` |", strings.TrimSuffix(filepath.Base(name), ".yaml"))
		for _, scenario := range scenarios {
			all.WriteString(f.field(name, scenario))
		}
		all.WriteByte('\n')
	}
	return all.String()
}

// field returns what a policy leads to in a scenario, as `perdure simulate` does. What has a slash is a file.
func (f *pageFigures) field(policy, scenario string) string {
	key := policy + " in " + scenario
	if text, known := f.simulated[key]; known {
		return text
	}
	at := func(name string) string {
		if strings.Contains(name, "/") {
			return filepath.Join(f.root, name)
		}
		return name
	}
	names, files := []string{policy}, []string(nil)
	if strings.Contains(policy, "/") {
		names, files = []string{"none"}, []string{at(policy)}
	}
	s, err := simulate.Scenario(at(scenario), "--scenario")
	if err != nil {
		f.t.Fatal(err)
	}
	all, err := simulate.Policies(names, files, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	r, err := sim.Run(f.t.Context(), all[len(all)-1].In(s), 1)
	if err != nil {
		f.t.Fatalf("%s: %v", key, err)
	}
	text := fmt.Sprintf(" %.1f s · %.2f× · %v |", r.Lost.Seconds(), r.Amplification.During, r.Latency.P99.Round(10*time.Millisecond))
	f.simulated[key] = text
	return text
}
