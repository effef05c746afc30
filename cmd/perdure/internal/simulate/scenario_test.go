package simulate_test

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/simulate"
	"github.com/seed-0f2c7998/perdure/sim"
)

// read returns the scenario of a file with that text.
func read(t *testing.T, text string) (sim.Scenario, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "payday.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return simulate.Scenario(path, "--scenario")
}

// Each key of a file sets what it names, and nothing else is changed.
func TestScenarioFile(t *testing.T) {
	const ms = time.Millisecond
	for text, change := range map[string]func(*sim.Scenario){
		"":                                   func(*sim.Scenario) {},
		"name: storm":                        func(s *sim.Scenario) { s.Name = "storm" },
		"duration: 1.5\ndrain: 20ms":         func(s *sim.Scenario) { s.Duration, s.Drain = 1500*ms, 20*ms },
		"load: {rate: 2e3, batch: 7}":        func(s *sim.Scenario) { s.Load = sim.Load{Rate: 2000, Batch: 7} },
		"load: {rate: 50, every: 1}":         func(s *sim.Scenario) { s.Load = sim.Load{Rate: 50, Every: time.Second} },
		"load: {clients: 3, think: 10ms}":    func(s *sim.Scenario) { s.Load = sim.Load{Clients: 3, Think: 10 * ms} },
		"clients: {processes: 3}":            func(s *sim.Scenario) { s.Clients.Processes = 3 },
		"clients: {shared: true}":            func(s *sim.Scenario) { s.Clients.Shared = true },
		"clients: {deadline: 2}":             func(s *sim.Scenario) { s.Clients.Deadline = 2 * time.Second },
		"clients: {deadline: unlimited}":     func(s *sim.Scenario) { s.Clients.Deadline = 0 },
		"backend: {workers: 8, shards: 2}":   func(s *sim.Scenario) { s.Backend.Workers, s.Backend.Shards = 8, 2 },
		"backend: {queue: 9}":                func(s *sim.Scenario) { s.Backend.Queue = 9 },
		"backend: {queue: 0}":                func(s *sim.Scenario) { s.Backend.Queue = sim.NoQueue },
		"backend: {queue: unlimited}":        func(s *sim.Scenario) { s.Backend.Queue = 0 },
		"backend: {slowdown: 0.5}":           func(s *sim.Scenario) { s.Backend.Slowdown = 0.5 },
		"backend: {network: 5ms}":            func(s *sim.Scenario) { s.Backend.Network = 5 * ms },
		"backend: {last_in_first_out: true}": func(s *sim.Scenario) { s.Backend.LastInFirstOut = true },
		"backend: {skips_abandoned: true}":   func(s *sim.Scenario) { s.Backend.SkipsAbandoned = true },
		"backend: {service: {mean: 0.03, distribution: log_normal, spread: 2}}": func(s *sim.Scenario) {
			s.Backend.Service = sim.Time{Mean: 30 * ms, Distribution: sim.LogNormal, Spread: 2}
		},
		"backend: {shards: 4}\nfaults:\n- {kind: throttle, from: 1, to: 2s, shard: 3, level: 0.5, retry_after: 3}\n- {kind: clock_step, from: 0, to: 1, delay: -1h}": func(s *sim.Scenario) {
			s.Backend.Shards = 4
			s.Faults = []sim.Fault{
				{Kind: sim.Throttle, From: time.Second, To: 2 * time.Second, Shard: 3, Level: 0.5, RetryAfter: 3 * time.Second},
				{Kind: sim.ClockStep, To: time.Second, Delay: -time.Hour},
			}
		},
		`{"load": {"rate": 5}, "faults": []}`: func(s *sim.Scenario) { s.Load.Rate, s.Faults = 5, []sim.Fault{} },
	} {
		want := sim.Storm("payday")
		change(&want)
		got, err := read(t, text)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n%+v, %v; want\n%+v", text, got, err, want)
		}
	}
}

