package sim_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/sim"
)

// The clients of a simulation behave as calls of retry.Do. Both run here with the same
// policy, breaker and backend: the simulation, and goroutines in virtual time. They must
// make the same attempts, successes and failures in each tenth of a second.
func TestSimulatedCallsAreCalls(t *testing.T) {
	random := rand.New(rand.NewPCG(testseed.Of(t, 1), 0))
	total := sim.Counts{}
	for n := range 60 {
		s := randomScenario(random)
		want := calls(t, s)
		got := play(t, s, 1).Steps
		for i := range max(len(got), len(want)) {
			g, w := at(got, i), at(want, i)
			if g.Arrived != w.Arrived || g.Attempts != w.Attempts || g.Succeeded != w.Succeeded || g.Failed != w.Failed {
				t.Fatalf("scenario %d, step %d: simulated %+v, called %+v\n%+v\n%+v", n, i, g, w, s, *s.Clients.Breaker)
			}
			total.Attempts += w.Attempts
			total.Succeeded += w.Succeeded
			total.Failed += w.Failed
		}
	}
	t.Logf("compared: %+v", total)
	if total.Succeeded < 1000 || total.Failed < 1000 || total.Attempts < 4000 {
		t.Errorf("the scenarios are too plain: %+v", total)
	}
}

func at(steps []sim.Counts, i int) sim.Counts {
	if i < len(steps) {
		return steps[i]
	}
	return sim.Counts{}
}

// randomScenario returns one in which no two things happen at the same instant, and
// nothing by chance. Operations arrive each 100 ms.
func randomScenario(random *rand.Rand) sim.Scenario {
	odd := func(most time.Duration) time.Duration { return time.Duration(1+random.Int64N(int64(most))) | 1 }
	pick := func(choices ...int) int { return choices[random.IntN(len(choices))] }
	p := retry.Policy{
		MaxAttempts: pick(1, 2, 3, 5, 8), BaseDelay: odd(300 * time.Millisecond), MaxDelay: odd(3 * time.Second),
		Jitter: retry.NoJitter, AttemptTimeout: time.Duration(pick(0, 1)) * odd(time.Second), MaxElapsed: time.Duration(pick(0, 1)) * odd(5*time.Second),
		IgnoreRetryAfter: pick(0, 0, 1) == 1, MaxRetryAfter: odd(2 * time.Second),
	}
	b := circuit.Config{
		FailureThreshold: pick(circuit.Off, 1, 3, 5, 9), RecoveryTimeout: odd(3 * time.Second), SuccessThreshold: pick(1, 2),
		HalfOpenMax: pick(1, 2), Budget: float64(pick(0, 1, 3, 10)), Observe: func(context.Context, circuit.Transition) {},
	}
	if b.FailureThreshold == circuit.Off && pick(0, 1) == 1 {
		b.Window, b.FailureRatio, b.MinCalls = time.Duration(pick(1, 5))*time.Second, 0.5, 5
	}
	s := sim.Scenario{Duration: 12 * time.Second, Load: sim.Load{Rate: 10, Every: 100 * time.Millisecond}}
	s.Clients = sim.Clients{Policy: p, Breaker: &b, Shared: pick(0, 1) == 1, Deadline: odd(4*time.Second) + 300*time.Millisecond + 1}
	s.Backend = sim.Backend{Workers: 1000, Service: sim.Time{Mean: odd(90 * time.Millisecond), Distribution: sim.Constant}}
	from := odd(2 * time.Second)
	for range 3 {
		to := from + odd(3*time.Second)
		kind := []sim.Kind{sim.Outage, sim.BlackHole, sim.Throttle}[random.IntN(3)]
		s.Faults = append(s.Faults, sim.Fault{Kind: kind, From: from, To: to, RetryAfter: odd(3 * time.Second)})
		from = to + odd(time.Second)
	}
	return s
}

type httpStatus int

func (s httpStatus) Error() string       { return "status " + strconv.Itoa(int(s)) }
func (s httpStatus) HTTPStatusCode() int { return int(s) }

