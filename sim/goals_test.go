package sim_test

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/sim"
)

// A goal is the most that a fault may cost, as means over seeds. One seed may cost 0.3 s
// of traffic and 1 s of recovery more.
type goal struct {
	lost     float64 // seconds of traffic
	during   float64 // amplification in the fault; 0 means 1.45
	wasted   float64 // ratio of the work; 0 means any
	recovery float64 // seconds; 0 means 1
}

// A goals is a row of the table: a fault, and its goals by the size of a fleet.
type goals struct {
	fault           string
	scenario        sim.Scenario
	alone, hundred  goal // each process by itself: up to 20 processes, up to 100
	cell, thousands goal // all processes on one cell: up to 400, up to 2,000
}

// sizes returns the sizes of fleets to simulate, and the seeds: few in an ordinary run.
func sizes() (processes []int, seeds uint64) {
	if os.Getenv("PERDURE_TEST_LONG") != "" {
		return []int{1, 20, 100, 400, 2000}, 5
	}
	return []int{1, 20}, 1
}

// table returns the goals of clients that make five attempts.
func table() (rows []goals) {
	for _, s := range sim.Storms() {
		row := goals{fault: s.Name, scenario: s}
		switch s.Name {
		case "outage", "crash":
			row.alone, row.hundred = goal{lost: 2.6, during: 0.30}, goal{lost: 2.9, during: 0.30}
			row.cell, row.thousands = goal{lost: 3, during: 0.08}, goal{lost: 3.4, during: 0.08}
		case "brownout":
			row.alone, row.hundred = goal{lost: 1.5, wasted: 0.03}, goal{lost: 2.4, wasted: 0.06}
			row.cell, row.thousands = goal{lost: 2, wasted: 0.03}, goal{lost: 2.4, wasted: 0.03}
		case "throttle":
			row.alone, row.hundred, row.cell, row.thousands = goal{lost: 0.9}, goal{lost: 1.1}, goal{lost: 0.5}, goal{lost: 1}
		case "errors 5 %":
			row.alone, row.hundred, row.cell, row.thousands = goal{lost: 0.02}, goal{lost: 0.02}, goal{lost: 0.02}, goal{lost: 0.02}
		case "errors 30 %":
			row.alone, row.hundred, row.cell, row.thousands = goal{lost: 0.15}, goal{lost: 0.15}, goal{lost: 0.15}, goal{lost: 0.6}
		case "deploy in a brownout":
			row.alone, row.hundred, row.cell, row.thousands = goal{lost: 3}, goal{lost: 3}, goal{lost: 2.7}, goal{lost: 2.7}
		default:
			continue
		}
		rows = append(rows, row)
		if s.Name == "brownout" {
			rows = append(rows, untimed(s, "a queue of 1 s", 2000), untimed(s, "a queue of 10 s", 20_000))
		}
	}
	return rows
}

// untimed returns the row of a brownout of attempts without a timeout.
func untimed(s sim.Scenario, name string, queue int) goals {
	s.Clients.Policy.AttemptTimeout, s.Backend.Queue = 0, queue
	return goals{
		fault: s.Name + ", no timeouts, " + name, scenario: s,
		alone: goal{lost: 1.3}, hundred: goal{lost: 1.3}, cell: goal{lost: 1.5}, thousands: goal{lost: 1.5},
	}
}

// of returns the goal of a fleet; false means that the table has none.
func (g goals) of(processes int, shared bool) (want goal, ok bool) {
	switch {
	case shared && processes <= 400:
		return g.cell, true
	case shared:
		return g.thousands, true
	case processes <= 20:
		return g.alone, true
	default:
		return g.hundred, processes <= 100
	}
}

// checkTable plays each row with fleets of each size, whose policy and breaker by
// sets, and fails the test where a goal is not reached.
func checkTable(t *testing.T, rows []goals, by func(*sim.Clients)) {
	t.Helper()
	processes, seeds := sizes()
	for _, row := range rows {
		for _, n := range processes {
			for _, shared := range []bool{false, true} {
				want, ok := row.of(n, shared)
				if !ok {
					continue
				}
				t.Run(fleet(row.fault, n, shared), func(t *testing.T) {
					mean(t, with(row.scenario, by, n, shared), seeds).check(t, want)
				})
			}
		}
	}
}

// with returns s with n processes whose policy and breaker by sets. Attempts have no
// timeout where those of s have none.
func with(s sim.Scenario, by func(*sim.Clients), n int, shared bool) sim.Scenario {
	timed := s.Clients.Policy.AttemptTimeout > 0
	s.Clients.Processes, s.Clients.Shared = n, shared
	by(&s.Clients)
	if !timed {
		s.Clients.Policy.AttemptTimeout = 0
	}
	return s
}

