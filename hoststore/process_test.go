//go:build unix

package hoststore_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/hoststore"
	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/servertest"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
)

func TestProcessesCountExactly(t *testing.T) {
	path := t.TempDir() + "/state"
	const processes = 4
	begin := time.Now()
	var wait []func() error
	for range processes {
		cmd, _ := start(t, "add", path)
		wait = append(wait, cmd.Wait)
	}
	for _, w := range wait {
		if err := w(); err != nil {
			t.Fatal(err)
		}
	}
	store := hoststore.Open(path)
	defer store.Close()
	if got := cell.Unseal(store).Cell("total", cell.Client{}).Load().Rejected.Load(); got != processes*adds {
		t.Errorf("%d processes that add %d each: %d in the cell", processes, adds, got)
	}
	t.Logf("%d processes, one word: %.1f ns an add, start of the processes included",
		processes, float64(time.Since(begin))/(processes*adds))
}

func TestKilledProcessesLeaveTheCellsWell(t *testing.T) { killAtWork(t, 60) }

// killAtWork kills processes, one after the other, that work on a file which others use.
func killAtWork(t *testing.T, kills int) {
	t.Helper()
	path := t.TempDir() + "/state"
	store := hoststore.Open(path)
	defer store.Close()
	shared := circuit.New("shared", circuit.Config{
		Store: store, RecoveryTimeout: 2 * time.Millisecond, ProbeLease: 50 * time.Millisecond,
		Window: 10 * time.Second, FailureRatio: 1, Budget: 10, Observe: func(context.Context, circuit.Transition) {},
	})
	random := rand.New(rand.NewPCG(testseed.Of(t, 1), 0))
	survivor, out := start(t, "churn", path)
	read(t, out)
	for i := range kills {
		victim, out := start(t, "churn", path)
		read(t, out)
		for range random.IntN(10_000) { // meanwhile the victim works
			shared.Metrics()
		}
		if err := victim.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = victim.Wait()
		if m := shared.Metrics(); m.Balance < 0 || m.Balance > 10 {
			t.Fatalf("after kill %d the budget's balance is %v, want 0 to 10", i+1, m.Balance)
		}
	}
	_ = survivor.Process.Kill()
	_ = survivor.Wait()
	servertest.Until(t, "the shared breaker closes again", func() bool {
		if p, err := shared.Acquire(); err == nil {
			p.Success()
		}
		return shared.State() == circuit.Closed
	})
	if keys := store.Keys(); !slices.Contains(keys, "shared") || len(keys) < 3 {
		t.Errorf("keys %q, want shared and those of the killed", keys)
	}
	for _, key := range store.Keys() {
		if key != "shared" && !strings.HasPrefix(key, "own ") {
			t.Errorf("key %q is none that a process gave", key)
		}
	}
}

func TestLeaseOfAKilledProcessEnds(t *testing.T) {
	path := t.TempDir() + "/state"
	store := hoststore.Open(path)
	defer store.Close()
	lasting, short := leased(store)[0], leased(store)[1]
	for _, b := range []*circuit.Breaker{lasting, short} {
		b.RecordFailure()
		servertest.Until(t, "the breaker is half-open", func() bool { return b.State() == circuit.HalfOpen })
	}
	prober, out := start(t, "lease", path)
	if line := read(t, out); line != "true" {
		t.Fatalf("the other process says %q, want that it has the probes", line)
	}
	if _, err := lasting.Acquire(); err == nil {
		t.Error("a second probe passed while the first was out")
	}
	if err := prober.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	servertest.Until(t, "the lease of the killed process is over, and a probe closes the breaker", func() bool {
		if p, err := short.Acquire(); err == nil {
			p.Success()
		}
		return short.State() == circuit.Closed
	})
	if _, err := lasting.Acquire(); err == nil {
		t.Error("a second probe passed before the end of the lease")
	}
}

// The credits of a gate that a killed process holds are lost. The other processes wait only for the next probe, which is
// sent within 2.5 s.
func TestCreditsOfAKilledProcess(t *testing.T) {
	path := t.TempDir() + "/state"
	store := hoststore.Open(path)
	defer store.Close()
	b := gated(store)
	hoarder, out := start(t, "hoard", path)
	if line := read(t, out); line != "true" {
		t.Fatalf("the other process says %q, want that the gate is limited", line)
	}
	if err := hoarder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	servertest.Until(t, "a probe is admitted", func() bool {
		p, err := b.Acquire()
		if err == nil {
			p.Success()
		}
		return err == nil
	})
	servertest.Until(t, "the limit is lifted", func() bool {
		if p, err := b.Acquire(); err == nil {
			p.Success()
		}
		return b.State() == circuit.Closed
	})
}

func TestAChangeIsSeenAtOnce(t *testing.T) {
	path := t.TempDir() + "/state"
	store := hoststore.Open(path)
	defer store.Close()
	b := circuit.New("seen", circuit.Config{Store: store, Observe: func(context.Context, circuit.Transition) {}})
	_, out := start(t, "report", path)
	read(t, out)
	var lags []time.Duration
	for i := range 200 {
		begin := time.Now().UnixNano()
		if i%2 == 0 {
			b.Isolate()
		} else {
			b.Reset()
		}
		seen, err := strconv.ParseInt(read(t, out), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		lags = append(lags, time.Duration(seen-begin))
	}
	slices.Sort(lags)
	t.Logf("a change is seen by another process after: median %v, 99 %% within %v", lags[len(lags)/2], lags[len(lags)*99/100])
}

// read returns the next line of another process.
func read(t *testing.T, out interface{ ReadString(byte) (string, error) }) string {
	t.Helper()
	line, err := out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}
