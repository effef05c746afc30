package sim

import (
	"cmp"
	"fmt"
	"math"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A Scenario is what [Run] simulates. A Scenario is plain data, and a run does not change it.
type Scenario struct {
	Name     string
	Duration time.Duration // how long operations arrive, up to a day; 0 means 22 s
	Drain    time.Duration // how long operations in progress may take after Duration, up to a day; 0 means a minute
	Load     Load
	Clients  Clients
	Backend  Backend
	Faults   []Fault
}

// Load configures when operations arrive: in an open loop, at a rate; or with Clients in a closed
// loop, in which a client begins an operation when its previous operation has ended.
type Load struct {
	// Rate is the number of operations per second that arrive at all processes together, in an open
	// loop, at random (Poisson) instants; up to 10 million.
	Rate float64
	// Batch is how many operations arrive at each instant; 0 means 1.
	Batch int
	// Every makes a herd: at the end of each period of this length, all operations of the period
	// arrive at one instant. 0 means that operations arrive at random.
	Every time.Duration
	// Clients is the number of clients of each process, in a closed loop; 0 means an open loop.
	Clients int
	// Think is the mean pause of a client between two operations in a closed loop, exponentially
	// distributed. After an operation that took no time, such as a refused one, the pause is
	// at least 1 ms.
	Think time.Duration
}

// Clients configures how operations are made.
type Clients struct {
	// Processes is the number of processes, each with its own breaker; 0 means 1. Up to
	// 100,000.
	Processes int
	// Shared gives the breakers of all processes one state, as a host file does.
	Shared bool
	// Policy is the retry policy. Its Breaker must be nil.
	Policy retry.Policy
	// Breaker configures the breakers and the budgets. Its Store must be nil, and its Rate and
	// Concurrency 0; its Observe is not called. If nil, processes have no breaker and no budget.
	Breaker *circuit.Config
	// Library is the name of another library, one of [Libraries], whose defaults replace Policy and
	// Breaker, in each process separately; of Policy, only AttemptTimeout is used. "" means
	// packages retry and circuit.
	Library string
	// Deadline is how long the caller of an operation waits; 0 means no limit.
	Deadline time.Duration
}

// Backend configures the service. Requests wait for a worker in the order of their arrival.
type Backend struct {
	// Workers is the number of requests that all shards together serve at a time; 0 means 40.
	Workers int
	// Queue is the number of requests that can wait in all shards together. A request that finds the
	// queue full gets a 503 at once. 0 means no limit, NoQueue that no request can wait.
	Queue int
	// Service is the service time of a request.
	Service Time
	// Slowdown makes service slower with load: if n requests are queued per worker, service takes
	// 1 + Slowdown*n times as long. 0 means no slowdown.
	Slowdown float64
	// Shards is the number of parts of the backend, each with its part of the workers and the
	// queue. Each request goes to one shard, at random. 0 means 1.
	Shards int
	// LastInFirstOut serves the youngest request first.
	LastInFirstOut bool
	// SkipsAbandoned has workers skip requests whose client has given up. A usual backend does not
	// know that the client has given up, and serves the request.
	SkipsAbandoned bool
	// Network is the duration of a round trip; 0 means no time.
	Network time.Duration
}

// NoQueue as Backend.Queue means that no request can wait.
const NoQueue = -1

// Time is the distribution of a service time. The zero Time is uniform from 10
// to 30 ms.
type Time struct {
	Mean         time.Duration // 0 means 20 ms
	Distribution Distribution
	// Spread is the half width of a uniform distribution, as a ratio of the
	// mean (0 means 0.5), and the standard deviation of the logarithm of a
	// log-normal one (0 means 1).
	Spread float64
}

// A Distribution is the shape of a [Time].
type Distribution uint8

// The distributions.
const (
	Uniform     Distribution = iota // around the mean
	Constant                        // always the mean
	Exponential                     // with the mean
	LogNormal                       // with the mean: a long tail
)

// filled returns s with defaults in place of zeros.
func (s Scenario) filled() Scenario {
	s.Duration = cmp.Or(s.Duration, 22*time.Second)
	s.Drain = cmp.Or(s.Drain, time.Minute)
	s.Load.Batch = cmp.Or(s.Load.Batch, 1)
	s.Clients.Processes = cmp.Or(s.Clients.Processes, 1)
	s.Backend.Workers = cmp.Or(s.Backend.Workers, 40)
	s.Backend.Shards = cmp.Or(s.Backend.Shards, 1)
	t := &s.Backend.Service
	t.Mean = cmp.Or(t.Mean, 20*time.Millisecond)
	switch t.Distribution {
	case Uniform:
		t.Spread = cmp.Or(t.Spread, 0.5)
	case LogNormal:
		t.Spread = cmp.Or(t.Spread, 1)
	case Constant, Exponential:
	}
	return s
}

// capacity returns how many requests per second the backend serves.
func (s *Scenario) capacity() float64 {
	return float64(s.Backend.Workers) / s.Backend.Service.Mean.Seconds()
}

// An Error reports a value that a [Scenario] may not have.
type Error struct {
	Field string // such as Backend.Workers
	Value any
	Want  string // what is allowed
}

// Error names the field, the value and what is allowed.
func (e *Error) Error() string {
	return fmt.Sprintf("sim: invalid value %v for %s: must be %s", e.Value, e.Field, e.Want)
}

// Limits of a Scenario, which bound the time and memory of a run.
const (
	maxDuration  = 24 * time.Hour
	maxRate      = 1e7
	maxCount     = 100_000
	maxWaiting   = 10_000_000
	maxSlowdown  = 1000
	maxFaults    = 1000
	maxOperation = 1_000_000_000 // operations of a run
)

// Validate returns an [*Error] about the first value that is not allowed, the error of the
// Policy or the Breaker, or nil.
func (s Scenario) Validate() error {
	if err := firstBad(s.checks()); err != nil {
		return err
	}
	if err := s.Clients.Policy.Validate(); err != nil {
		return err
	}
	if b := s.Clients.Breaker; b != nil {
		if b.Store != nil {
			return &Error{"Clients.Breaker.Store", "a store", "nil (the simulation has its own)"}
		}
		if err := firstBad([]check{
			{b.Rate == 0, Error{"Clients.Breaker.Rate", b.Rate, "0 (rates are not simulated)"}},
			{b.Concurrency == 0, Error{"Clients.Breaker.Concurrency", b.Concurrency, "0 (concurrency is not simulated)"}},
		}); err != nil {
			return err
		}
		if err := b.Validate(); err != nil {
			return err
		}
	}
	f := s.filled()
	for i, fault := range s.Faults {
		if err := fault.validate(i, &f); err != nil {
			return err
		}
	}
	return nil
}

// A check is a condition of a Scenario.
type check struct {
	ok bool
	Error
}

func firstBad(checks []check) error {
	for _, c := range checks {
		if !c.ok {
			return &c.Error
		}
	}
	return nil
}

func span(field string, d, limit time.Duration) check {
	return check{d >= 0 && d <= limit, Error{field, d, fmt.Sprintf("0 to %v", limit)}}
}

func count(field string, n, least, most int) check {
	return check{n >= least && n <= most, Error{field, n, fmt.Sprintf("%d to %d", least, most)}}
}

// ratio allows 0 to most, and no NaN.
func ratio(field string, x, most float64) check {
	return check{x >= 0 && x <= most, Error{field, x, fmt.Sprintf("0 to %g", most)}}
}

// checks returns the conditions of all fields except Faults.
func (s Scenario) checks() []check {
	f := s.filled()
	l, b := s.Load, s.Backend
	all := l.Rate * f.Duration.Seconds()
	return []check{
		span("Duration", s.Duration, maxDuration),
		span("Drain", s.Drain, maxDuration),
		ratio("Load.Rate", l.Rate, maxRate),
		{all <= maxOperation, Error{"Load.Rate", l.Rate, fmt.Sprintf("at most %d operations in all", maxOperation)}},
		count("Load.Batch", l.Batch, 0, maxWaiting),
		span("Load.Every", l.Every, maxDuration),
		count("Load.Clients", l.Clients, 0, maxCount),
		{l.Clients == 0 || l.Rate == 0, Error{"Load.Rate", l.Rate, "0 in a closed loop, in which the clients make the load"}},
		{l.Clients*f.Clients.Processes <= maxWaiting, Error{"Load.Clients", l.Clients, fmt.Sprintf("at most %d in all processes", maxWaiting)}},
		{l.Every == 0 || l.Rate*l.Every.Seconds() >= 1, Error{"Load.Every", l.Every, "long enough for at least one operation"}},
		{l.Every == 0 || l.Batch <= 1, Error{"Load.Batch", l.Batch, "0 in a herd (Every)"}},
		span("Load.Think", l.Think, maxDuration),
		{l.Clients == 0 || l.Think > 0 || f.Backend.Service.Mean > 0, Error{"Load.Think", l.Think, "positive"}},
		count("Clients.Processes", s.Clients.Processes, 0, maxCount),
		{s.Clients.Policy.Breaker == nil, Error{"Clients.Policy.Breaker", "a breaker", "nil: set Clients.Breaker"}},
		{s.Clients.Library == "" || libraryNamed(s.Clients.Library) != nil, Error{"Clients.Library", s.Clients.Library, wantLibrary()}},
		span("Clients.Deadline", s.Clients.Deadline, maxDuration),
		count("Backend.Workers", b.Workers, 0, maxCount),
		count("Backend.Queue", b.Queue, NoQueue, maxWaiting),
		ratio("Backend.Slowdown", b.Slowdown, maxSlowdown),
		count("Backend.Shards", b.Shards, 0, f.Backend.Workers),
		span("Backend.Network", b.Network, time.Hour),
		span("Backend.Service.Mean", b.Service.Mean, time.Hour),
		ratio("Backend.Service.Spread", b.Service.Spread, spreadLimit(b.Service.Distribution)),
		{b.Service.Distribution <= LogNormal, Error{"Backend.Service.Distribution", b.Service.Distribution, "Uniform, Constant, Exponential or LogNormal"}},
		count("the number of Faults", len(s.Faults), 0, maxFaults),
	}
}

func spreadLimit(d Distribution) float64 {
	switch d {
	case Uniform:
		return 1
	case LogNormal:
		return 5
	case Constant, Exponential:
		return 0
	default:
		return math.Inf(1)
	}
}

// Storm returns the scenario in which policies are compared: 20 processes, 40 workers that take 10
// to 30 ms for a request, a queue of 2,000 requests, and 1,600 operations a second, which are 80 %
// of the capacity, for 22 s. Callers wait for 3 s, and an attempt may take 200 ms.
func Storm(name string, faults ...Fault) Scenario {
	return Scenario{
		Name: name, Duration: 22 * time.Second, Load: Load{Rate: 1600},
		Clients: Clients{Processes: 20, Deadline: 3 * time.Second, Policy: NoRetries()},
		Backend: Backend{Workers: 40, Queue: 2000, Service: Time{Mean: 20 * time.Millisecond}},
		Faults:  faults,
	}
}

// Storms returns the scenarios in which policies are tested: [Storm] with a fault of 5 s each.
func Storms() []Scenario {
	fault := func(f Fault) Fault {
		f.From, f.To = 4*time.Second, 9*time.Second
		return f
	}
	return []Scenario{
		Storm("outage", fault(Fault{Kind: Outage})),
		Storm("crash", fault(Fault{Kind: Crash})),
		Storm("brownout", fault(Fault{Kind: Brownout, Level: 0.2})),
		Storm("throttle", fault(Fault{Kind: Throttle, Level: 0.4, RetryAfter: time.Second})),
		Storm("throttle without Retry-After", fault(Fault{Kind: Throttle, Level: 0.4})),
		Storm("errors 5 %", fault(Fault{Kind: Errors, Level: 0.05})),
		Storm("errors 30 %", fault(Fault{Kind: Errors, Level: 0.3})),
		Storm("deploy in a brownout", fault(Fault{Kind: Brownout, Level: 0.2}), Fault{Kind: Restart, From: 6500 * time.Millisecond, To: 6500 * time.Millisecond}),
	}
}

// attemptTimeout is the timeout of attempts of the policies below.
const attemptTimeout = 200 * time.Millisecond

// NoRetries returns a policy of one attempt, the baseline of comparisons.
func NoRetries() retry.Policy {
	return retry.Policy{MaxAttempts: 1, AttemptTimeout: attemptTimeout}
}

// Backoff returns a policy of five attempts with full jitter from 50 ms to 1 s,
// which is what most retry libraries do.
func Backoff() retry.Policy {
	return retry.Policy{
		MaxAttempts: 5, BaseDelay: 50 * time.Millisecond, MaxDelay: time.Second, JitterMode: retry.FullJitter,
		AttemptTimeout: attemptTimeout,
	}
}

// A Contender is a policy with a breaker, or another library, to compare with others.
type Contender struct {
	Name    string
	Policy  retry.Policy
	Breaker *circuit.Config
	Library string // as Clients.Library
}

// In returns s with clients that call as c does.
func (c Contender) In(s Scenario) Scenario {
	s.Clients.Policy, s.Clients.Breaker, s.Clients.Library = c.Policy, c.Breaker, c.Library
	return s
}

// Contenders returns the policies to compare in a storm: none, backoff (full jitter alone),
// backoff_budget, preset (the zero Policy and the zero Config), service, and [Libraries].
func Contenders() []Contender {
	timed := func(p retry.Policy) retry.Policy {
		p.AttemptTimeout = attemptTimeout
		return p
	}
	service := circuit.Service()
	all := []Contender{
		{Name: "none", Policy: NoRetries()},
		{Name: "backoff", Policy: Backoff()},
		{Name: "backoff_budget", Policy: Backoff(), Breaker: &circuit.Config{FailureThreshold: circuit.Off, Budget: 10}},
		{Name: "preset", Policy: timed(retry.Default()), Breaker: &circuit.Config{}},
		{Name: "service", Policy: timed(retry.Service()), Breaker: &service},
	}
	for _, name := range Libraries() {
		all = append(all, Contender{Name: name, Policy: NoRetries(), Library: name})
	}
	return all
}
