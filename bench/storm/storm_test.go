package main

import (
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/livestorm"
	"github.com/seed-0f2c7998/perdure/sim"
)

// TestMain also runs the processes of a storm.
func TestMain(m *testing.M) {
	if ran, err := child(os.Args); ran {
		exit(err)
	}
	os.Exit(m.Run())
}

// A short brownout, live: clients with a gate lose less of their traffic than those that only retry, from which the backend
// never recovers. If the machine is too busy for it, the storm is played again with a smaller backend and less load.
func TestGateLosesLess(t *testing.T) {
	t.Parallel()
	for _, rate := range []float64{200, 80, 40} {
		s := spec{
			Fault: "brownout", Rate: rate, Duration: 8 * time.Second, From: 2 * time.Second, To: 4500 * time.Millisecond,
			Clients: 4, Processes: 1, Seed: 1,
		}
		names := []string{"perdure, gate", "failsafe-go, retry alone"}
		var got [2]figures
		var running sync.WaitGroup
		for i, name := range names {
			one := s
			one.Driver = name
			running.Go(func() {
				var err error
				if got[i], err = play(t.Context(), one); err != nil {
					t.Error(err)
				}
			})
		}
		running.Wait()
		for i, f := range got {
			t.Logf("%.0f a second, %s: %.2f s lost, %.2f attempts in the fault, %.2f after; late %v, backend %v", rate, names[i], f.Lost,
				f.Amplification.During, f.Amplification.After, f.Late, f.Backend)
		}
		if t.Failed() {
			return
		}
		if (!got[0].valid() || !got[1].valid()) && rate > 40 {
			t.Logf("the harness was the bottleneck at %.0f a second: again with less", rate)
			continue
		}
		if got[0].Lost >= got[1].Lost || got[0].Amplification.During >= got[1].Amplification.During {
			t.Errorf("%s loses %.2f s, %s %.2f; want less", names[0], got[0].Lost, names[1], got[1].Lost)
		}
		return
	}
}

