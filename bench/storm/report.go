package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/sim"
)

// figures are the measurements of one storm, as in sim.Result.
type figures struct {
	Lost          float64 // seconds of traffic
	Died          float64 // seconds of traffic whose processes were killed
	Amplification sim.Amplification
	Wasted        float64
	Recovery      float64 // seconds; -1 if traffic did not recover
	Pause         float64 // seconds: the longest time from the fault's beginning on in which no attempt was sent
	P50, P99      time.Duration
	Late, Backend time.Duration // by how much arrivals, and what the backend's timers start, were late at the 99th percentile
	Steps         []counts
}

// maxLate is the largest lateness of arrivals in a run that counts.
const maxLate = 15 * time.Millisecond

// valid reports whether the harness was not the bottleneck.
func (f *figures) valid() bool { return f.Late < maxLate && f.Backend < maxLate }

func measure(s spec, r report, backend histogram) figures {
	f := stepped(s, r.Steps)
	f.Lost, f.Died = lost(s, r.Steps)
	f.P50, f.P99 = r.Latency.percentile(0.5), r.Latency.percentile(0.99)
	f.Late, f.Backend = r.Late.percentile(0.99), backend.percentile(0.99)
	return f
}

// lost returns the seconds of traffic that arrived since the beginning of the fault and failed, and those whose processes
// were killed. Of the killed ones the same share is assumed to fail as of the others in the same step.
func lost(s spec, steps []counts) (failed, killed float64) {
	for _, c := range steps[min(int(s.From/sim.Step), len(steps)):] {
		failed += float64(c.Arrived) * float64(c.Lost) / float64(max(1, c.Ended))
		killed += float64(c.Arrived - c.Ended)
	}
	return failed / s.Rate, killed / s.Rate
}

// stepped returns the figures that follow from the steps alone.
func stepped(s spec, steps []counts) figures {
	from, to := int(s.From/sim.Step), int(s.To/sim.Step)
	end := min(len(steps), int(s.Duration/sim.Step))
	f := figures{Steps: steps, Recovery: recovery(steps[:end], to).Seconds()}
	part := func(a, b int) float64 {
		var c counts
		for _, x := range steps[min(a, len(steps)):min(b, len(steps))] {
			c.Arrived += x.Arrived
			c.Attempts += x.Attempts
		}
		return float64(c.Attempts) / max(1, float64(c.Arrived))
	}
	f.Amplification = sim.Amplification{During: part(from, to), After: part(to, len(steps))}
	var worked, wasted time.Duration
	pause, longest := 0, 0
	for i, x := range steps[min(from, end):] {
		worked, wasted = worked+x.Worked, wasted+x.Wasted
		if pause++; x.Attempts > 0 || from+i >= end {
			pause = 0
		}
		longest = max(longest, pause)
	}
	f.Wasted = wasted.Seconds() / max(1e-9, worked.Seconds())
	f.Pause = (time.Duration(longest) * sim.Step).Seconds()
	return f
}

// recovery returns the recovery of sim.Result: how long after the fault each window of 1 s has completed 95 % of its
// arrivals, for 3 s. It is negative if traffic did not recover.
func recovery(steps []counts, to int) time.Duration {
	const window, needed = int(time.Second / sim.Step), int(3 * time.Second / sim.Step)
	well := 0
	for i := to; i+window <= len(steps); i++ {
		arrived, succeeded := 0, 0
		for _, c := range steps[i : i+window] {
			arrived, succeeded = arrived+c.Arrived, succeeded+c.Succeeded
		}
		if well++; float64(succeeded) < 0.95*float64(arrived) {
			well = 0
		}
		if well > needed-window {
			return time.Duration(i-well+1-to) * sim.Step
		}
	}
	return -time.Second
}

// A cell is a driver in a fault.
type cell struct {
	Driver, Fault string
	Runs          []figures // those that count
	Late          int       // runs that did not: the harness was late
	Simulated     []float64 // seconds lost, in order, of seeds 1 to 5

	spec spec
	twin sim.Contender
}

// median returns the run with the median of the lost seconds, nil without runs.
func (c *cell) median() *figures {
	if len(c.Runs) == 0 {
		return nil
	}
	runs := slices.Clone(c.Runs)
	slices.SortFunc(runs, func(a, b figures) int { return cmp.Compare(a.Lost, b.Lost) })
	return &runs[len(runs)/2]
}

// simulate plays the cell's storm in virtual time.
func (c *cell) simulate(ctx context.Context) error {
	s := c.twin.In(c.spec.scenario())
	for seed := range uint64(5) {
		r, err := sim.Run(ctx, s, seed+1)
		if err != nil {
			return err
		}
		c.Simulated = append(c.Simulated, r.Lost.Seconds())
	}
	slices.Sort(c.Simulated)
	return nil
}

