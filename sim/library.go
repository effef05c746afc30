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

// A library is how another library than this one retries and limits calls, as it
// publishes it. Where it leaves the backoff to its user, that is the one of [Backoff].
type library struct {
	name     string
	attempts int // 0 means no limit
	// delay returns the wait before the nth retry, after an attempt that ended with a;
	// u, in [0, 1), is random.
	delay func(n int, a answer, u float64) time.Duration
	// calm reports whether the breaker takes an answer for a success: if nil, success alone.
	calm    func(answer) bool
	breaker func() breaker // if nil, there is none
	quota   func() quota   // if nil, retries are not limited
}

// A breaker decides whether an attempt may be sent. It knows the attempt by the
// generation that it has written in the call.
type breaker interface {
	admit(now int64, c *call) bool
	result(now int64, c *call, ok bool)
	current() circuit.State
}

// A quota limits the retries of a process.
type quota interface {
	begin(now int64)                          // an operation begins
	decide(now int64, c *call, a answer) bool // whether to retry after an attempt that has failed
	resume(c *call) bool                      // whether the retry is still allowed after its wait
	result(c *call, a answer)                 // of an attempt
	end()                                     // the operation is over
}

// A call is an operation, for a breaker and a quota.
type call struct {
	tries      int32 // attempts, and those that the breaker has refused
	generation int32 // of the breaker, when it admitted the attempt
	paid       int32 // for the last retry
}

// fullJitter is the backoff of [Backoff], for libraries that leave it to their user.
func fullJitter(n int, _ answer, u float64) time.Duration {
	p := Backoff()
	return p.Backoff(n, retry.ClassTransient, u)
}

// exponential returns first·2^(n-1), or limit if that is less.
func exponential(first time.Duration, n int, limit time.Duration) float64 {
	return math.Min(math.Ldexp(float64(first), n-1), float64(limit))
}

const second = time.Second

// libraries returns the libraries whose clients can be simulated. Each constant is the
// default of its source; what is not is said.
func libraries() []library { return append(retriers(), breaking()...) }

// retriers are those without a breaker.
func retriers() []library {
	return []library{
		{
			// aws-sdk-go-v2 v1.47.7, aws/retry/standard.go and jitter_backoff.go,
			// without AWS_NEW_RETRIES_2026: the cap comes after the jitter.
			name: "aws_standard", attempts: 3,
			delay: func(n int, _ answer, u float64) time.Duration {
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
			delay: func(n int, a answer, u float64) time.Duration {
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
			delay: func(n int, _ answer, u float64) time.Duration {
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
			// tenacity, tenacity/__init__.py: @retry without arguments retries for ever
			// and does not wait. Here each retry takes 10 ms, or it would take no time.
			name:  "tenacity",
			delay: func(int, answer, float64) time.Duration { return 10 * time.Millisecond },
		},
		{
			// stamina, src/stamina/_core.py: attempts=10, wait_initial=0.1, wait_max=5,
			// wait_jitter=1, wait_exp_base=2; the cap comes after the jitter.
			name: "stamina", attempts: 10,
			delay: func(n int, _ answer, u float64) time.Duration {
				return min(time.Duration(exponential(100*time.Millisecond, n, math.MaxInt64)+u*float64(second)), 5*second)
			},
		},
	}
}

// breaking are those with a breaker.
func breaking() []library {
	return []library{
		{
			// Polly v8, src/Polly.Core: RetryConstants.cs and CircuitBreakerConstants.cs,
			// the retry around the breaker. What the caller has cancelled is not handled.
			name: "polly", attempts: 4,
			delay: func(int, answer, float64) time.Duration { return 2 * second },
			calm:  func(a answer) bool { return a == succeeded || a == cut },
			breaker: func() breaker {
				return &ratioBreaker{window: newWindow(30 * second), least: 100, ratio: 0.1, open: 5 * second, probes: 1, proves: 1}
			},
		},
		{
			// resilience4j, CircuitBreakerConfig.java and RetryConfig.java, the retry
			// around the breaker.
			name: "resilience4j", attempts: 3,
			delay:   func(int, answer, float64) time.Duration { return 500 * time.Millisecond },
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

// libraryNamed returns the library of a name; nil if there is none.
func libraryNamed(name string) *library {
	all := libraries()
	if i := slices.IndexFunc(all, func(l library) bool { return l.name == name }); i >= 0 {
		return &all[i]
	}
	return nil
}

// Libraries returns the names that Clients.Library may have.
func Libraries() (names []string) {
	for _, l := range libraries() {
		names = append(names, l.name)
	}
	return names
}

// wantLibrary is what Clients.Library may be.
func wantLibrary() string {
	return fmt.Sprintf(`"" or one of %s`, strings.Join(Libraries(), ", "))
}

// A peer is one process of a library.
type peer struct {
	breaker breaker
	quota   quota
}

// newPeers returns the processes of a library, with nothing in their memory.
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

// peerResult tells a library how an attempt has ended.
func (m *model) peerResult(o *operation, a answer) {
	p, calm := &m.clients.peers[o.process], m.clients.library.calm
	before := p.breaker.current()
	p.breaker.result(m.now, &o.call, a == succeeded || calm != nil && calm(a))
	if after := p.breaker.current(); after != before {
		m.recorder.transition(circuit.Transition{From: before, To: after})
	}
	p.quota.result(&o.call, a)
}

// peerDecide retries after an attempt that has ended with a, or ends the operation. A
// wait that is longer than the caller's ends with the caller's.
func (m *model) peerDecide(op int32, a answer) {
	l, o := m.clients.library, &m.clients.operations[op]
	p := &m.clients.peers[o.process]
	if a == cut || l.attempts > 0 && int(o.call.tries) >= l.attempts || !p.quota.decide(m.now, &o.call, a) {
		m.close(op, false)
		return
	}
	delay := l.delay(int(o.call.tries), a, m.clients.random.Float64())
	m.agenda.add(event{at: min(m.now+int64(delay), o.deadline), kind: wake, op: op})
}