// Processes that share a gate in a host file and are killed at random, one a second, leave the others no worse than if no process
// had retried, and without an attempt for no longer than between two probes.
func TestKilledProcessesDelayNoOther(t *testing.T) {
	t.Parallel()
	for _, rate := range []float64{200, 80, 40} {
		f, err := play(t.Context(), spec{
			Fault: "outage", Rate: rate, Duration: 8 * time.Second, From: 2 * time.Second, To: 4500 * time.Millisecond,
			Driver: "perdure, gate", Clients: 1, Processes: 4, Store: "shared", Kill: true, Seed: 1,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%.0f a second: %.2f s lost, %.2f killed, no attempt for %.1f s; late %v, backend %v", rate, f.Lost, f.Died, f.Pause, f.Late, f.Backend)
		if !f.valid() && rate > 40 {
			t.Logf("the harness was the bottleneck at %.0f a second: again with less", rate)
			continue
		}
		if f.Lost >= 2.5 || f.valid() && f.Pause > longestProbe {
			t.Errorf("%.2f s lost, no attempt for %.1f s; want less than the 2.5 s of the outage, and at most %.1f s", f.Lost, f.Pause, longestProbe)
		}
		return
	}
}

// What is measured live is what the simulation measures: the same steps give the same figures.
func TestFiguresAreThoseOfTheSimulation(t *testing.T) {
	for _, name := range storms() {
		for _, d := range drivers() {
			s := spec{Fault: name, Rate: 400, Duration: 22 * time.Second, From: 4 * time.Second, To: 9 * time.Second, Clients: 20, Processes: 1}
			want, err := sim.Run(t.Context(), d.twin.In(s.scenario()), 1)
			if err != nil {
				t.Fatal(err)
			}
			var steps []counts
			for _, c := range want.Steps {
				steps = append(steps, counts{Arrived: c.Arrived, Attempts: c.Attempts, Succeeded: c.Succeeded, Failed: c.Failed, Worked: c.Worked, Wasted: c.Wasted})
			}
			got := stepped(s, steps)
			recovery := want.Recovery.Seconds()
			if want.Recovery == sim.Never {
				recovery = -1
			}
			if got.Amplification != want.Amplification || math.Abs(got.Wasted-want.Wasted) > 0.001 || got.Recovery != recovery {
				t.Errorf("%s, %s: %+v, %.3f, %v; want %+v, %.3f, %v", name, d.name, got.Amplification, got.Wasted, got.Recovery,
					want.Amplification, want.Wasted, recovery)
			}
		}
	}
}

// With each library an operation survives as many failures of any kind as the policy says, without extra attempts.
func TestDrivers(t *testing.T) {
	attempts := map[string]int{"none": 1, "perdure, Service()": 3, "AWS retryer": 3}
	for _, d := range drivers() {
		for _, failure := range []error{livestorm.StatusError{Status: 503}, context.DeadlineExceeded, io.ErrUnexpectedEOF, syscall.ECONNREFUSED} {
			synctest.Test(t, func(t *testing.T) {
				want := cmp.Or(attempts[d.name], 5)
				n := want
				do := d.new(env{attempt: func(context.Context) error {
					if n++; n < want {
						return failure
					}
					return nil
				}})
				for range 100 { // or a budget would have nothing to spend
					_ = do(t.Context())
				}
				n = 0
				start := time.Now()
				if err := do(t.Context()); err != nil || n != want {
					t.Errorf("%s, %v: %d attempts, %v; want %d", d.name, failure, n, err, want)
				}
				if took := time.Since(start); want == 5 && d.name != "perdure, Default()" && (took < 20*time.Millisecond || took > 2*time.Second) {
					t.Errorf("%s, %v: %v between the attempts, want about 0.4 s", d.name, failure, took)
				}
			})
		}
	}
}

func TestPercentile(t *testing.T) {
	h := newHistogram(time.Millisecond)
	if got := h.percentile(0.99); got != 0 {
		t.Errorf("of nothing: %v, want 0", got)
	}
	for i := range 100 {
		h.add(time.Duration(i) * time.Millisecond)
	}
	other := newHistogram(time.Millisecond)
	other.merge(h)
	for p, want := range map[float64]time.Duration{0.5: 50 * time.Millisecond, 0.99: 99 * time.Millisecond, 1: 100 * time.Millisecond} {
		if got := other.percentile(p); got != want {
			t.Errorf("percentile %v: %v, want %v", p, got, want)
		}
	}
}

// Operations whose process was killed are lost as often as those beside them.
func TestLost(t *testing.T) {
	s := spec{Rate: 10, From: 2 * sim.Step}
	steps := []counts{{Arrived: 9, Ended: 9, Lost: 9}, {}, {Arrived: 8, Ended: 4, Lost: 3}, {Arrived: 4, Ended: 4}, {Arrived: 2}}
	if failed, killed := lost(s, steps); failed != 0.6 || killed != 0.6 {
		t.Errorf("%v s failed and %v s killed, want 0.6 and 0.6", failed, killed)
	}
	if failed, killed := lost(s, steps[:1]); failed != 0 || killed != 0 {
		t.Errorf("of a run that ended before the fault: %v and %v, want 0", failed, killed)
	}
}

// The command fails if a figure differs from the simulation's, if the order of two drivers does, and if no run counts.
func TestCheck(t *testing.T) {
	lost := func(name string, live, simulated float64) *cell {
		return &cell{Driver: name, Fault: "outage", Runs: []figures{{Lost: live + 5}, {Lost: live}, {Lost: 0}}, Simulated: []float64{simulated, simulated + 0.1}}
	}
	killed := lost("a", 1, 1.5)
	killed.spec.Kill, killed.twin = true, sim.Contender{Breaker: &circuit.Config{Gate: circuit.Wait}}
	killed.Runs[1].Lost, killed.Runs[1].Pause = 1.5, 3
	for name, c := range map[string]struct {
		cells []*cell
		want  []string
	}{
		"equal":   {[]*cell{lost("a", 2.0, 2.2), lost("b", 5.0, 5.1)}, nil},
		"far":     {[]*cell{lost("a", 2.0, 2.4)}, []string{"2.40 to 2.50 simulated"}},
		"swapped": {[]*cell{lost("a", 2.25, 2.0), lost("b", 2.2, 2.45)}, []string{"a and b are in another order"}},
		"none":    {[]*cell{{Driver: "a", Fault: "outage", Late: 3}}, []string{"no run counts"}},
		"killed":  {[]*cell{killed}, []string{"no attempt for 3.0 s"}},
	} {
		got := check(c.cells)
		if len(got) != len(c.want) || len(got) > 0 && !strings.Contains(got[0], c.want[0]) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestFlagsAreRefused(t *testing.T) {
	good := settings{rate: 400, runs: 1, parallel: 1, clients: 20, processes: 1}
	for want, change := range map[string]func(*settings){
		"-rate 10":        func(s *settings) { s.rate = 10 },
		"-rate NaN":       func(s *settings) { s.rate = math.NaN() },
		`"outage"]: must`: func(s *settings) { s.rest = []string{"outage"} },
		"-runs 0":         func(s *settings) { s.runs = 0 },
		"-kill":           func(s *settings) { s.kill = true },
		"-fault":          func(s *settings) { s.fault = "(" },
		`"flood" match`:   func(s *settings) { s.fault = "flood" },
		"-driver":         func(s *settings) { s.driver = "(" },
		"-processes 3":    func(s *settings) { s.processes = 3 },
		"must be above 0": func(s *settings) { s.clients = -1 },
	} {
		s := good
		change(&s)
		if err := run(t.Context(), io.Discard, io.Discard, s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error with %q", err, want)
		}
	}
}

// The picture is well-formed, and has all names.
func TestPicture(t *testing.T) {
	steps := make([]counts, 250)
	for i := range steps {
		steps[i] = counts{Arrived: 40, Succeeded: 40 - i%40}
	}
	s := spec{Rate: 400, Duration: 22 * time.Second, From: 4 * time.Second, To: 9 * time.Second}
	text, err := draw([]*cell{
		{Driver: "a & b", Fault: "outage", spec: s, Runs: []figures{{Lost: 1.25, Steps: steps}}},
		{Driver: "a & b", Fault: "brownout", spec: s},
	})
	if err != nil {
		t.Fatal(err)
	}
	d := xml.NewDecoder(strings.NewReader(text))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err, text)
		}
	}
	for _, want := range []string{"a &amp; b", "outage", "brownout", "1.2 s", "too slow"} {
		if !strings.Contains(text, want) {
			t.Errorf("the picture lacks %q", want)
		}
	}
}
