package sim

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A library is the published algorithm of another library: how it retries and limits calls. If
// the library leaves the backoff to its user, it is the backoff of [Backoff].
type library struct {
	name     string
	attempts int // 0 means no limit
	// delay returns the wait before the nth retry, after an attempt that ended with a;
	// u is random, in [0, 1).
	delay func(n int, a outcome, u float64) time.Duration
	// calm reports whether an outcome is a success for the breaker. If nil, only
	// succeeded is.
	calm    func(outcome) bool
	breaker func() breaker // nil if the library has none
	quota   func() quota   // nil if retries are not limited
}

// A breaker decides whether an attempt may be sent. It writes its generation in the call to
// recognize the result.
type breaker interface {
	admit(now int64, c *call) bool
	result(now int64, c *call, ok bool)
	current() circuit.State
}

// A quota limits the retries of a process.
type quota interface {
	begin(now int64)                           // an operation begins
	decide(now int64, c *call, a outcome) bool // whether to retry after an attempt that has failed
	resume(c *call) bool                       // whether the retry is still allowed after its wait
	result(c *call, a outcome)                 // of an attempt
	end()                                      // the operation is over
}

// A call is the state of an operation for a breaker and a quota.
type call struct {
	tries      int32 // attempts, including those that the breaker refused
	generation int32 // of the breaker, when it admitted the attempt
	paid       int32 // cost of the last retry
}

// fullJitter is the backoff of [Backoff], for libraries that leave the backoff to their user.
func fullJitter(n int, _ outcome, u float64) time.Duration {
	p := Backoff()
	return p.Backoff(n, retry.ClassTransient, u)
}

// exponential returns first·2^(n-1), or limit if that is less.
func exponential(first time.Duration, n int, limit time.Duration) float64 {
	return math.Min(math.Ldexp(float64(first), n-1), float64(limit))
}

const second = time.Second

// libraries returns the libraries that can be simulated. Each constant is the default of the
// named source unless a comment says otherwise.
func libraries() []library { return append(retriers(), breaking()...) }

// retriers returns the libraries without a breaker.
func retriers() []library {
	return []library{
		{
			// aws-sdk-go-v2 v1.47.7, aws/retry/standard.go and jitter_backoff.go,
			// without AWS_NEW_RETRIES_2026: the cap comes after the jitter.
			name: "aws_standard", attempts: 3,
			delay: func(n int, _ outcome, u float64) time.Duration {
				if n > 4 { // log2 of 20
					return 20 * second
				}
				return time.Duration(u * exponential(2*second, n, math.MaxInt64))
			},
			quota: func() quota { return &awsQuota{tokens: 500, cost: 5, costTimeout: 10, costThrottled: 5, every: true} },
		},
		{
			// The same with AWS_NEW_RETRIES_2026=true; aws.amazon.com/blogs/developer,
			// "Announcing updated retry behavior for AWS SDKs and Tools".
			name: "aws_2026", attempts: 3,
			delay: func(n int, a outcome, u float64) time.Duration {
				base := 50 * time.Millisecond
				if a == throttled {
					base = second
				}
				return time.Duration(u * exponential(base, n, 20*second))
			},
			quota: func() quota { return &awsQuota{tokens: 500, cost: 14, costTimeout: 14, costThrottled: 5} },
		},
		{
			// gRPC, proposal A6-client-retries.md: its example of a retry policy, and of
			// retryThrottling. All failures count as codes that are retried.
			name: "grpc_throttle", attempts: 4,
			delay: func(n int, _ outcome, u float64) time.Duration {
				return time.Duration(u * exponential(100*time.Millisecond, n, second))
			},
			quota: func() quota { return &grpcThrottle{tokens: 10 * grpcToken} },
		},
		{
			// Finagle, finagle-core RetryBudget.scala: 20 % of the requests of 10 s, and
			// 10 a second; util-core TokenBucket.scala.
			name: "finagle_budget", attempts: 5, delay: fullJitter,
			quota: func() quota { return &finagleBudget{} },
		},
		{
			// tenacity, tenacity/__init__.py: @retry without arguments retries forever
			// and does not wait. Here each retry takes 10 ms, or it would take no time.
			name:  "tenacity",
			delay: func(int, outcome, float64) time.Duration { return 10 * time.Millisecond },
		},
		{
			// stamina, src/stamina/_core.py: attempts=10, wait_initial=0.1, wait_max=5,
			// wait_jitter=1, wait_exp_base=2; the cap comes after the jitter.
			name: "stamina", attempts: 10,
			delay: func(n int, _ outcome, u float64) time.Duration {
				return min(time.Duration(exponential(100*time.Millisecond, n, math.MaxInt64)+u*float64(second)), 5*second)
			},
		},
	}
}