// tolerance is the largest difference, in seconds, of the live loss and the simulated losses of all seeds.
const tolerance = 0.3

// longestProbe is the longest time between two probes of a gate.
const longestProbe = 2.5

// check returns the differences: of live and simulated figures, and of the order of drivers in a fault.
func check(cells []*cell) (bad []string) {
	for i, c := range cells {
		m := c.median()
		if m == nil {
			bad = append(bad, fmt.Sprintf("%s, %s: no run counts: arrivals or the backend's timers were %v late or more in %d of them; try a lower -rate or -parallel", c.Fault, c.Driver, maxLate, c.Late))
			continue
		}
		if b := c.twin.Breaker; c.spec.Kill && b != nil && b.Gate != circuit.NoGate && m.Pause > longestProbe {
			bad = append(bad, fmt.Sprintf("%s, %s: no attempt for %.1f s, longer than between two probes", c.Fault, c.Driver, m.Pause))
		}
		if last := len(c.Simulated) - 1; m.Lost > c.Simulated[last]+tolerance || m.Lost < c.Simulated[0]-tolerance {
			bad = append(bad, fmt.Sprintf("%s, %s: %.2f s lost, %.2f to %.2f simulated", c.Fault, c.Driver, m.Lost, c.Simulated[0], c.Simulated[last]))
		}
		for _, o := range cells[:i] {
			if o.Fault == c.Fault && swapped(c, o) {
				bad = append(bad, fmt.Sprintf("%s: %s and %s are in another order than in the simulation", c.Fault, o.Driver, c.Driver))
			}
		}
	}
	return bad
}

// swapped reports whether one of two drivers loses clearly more in the simulation, and less live.
func swapped(a, b *cell) bool {
	am, bm := a.median(), b.median()
	if am == nil || bm == nil {
		return false
	}
	if a.Simulated[0] < b.Simulated[0] {
		am, bm, a, b = bm, am, b, a
	}
	return a.Simulated[0] > b.Simulated[len(b.Simulated)-1]+tolerance && am.Lost <= bm.Lost
}

// writeTables writes, in Markdown, a table of the lost traffic, and one of all figures for each fault.
func writeTables(w io.Writer, cells []*cell) {
	var faults, drivers []string
	lost := map[[2]string]string{}
	for _, c := range cells {
		if !slices.Contains(faults, c.Fault) {
			faults = append(faults, c.Fault)
		}
		if !slices.Contains(drivers, c.Driver) {
			drivers = append(drivers, c.Driver)
		}
		lost[[2]string{c.Driver, c.Fault}] = c.lost()
	}
	fmt.Fprintf(w, "\n| seconds of traffic lost (simulated) | %s |\n|---%s|\n", strings.Join(faults, " | "), strings.Repeat("|---", len(faults)))
	for _, d := range drivers {
		fmt.Fprintf(w, "| %s |", d)
		for _, f := range faults {
			fmt.Fprintf(w, " %s |", lost[[2]string{d, f}])
		}
		fmt.Fprintln(w)
	}
	fault := ""
	for _, c := range cells {
		if c.Fault != fault {
			fault = c.Fault
			fmt.Fprintf(w, "\n| %s | lost s | simulated, each seed | attempts in the fault | after it | wasted | recovers after s | longest pause s | p50 | p99 | runs | late p99 |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n", fault)
		}
		c.writeRow(w)
	}
}

// lost returns the seconds lost live, and in the simulation.
func (c *cell) lost() string {
	text := "harness too slow"
	if m := c.median(); m != nil {
		text = fmt.Sprintf("%.1f", m.Lost)
	}
	return fmt.Sprintf("%s (%.1f)", text, c.Simulated[len(c.Simulated)/2])
}

func (c *cell) writeRow(w io.Writer) {
	simulated, recovers := fmt.Sprintf("%.2f-%.2f", c.Simulated[0], c.Simulated[len(c.Simulated)-1]), "never"
	m := c.median()
	if m == nil {
		fmt.Fprintf(w, "| %s | harness too slow | %s | | | | | | | | 0 of %d | |\n", c.Driver, simulated, c.Late)
		return
	}
	if m.Recovery >= 0 {
		recovers = fmt.Sprintf("%.1f", m.Recovery)
	}
	lost := fmt.Sprintf("%.2f", m.Lost)
	if m.Died > 0 {
		lost += fmt.Sprintf(", %.2f killed", m.Died)
	}
	fmt.Fprintf(w, "| %s | %s | %s | %.2f | %.2f | %.0f %% | %s | %.1f | %v | %v | %d of %d | %v, backend %v |\n", c.Driver, lost, simulated,
		m.Amplification.During, m.Amplification.After, 100*m.Wasted, recovers, m.Pause, m.P50, m.P99, len(c.Runs), len(c.Runs)+c.Late, m.Late, m.Backend)
}