// fleet names a fleet in a fault.
func fleet(fault string, processes int, shared bool) string {
	if shared {
		return fmt.Sprintf("%s, %d on one cell", fault, processes)
	}
	return fmt.Sprintf("%s, %d alone", fault, processes)
}

// A means is what was measured, over all seeds.
type means struct {
	seeds                                 uint64
	lost, during, after, wasted, recovery float64
	worstLost, worstRecovery              float64 // of one seed
}

// mean plays s with the seeds 1 to seeds.
func mean(t *testing.T, s sim.Scenario, seeds uint64) (m means) {
	t.Helper()
	m.seeds = seeds
	share := 1 / float64(seeds)
	for seed := range seeds {
		r := play(t, s, seed+1)
		m.lost += share * r.Lost.Seconds()
		m.during += share * r.Amplification.During
		m.after += share * r.Amplification.After
		m.wasted += share * r.Wasted
		m.recovery += share * r.Recovery.Seconds()
		m.worstLost, m.worstRecovery = max(m.worstLost, r.Lost.Seconds()), max(m.worstRecovery, r.Recovery.Seconds())
	}
	return m
}

func (m means) String() string {
	recovery := fmt.Sprintf("recovers after %.2f s", m.recovery)
	if m.worstRecovery >= sim.Never.Seconds() {
		recovery = "never recovers"
	}
	return fmt.Sprintf("%.2f s lost (worst %.2f), amplification %.2f and %.2f, %.1f %% wasted, %s", m.lost, m.worstLost, m.during, m.after, 100*m.wasted, recovery)
}

// reaches reports whether m is within the goal g.
func (m means) reaches(g goal) bool {
	if g.during == 0 {
		g.during = 1.45
	}
	if g.recovery == 0 {
		g.recovery = 1
	}
	enough := m.lost <= g.lost && m.recovery <= g.recovery && (g.wasted == 0 || m.wasted <= g.wasted)
	enough = enough || m.seeds == 1 // of which the mean is not known
	return enough && m.worstLost <= g.lost+0.3 && m.worstRecovery <= g.recovery+1 &&
		m.during <= g.during && m.after <= 1.25
}

// check fails the test if m is not within the goal g.
func (m means) check(t *testing.T, g goal) {
	t.Helper()
	t.Log(m)
	if !m.reaches(g) {
		t.Errorf("want at most %+v", g)
	}
}

// gated gives c five attempts with full jitter, a gate, and a budget of 10.
func gated(c *sim.Clients) {
	c.Policy, c.Breaker = sim.Backoff(), &circuit.Config{Gate: circuit.Wait, Budget: 10}
}

// The goals for five attempts with full jitter and a budget of 10.
func TestGateTable(t *testing.T) {
	checkTable(t, table(), gated)
}

// The goals for the presets as they are: without an attempt timeout, and with three
// attempts, which lose more with independent errors.
func TestPresetsTable(t *testing.T) {
	rows := slices.DeleteFunc(table(), func(g goals) bool { return g.scenario.Clients.Policy.AttemptTimeout == 0 })
	pipeline, service := circuit.Pipeline(), circuit.Service()
	checkTable(t, rows, func(c *sim.Clients) { c.Policy, c.Breaker = retry.Pipeline(), &pipeline })
	for i, row := range rows {
		if three := (goal{lost: 0.3}); row.fault == "errors 30 %" {
			rows[i].alone, rows[i].hundred, rows[i].cell = three, three, three
		}
	}
	checkTable(t, rows, func(c *sim.Clients) { c.Policy, c.Breaker = retry.Service(), &service })
}

// One process with 2,000 operations a second and a fault of 50 ms: no gate and no breaker
// makes it longer, and a budget as large as the fault pays for the retries. The budget of
// the preset is smaller.
func TestGateInABlip(t *testing.T) {
	_, seeds := sizes()
	s := sim.Storm("blip", sim.Fault{Kind: sim.Outage, From: 4 * time.Second, To: 4050 * time.Millisecond})
	s.Load.Rate, s.Backend.Workers, s.Clients.Processes = 2000, 50, 1
	preset := circuit.Service()
	hundred := preset
	hundred.Budget = 100
	for _, c := range []struct {
		policy  retry.Policy
		breaker circuit.Config
		most    int // operations lost, of the 100 in the fault
	}{
		{sim.Backoff(), circuit.Config{Gate: circuit.Wait, Budget: 500}, 10},
		{retry.Service(), hundred, 10},
		{retry.Service(), preset, 60},
	} {
		s.Clients.Policy, s.Clients.Breaker = c.policy, &c.breaker
		for seed := range seeds {
			if r := play(t, s, seed+1); r.Failed > c.most {
				t.Errorf("with a budget of %v, seed %d: %d operations lost, want at most %d", c.breaker.Budget, seed+1, r.Failed, c.most)
			}
		}
	}
}