// breaking returns the libraries with a breaker.
func breaking() []library {
	return []library{
		{
			// Polly v8, src/Polly.Core: RetryConstants.cs and CircuitBreakerConstants.cs,
			// the retry around the breaker. What the caller has cancelled is not handled.
			name: "polly", attempts: 4,
			delay: func(int, outcome, float64) time.Duration { return 2 * second },
			calm:  func(a outcome) bool { return a == succeeded || a == cut },
			breaker: func() breaker {
				return &ratioBreaker{window: newWindow(30 * second), least: 100, ratio: 0.1, open: 5 * second, probes: 1, proves: 1}
			},
		},
		{
			// resilience4j, CircuitBreakerConfig.java and RetryConfig.java, the retry
			// around the breaker.
			name: "resilience4j", attempts: 3,
			delay:   func(int, outcome, float64) time.Duration { return 500 * time.Millisecond },
			breaker: func() breaker { return &countBreaker{size: 100, open: 60 * second, probes: 10} },
		},
		{
			// failsafe-go v0.9.8, circuitbreaker and budget, in the mix that does best in
			// the storms: half of at least 10 calls in 1 s, open for 0.5 s, 3 probes.
			name: "failsafe_mix", attempts: 5, delay: fullJitter,
			breaker: func() breaker {
				return &ratioBreaker{window: newWindow(second), least: 10, ratio: 0.5, open: second / 2, probes: 3, proves: 3}
			},
			quota: func() quota { return &failsafeBudget{} },
		},
		{
			// gobreaker v2.4.0 in backoff: more than 5 failures in a row, but open for 1 s
			// and not for 60. What it refuses is retried.
			name: "gobreaker", attempts: 5, delay: fullJitter,
			breaker: func() breaker { return &rowBreaker{most: 5, open: second} },
		},
	}
}

// libraryNamed returns the library of that name, or nil.
func libraryNamed(name string) *library {
	all := libraries()
	if i := slices.IndexFunc(all, func(l library) bool { return l.name == name }); i >= 0 {
		return &all[i]
	}
	return nil
}

// Libraries returns the names that are allowed as Clients.Library.
func Libraries() (names []string) {
	for _, l := range libraries() {
		names = append(names, l.name)
	}
	return names
}

// wantLibrary says what is allowed as Clients.Library.
func wantLibrary() string {
	return fmt.Sprintf(`"" or one of %s`, strings.Join(Libraries(), ", "))
}

// A peer is one process of a library.
type peer struct {
	breaker breaker
	quota   quota
}

// newPeers returns new processes of a library.
func newPeers(l *library, processes int) []peer {
	if l == nil {
		return nil
	}
	peers := make([]peer, processes)
	for i := range peers {
		peers[i] = peer{&noBreaker{}, noQuota{}}
		if l.breaker != nil {
			peers[i].breaker = l.breaker()
		}
		if l.quota != nil {
			peers[i].quota = l.quota()
		}
	}
	return peers
}

// peerAdmit asks a library for the next attempt, and sends it.
func (m *model) peerAdmit(op int32) {
	o := &m.clients.operations[op]
	p := &m.clients.peers[o.process]
	if o.call.tries == 0 {
		p.quota.begin(m.now)
	} else if m.now >= o.deadline || !p.quota.resume(&o.call) {
		m.close(op, false)
		return
	}
	o.call.tries++
	if p.breaker.admit(m.now, &o.call) {
		m.send(op)
	} else {
		p.quota.result(&o.call, refused)
		m.peerDecide(op, refused)
	}
}

// peerResult reports the outcome of an attempt to a library.
func (m *model) peerResult(o *operation, a outcome) {
	p, calm := &m.clients.peers[o.process], m.clients.library.calm
	before := p.breaker.current()
	p.breaker.result(m.now, &o.call, a == succeeded || calm != nil && calm(a))
	if after := p.breaker.current(); after != before {
		m.recorder.transition(circuit.Transition{From: before, To: after})
	}
	p.quota.result(&o.call, a)
}

// peerDecide retries after an attempt that ended with a, or ends the operation. A wait beyond
// the deadline ends at the deadline.
func (m *model) peerDecide(op int32, a outcome) {
	l, o := m.clients.library, &m.clients.operations[op]
	p := &m.clients.peers[o.process]
	if a == cut || l.attempts > 0 && int(o.call.tries) >= l.attempts || !p.quota.decide(m.now, &o.call, a) {
		m.close(op, false)
		return
	}
	delay := l.delay(int(o.call.tries), a, m.clients.random.Float64())
	m.agenda.add(event{at: min(m.now+int64(delay), o.deadline), kind: wake, op: op})
}
