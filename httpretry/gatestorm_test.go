package httpretry_test

import (
	"context"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/sim"
)

// A storming server has the backend of a scenario, whose work continues after its client has left.
type storming struct {
	scenario sim.Scenario
	start    time.Time
	workers  chan struct{}
	waiting  atomic.Int32

	mu       sync.Mutex
	times    *rand.Rand      // of service; guarded by mu
	due      time.Duration   // when a throttle admits the next request; guarded by mu
	received [2]atomic.Int32 // in the fault and after it
}

func (s *storming) fault() *sim.Fault { return &s.scenario.Faults[0] }

// count adds one to the counter of now; before the fault it does nothing.
func (s *storming) count(of *[2]atomic.Int32) {
	switch now := time.Since(s.start); {
	case now < s.fault().From:
	case now < s.fault().To:
		of[0].Add(1)
	default:
		of[1].Add(1)
	}
}

// serveOne takes a worker for a while.
func (s *storming) serveOne(w http.ResponseWriter, _ *http.Request) {
	s.count(&s.received)
	now := time.Since(s.start)
	on := now >= s.fault().From && now < s.fault().To
	switch {
	case on && s.fault().Kind == sim.Throttle && !s.admits(now):
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
		return
	case on && s.fault().Kind == sim.Outage, int(s.waiting.Load()) >= s.scenario.Backend.Queue:
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	s.waiting.Add(1)
	s.workers <- struct{}{}
	s.waiting.Add(-1)
	s.mu.Lock()
	took := time.Duration((0.5 + s.times.Float64()) * float64(s.scenario.Backend.Service.Mean))
	s.mu.Unlock()
	pause(took)
	<-s.workers
}

// admits reports whether a throttle lets a request pass: at an even rate.
func (s *storming) admits(now time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.due > now {
		return false
	}
	rate := s.fault().Level * float64(s.scenario.Backend.Workers) / s.scenario.Backend.Service.Mean.Seconds()
	s.due = max(s.due, now-10*time.Millisecond) + time.Duration(float64(time.Second)/rate)
	return true
}

// brown takes workers away while a brownout lasts.
func (s *storming) brown() {
	if s.fault().Kind != sim.Brownout {
		return
	}
	pause(s.fault().From)
	away := int((1 - s.fault().Level) * float64(s.scenario.Backend.Workers))
	for range away {
		s.workers <- struct{}{}
	}
	pause(time.Until(s.start.Add(s.fault().To)))
	for range away {
		<-s.workers
	}
}

// A stormed is the result of a storm: the operations lost, and the attempts for each.
type stormed struct {
	lost          float64 // seconds of traffic
	during, after float64
}

// playHTTP plays a scenario over HTTP, in a bubble: each process is a Transport.
func playHTTP(t *testing.T, scenario sim.Scenario, seed uint64) (got stormed) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &storming{scenario: scenario, start: time.Now(), workers: make(chan struct{}, scenario.Backend.Workers), times: rand.New(rand.NewPCG(seed, 1))}
		arrivals := rand.New(rand.NewPCG(seed, 2))
		network := newPipes()
		server := &http.Server{Handler: http.HandlerFunc(s.serveOne)} //nolint:gosec // no client of the test is slow with a header
		go server.Serve(network)                                      //nolint:errcheck // it is closed
		go s.brown()
		base := &http.Transport{DialContext: network.DialContext, MaxIdleConnsPerHost: 1000}
		policy := scenario.Clients.Policy
		policy.Observe = func(context.Context, retry.Event) {}
		var processes []http.RoundTripper
		for range scenario.Clients.Processes {
			config := *scenario.Clients.Breaker
			config.Observe = func(context.Context, circuit.Transition) {}
			processes = append(processes, httpretry.NewTransport(base, httpretry.Options{Policy: &policy, Breakers: &config}))
		}
		var lost atomic.Int32
		var arrived [2]atomic.Int32
		var running sync.WaitGroup
		for {
			pause(time.Duration(arrivals.ExpFloat64() / scenario.Load.Rate * float64(time.Second)))
			at := time.Since(s.start)
			if at >= scenario.Duration {
				break
			}
			s.count(&arrived)
			transport := processes[arrivals.IntN(len(processes))]
			running.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), scenario.Clients.Deadline)
				defer cancel()
				if !fetched(ctx, transport) && at >= s.fault().From {
					lost.Add(1)
				}
			})
		}
		running.Wait()
		pause(time.Minute) // in which the server ends what it has begun
		base.CloseIdleConnections()
		_ = server.Close()
		got.lost = float64(lost.Load()) / scenario.Load.Rate
		got.during = float64(s.received[0].Load()) / float64(arrived[0].Load())
		got.after = float64(s.received[1].Load()) / float64(arrived[1].Load())
	})
	return got
}