// outcome waits for the response of the backend of s, and returns its error.
func outcome(ctx context.Context, s *sim.Scenario, start time.Time) error {
	now := time.Since(start)
	for _, f := range s.Faults {
		if now < f.From || now >= f.To {
			continue
		}
		switch f.Kind {
		case sim.BlackHole:
			<-ctx.Done()
			return ctx.Err()
		case sim.Throttle:
			// As in the simulation, whose faults all have their own wait.
			return retry.After(httpStatus(429), f.RetryAfter)
		default:
			return httpStatus(503)
		}
	}
	timer := time.NewTimer(s.Backend.Service.Mean)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// calls makes the operations of s by retry.Do.
func calls(t *testing.T, s sim.Scenario) (steps []sim.Counts) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		p := s.Clients.Policy
		p.Observe = func(context.Context, retry.Event) {}
		p.Breaker = circuit.New("twin", *s.Clients.Breaker)
		var mu sync.Mutex
		count := func(add func(*sim.Counts)) {
			mu.Lock()
			defer mu.Unlock()
			i := int(time.Since(start) / sim.Step)
			steps = append(steps, make([]sim.Counts, max(0, i+1-len(steps)))...)
			add(&steps[i])
		}
		var all sync.WaitGroup
		arrivals := time.NewTicker(s.Load.Every)
		defer arrivals.Stop()
		for range int(s.Duration/s.Load.Every) - 1 {
			<-arrivals.C
			all.Go(func() {
				count(func(c *sim.Counts) { c.Arrived++ })
				ctx, cancel := context.WithTimeout(t.Context(), s.Clients.Deadline)
				defer cancel()
				err := retry.Do(ctx, &p, func(ctx context.Context) error {
					count(func(c *sim.Counts) { c.Attempts++ })
					return outcome(ctx, &s, start)
				})
				count(func(c *sim.Counts) {
					if err != nil {
						c.Failed++
					} else {
						c.Succeeded++
					}
				})
			})
		}
		all.Wait()
	})
	return slices.Clip(steps)
}

// The error of a simulated attempt has the class that package retry finds
// for itself.
func TestClassesOfOutcomes(t *testing.T) {
	for _, a := range sim.Outcomes() {
		p := retry.Policy{Jitter: retry.NoJitter}
		found := p.Decide(retry.Outcome{Attempt: 1, Err: a.Err, TimedOut: a.TimedOut}, 0)
		if found.Class != a.Class || found.Stop != nil {
			t.Errorf("%v is of class %v, and simulated as %v: %v", a.Err, found.Class, a.Class, found.Stop)
		}
	}
	if fmt.Sprint(sim.Outage, sim.ClockStep, sim.Kind(99)) != "outage clock_step Kind(99)" {
		t.Error(sim.Outage, sim.ClockStep, sim.Kind(99))
	}
}

// The same with a gate. The instants of its probes depend on a random number of each
// process, so only the totals agree, not each step.
func TestSimulatedGateIsAGate(t *testing.T) {
	random := rand.New(rand.NewPCG(testseed.Of(t, 3), 0))
	for n := range 8 {
		s := randomScenario(random)
		s.Load = sim.Load{Rate: 100, Every: 10 * time.Millisecond}
		s.Clients.Shared, s.Clients.Deadline = false, s.Clients.Deadline+time.Second
		*s.Clients.Breaker = circuit.Config{Gate: circuit.Wait, Budget: 10, Observe: s.Clients.Breaker.Observe}
		got, want := total(play(t, s, 1).Steps), total(calls(t, s))
		const few = 120 // a tenth of all operations
		if apart(got.Attempts, want.Attempts) > few || apart(got.Succeeded, want.Succeeded) > few || apart(got.Failed, want.Failed) > few {
			t.Errorf("scenario %d: simulated %+v, called %+v\n%+v", n, got, want, s)
		}
	}
}

func total(steps []sim.Counts) (sum sim.Counts) {
	for _, c := range steps {
		sum.Attempts += c.Attempts
		sum.Succeeded += c.Succeeded
		sum.Failed += c.Failed
	}
	return sum
}

func apart(a, b int) int { return max(a-b, b-a) }