// A fault in a file may have the settings that change what its kind does, and no others: such a one is
// most likely meant for another kind. Without a level or a delay, most kinds would do nothing.
func TestFaultSettings(t *testing.T) {
	const ms = time.Millisecond
	play := func(f sim.Fault) (all [2]sim.Result) { // without and with a circuit breaker
		f.From, f.To = 1100*ms, 2100*ms
		s := sim.Storm("", sim.Fault{Kind: sim.Outage, From: time.Second, To: 1300 * ms, Shard: 1}, f)
		s.Duration, s.Load.Rate, s.Backend.Workers, s.Backend.Shards = 5*time.Second, 350, 8, 2
		s.Clients.Shared, s.Clients.Policy = true, sim.Backoff()
		for i, c := range []*circuit.Config{nil, {RecoveryTimeout: time.Second}} {
			s.Clients.Breaker = c
			var err error
			if all[i], err = sim.Run(t.Context(), s, 1); err != nil {
				t.Fatal(err)
			}
		}
		return all
	}
	load := func(kind sim.Kind, settings []string) error {
		fault := slices.Concat([]string{"kind: " + kind.String(), "from: 1", "to: 2"}, settings)
		_, err := read(t, "backend: {shards: 2}\nfaults: [{"+strings.Join(fault, ", ")+"}]")
		return err
	}
	all := []struct {
		text   string
		needed bool // by the kinds that it has an effect on
		set    func(*sim.Fault)
	}{
		{"shard: 2", false, func(f *sim.Fault) { f.Shard = 2 }},
		{"ramp: 1", false, func(f *sim.Fault) { f.Ramp = time.Second }},
		{"retry_after: 1", false, func(f *sim.Fault) { f.RetryAfter = time.Second }},
		{"level: 0.9", true, func(f *sim.Fault) { f.Level = 0.9 }},
		{"delay: 800ms", true, func(f *sim.Fault) { f.Delay = 800 * ms }},
	}
	for kind := sim.Outage; kind <= sim.ClockStep; kind++ {
		plain := sim.Fault{Kind: kind, Level: 0.3, Delay: 100 * ms}
		var effective, needed []string
		for _, setting := range all {
			changed := plain
			setting.set(&changed)
			if reflect.DeepEqual(play(plain), play(changed)) {
				continue
			}
			effective = append(effective, setting.text)
			if setting.needed {
				needed = append(needed, setting.text)
			}
		}
		for _, settings := range [][]string{effective, needed} {
			if err := load(kind, settings); err != nil {
				t.Errorf("%v with %q: %v", kind, settings, err)
			}
		}
		for _, setting := range all {
			name, _, _ := strings.Cut(setting.text, ":")
			switch {
			case !slices.Contains(effective, setting.text):
				if err := load(kind, append(slices.Clone(effective), setting.text)); err == nil || !strings.Contains(err.Error(), "faults[0]."+name+": must be absent: it has no effect") {
					t.Errorf("%v with %q, which has no effect: %v", kind, setting.text, err)
				}
			case setting.needed:
				if err := load(kind, nil); err == nil || !strings.Contains(err.Error(), "faults[0] has no "+name) {
					t.Errorf("%v without %q: %v", kind, setting.text, err)
				}
			}
		}
	}
}

// What other values leave without effect is refused, as is what is too much.
func TestIdleSettings(t *testing.T) {
	for text, want := range map[string]string{
		"load: {think: 1}":                                          `"1" for load.think: must be absent: it has no effect without load.clients`,
		"load: {clients: 2, batch: 3}":                              `"3" for load.batch: must be absent: it has no effect with load.clients`,
		"load: {clients: 2, every: 3}":                              `"3" for load.every: must be absent: it has no effect with load.clients`,
		"load: {every: 1, batch: 3}":                                `"3" for load.batch: must be absent: it has no effect with load.every`,
		"backend: {service: {distribution: constant, spread: 0.5}}": `"0.5" for backend.service.spread: must be absent: it has no effect on this distribution`,
		"backend: {shards: 50}":                                     `"50" for backend.shards: must be at most 40`,
		"clients: {processes: 1000000000}":                          `"1000000000" for clients.processes: must be at most 100000`,
		"duration: 1000h":                                           `"1000h" for duration: must be at most 24h0m0s`,
	} {
		if _, err := read(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// Every scenario that has a name can be played, and every fault of a kind is told in words.
func TestScenariosAreReported(t *testing.T) {
	for _, name := range simulate.ScenarioNames() {
		s, err := simulate.Scenario(name, "")
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	var s sim.Scenario
	for k := sim.Outage; k <= sim.ClockStep; k++ {
		s.Faults = append(s.Faults, sim.Fault{Kind: k, Level: 0.25, To: time.Second, Ramp: time.Second, Shard: 1})
	}
	var table bytes.Buffer
	if err := (&simulate.Comparison{Scenario: s}).Table(&table); err != nil {
		t.Fatal(err)
	}
	for k := sim.Outage; k <= sim.ClockStep; k++ {
		if strings.Contains(table.String(), "; "+k.String()) {
			t.Errorf("%s is told by its name alone: %s", k, table.String())
		}
	}
}

// What people have named is text, whatever is in it.
func TestPageEscapes(t *testing.T) {
	const hostile = `</title></style><script>alert(1)</script>"'&<b>` + "\x00\x1b\u202e"
	s := sim.Storm(hostile)
	s.Duration, s.Load.Rate = time.Second, 20
	by := sim.Contender{Name: hostile, Policy: sim.Backoff(), Breaker: &circuit.Config{}}
	by.Policy.Name = hostile
	c, err := simulate.Run(t.Context(), s, 1, []sim.Contender{by}, func(string, float64) {})
	if err != nil {
		t.Fatal(err)
	}
	var page bytes.Buffer
	if err := c.HTML(&page); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"<script", "<b>", "</title></style>", "alert(1)</s"} {
		if strings.Contains(page.String(), bad) {
			t.Errorf("the page has %q", bad)
		}
	}
}