func fetched(ctx context.Context, transport http.RoundTripper) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://storm/", nil)
	if err != nil {
		return false
	}
	response, err := transport.RoundTrip(r)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, response.Body)
	response.Body.Close()
	return err == nil && response.StatusCode == http.StatusOK
}

// simulated returns the range of the losses that the simulation has for its seeds.
func simulated(t *testing.T, s sim.Scenario) (least, most float64) {
	t.Helper()
	least = math.Inf(1)
	for seed := range uint64(8) {
		r, err := sim.Run(t.Context(), s, seed+1)
		if err != nil {
			t.Fatal(err)
		}
		least, most = min(least, r.Lost.Seconds()), max(most, r.Lost.Seconds())
	}
	return least, most
}

// A storm over HTTP matches the simulation. With a gate it costs no more than without retries, and the backend gets hardly
// more requests than arrive.
func TestStormsOverHTTP(t *testing.T) {
	seed := testseed.Of(t, 1)
	for kind, level := range map[sim.Kind]float64{sim.Outage: 0, sim.Brownout: 0.2, sim.Throttle: 0.4} {
		s := sim.Storm(kind.String(), sim.Fault{Kind: kind, Level: level, From: 4 * time.Second, To: 9 * time.Second})
		if kind == sim.Throttle {
			s.Faults[0].RetryAfter = time.Second
		}
		s.Load.Rate, s.Backend.Workers, s.Backend.Queue, s.Clients.Processes = 200, 5, 250, 4
		lost := map[string]float64{}
		for _, c := range []sim.Contender{
			{Name: "no retries", Policy: sim.NoRetries(), Breaker: &circuit.Config{FailureThreshold: circuit.Off}},
			{Name: "gate", Policy: sim.Backoff(), Breaker: &circuit.Config{Gate: circuit.Wait, Budget: 10}},
		} {
			s.Clients.Policy, s.Clients.Breaker = c.Policy, c.Breaker
			got := playHTTP(t, s, seed)
			least, most := simulated(t, s)
			t.Logf("%v, %s: %.2f s lost, %.2f to %.2f simulated; attempts %.2f in the fault, %.2f after", kind, c.Name, got.lost, least, most, got.during, got.after)
			if got.lost < least-0.6 || got.lost > most+0.6 { // at 200 calls a second, in whatever order goroutines run
				t.Errorf("%v, %s: %.2f s lost, want %.2f to %.2f", kind, c.Name, got.lost, least, most)
			}
			if lost[c.Name] = got.lost; got.during > 1.45 || got.after > 1.3 {
				t.Errorf("%v, %s: %.2f attempts for each operation in the fault, %.2f after; want at most 1.45 and 1.3", kind, c.Name, got.during, got.after)
			}
		}
		if lost["gate"] > lost["no retries"]+0.15 {
			t.Errorf("%v: %.2f s lost with a gate, %.2f without retries", kind, lost["gate"], lost["no retries"])
		}
	}
}

// A batch job that makes requests in sequence survives five minutes of 503 with the
// Pipeline presets.
func TestAPipelineOutlastsAnOutageOverHTTP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		network := newPipes()
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { //nolint:gosec // no client of the test is slow with a header
			if down.Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		})}
		go server.Serve(network) //nolint:errcheck // it is closed
		base := &http.Transport{DialContext: network.DialContext}
		policy, config := retry.Pipeline(), circuit.Pipeline()
		policy.Observe = func(context.Context, retry.Event) {}
		config.Observe = func(context.Context, circuit.Transition) {}
		transport := httpretry.NewTransport(base, httpretry.Options{Policy: &policy, Breakers: &config})
		start := time.Now()
		for i := range 100 {
			if i == 50 {
				down.Store(true)
				time.AfterFunc(5*time.Minute, func() { down.Store(false) })
			}
			if !fetched(t.Context(), transport) {
				t.Fatalf("request %d failed after %v", i, time.Since(start))
			}
		}
		if took := time.Since(start); took < 5*time.Minute || took > 6*time.Minute+10*time.Second {
			t.Errorf("100 requests around an outage of 5m took %v", took)
		}
		base.CloseIdleConnections()
		_ = server.Close()
	})
}
