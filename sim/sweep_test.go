package sim_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/sim"
)

// sweepVariable makes TestSweepCells print, for a binary with another constant.
const sweepVariable = "PERDURE_TEST_SWEEP"

// cost plays the storms with few and with many processes, alone and on one cell, and says
// what they cost: the mean of what is lost, the worst recovery, and the largest
// amplification.
func cost(t *testing.T, by func(*sim.Clients)) string {
	t.Helper()
	var lost, recovery, amplification float64
	storms := sim.Storms()
	for _, s := range storms {
		for _, n := range []int{20, 100} {
			alone, cell := mean(t, with(s, by, n, false), 1), mean(t, with(s, by, 4*n, true), 1)
			lost += (alone.lost + cell.lost) / float64(4*len(storms))
			recovery = max(recovery, alone.recovery, cell.recovery)
			amplification = max(amplification, alone.during, cell.during)
		}
	}
	if recovery >= sim.Never.Seconds() {
		return fmt.Sprintf("%.2f, never, %.2f", lost, amplification)
	}
	return fmt.Sprintf("%.2f, %.1f, %.2f", lost, recovery, amplification)
}

// TestSweepCells prints the cost of the gate as it was built.
func TestSweepCells(t *testing.T) {
	if os.Getenv(sweepVariable) == "" {
		t.Skip(sweepVariable + " is not set: TestGateSweep sets it")
	}
	t.Log("cost: " + cost(t, gated))
}

// TestGateSweep prints what the storms cost with other constants of the gate, each changed
// alone, and with other numbers of the Service preset. docs/decisions has the table.
func TestGateSweep(t *testing.T) {
	if os.Getenv("PERDURE_TEST_LONG") == "" {
		t.Skip("it takes minutes: make long")
	}
	t.Log("the gate as it is: seconds lost, recovery, amplification:", cost(t, gated))
	for _, c := range []struct{ line, values string }{
		{"fewest    = 16", "8 24"},
		{"enough    = 256", "64 1024"},
		{"tick      = 10", "5 20"},
		{"quiet     = fewest", "8 32"},
		{"probeMax  = 500", "250 1000"},
		{"costlyMax = 7", "4 6 8"},
		{"apart     = 0.9", "0.7 1.2"},
		{"few       = 2", "1 4"},
		{"drain     = 1.5", "1.25 2"},
		{"raise     = 1.8", "1.4 2.5"},
	} {
		name, now, _ := strings.Cut(c.line, "=")
		for value := range strings.FieldsSeq(c.values) {
			t.Logf("%s%s -> %s: %s", strings.TrimSpace(name), now, value, rebuilt(t, c.line, name+"= "+value))
		}
	}
	for _, attempts := range []int{2, 3, 5, 8} {
		t.Logf("attempts %d: %s", attempts, cost(t, service(func(p *retry.Policy, _ *circuit.Config) { p.MaxAttempts = attempts })))
	}
	for _, base := range []time.Duration{10, 50, 200, 1000} {
		t.Logf("base %d ms: %s", base, cost(t, service(func(p *retry.Policy, _ *circuit.Config) { p.BaseDelay = base * time.Millisecond })))
	}
	for _, limit := range []time.Duration{1, 5, 20} {
		t.Logf("cap %d s: %s", limit, cost(t, service(func(p *retry.Policy, _ *circuit.Config) { p.MaxDelay = limit * time.Second })))
	}
	for _, budget := range []float64{1, 3, 10, 30, 100, 500} {
		t.Logf("budget %v: %s", budget, cost(t, service(func(_ *retry.Policy, c *circuit.Config) { c.Budget = budget })))
	}
}

// service returns what gives clients the Service presets, changed.
func service(change func(*retry.Policy, *circuit.Config)) func(*sim.Clients) {
	p, b := retry.Service(), circuit.Service()
	p.AttemptTimeout = 200 * time.Millisecond
	change(&p, &b)
	return func(c *sim.Clients) { c.Policy, c.Breaker = p, &b }
}

// rebuilt builds the gate with a line of its constants changed, and returns the cost.
func rebuilt(t *testing.T, line, change string) string {
	t.Helper()
	path, err := filepath.Abs("../internal/gate/gate.go")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil || strings.Count(string(text), line) != 1 {
		t.Fatalf("%v; %q is not once in %s", err, line, path)
	}
	changed, overlay := filepath.Join(t.TempDir(), "gate.go"), filepath.Join(t.TempDir(), "overlay.json")
	files, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
	if err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string][]byte{changed: []byte(strings.Replace(string(text), line, change, 1)), overlay: files} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := exec.CommandContext(t.Context(), "go", "test", "-overlay", overlay, "-run", "^TestSweepCells$", "-v", ".")
	run.Env = append(os.Environ(), sweepVariable+"=1")
	out, err := run.CombinedOutput()
	_, result, found := strings.Cut(string(out), "cost: ")
	if err != nil || !found {
		t.Fatalf("%s: %v\n%s", change, err, out)
	}
	result, _, _ = strings.Cut(result, "\n")
	return result
}
