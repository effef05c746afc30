package sim

import (
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
)

// A mode is the state of a breaker, and until when it is open.
type mode struct {
	state circuit.State
	until int64
}

func (m *mode) current() circuit.State { return m.state }

// shut opens the breaker.
func (m *mode) shut(now int64, d time.Duration) { m.state, m.until = circuit.Open, now+int64(d) }

// over reports whether the breaker is open, and need not be any more.
func (m *mode) over(now int64) bool { return m.state == circuit.Open && now >= m.until }

type noBreaker struct{ mode }

func (*noBreaker) admit(int64, *call) bool   { return true }
func (*noBreaker) result(int64, *call, bool) {}

type noQuota struct{}

func (noQuota) begin(int64)                      {}
func (noQuota) decide(int64, *call, answer) bool { return true }
func (noQuota) resume(*call) bool                { return true }
func (noQuota) result(*call, answer)             {}
func (noQuota) end()                             {}

// A window sums what was added in the last ten tenths of a time.
type window struct {
	tenth int64
	slot  int64 // number of the present tenth
	sums  [10][2]int
}

func newWindow(length time.Duration) window { return window{tenth: int64(length) / 10} }

// at drops what is too old, and returns the sums of the present tenth.
func (w *window) at(now int64) *[2]int {
	slot := now / w.tenth
	for w.slot = max(w.slot, slot-10); w.slot < slot; {
		w.slot++
		w.sums[w.slot%10] = [2]int{}
	}
	return &w.sums[w.slot%10]
}

// sum returns the sums of all tenths.
func (w *window) sum() (a, b int) {
	for _, s := range w.sums {
		a, b = a+s[0], b+s[1]
	}
	return a, b
}

// A ratioBreaker opens for a ratio of failures in a time. Results count whenever they
// come, also those of calls that it admitted before it opened.
type ratioBreaker struct {
	mode

	window window // successes, failures
	least  int    // calls in it
	ratio  float64
	open   time.Duration
	probes int // that are admitted half-open
	proves int // successes of them that close it; one failure opens it

	places int // half-open, for probes
	proved int
}

func (b *ratioBreaker) admit(now int64, _ *call) bool {
	if b.over(now) {
		b.state, b.places, b.proved = circuit.HalfOpen, b.probes, 0
	}
	if b.state == circuit.HalfOpen && b.places > 0 {
		b.places--
		return true
	}
	return b.state == circuit.Closed
}

func (b *ratioBreaker) result(now int64, _ *call, ok bool) {
	kind := 1
	if ok {
		kind = 0
	}
	switch {
	case b.state == circuit.Closed:
		b.window.at(now)[kind]++
		succeeded, failed := b.window.sum()
		if all := succeeded + failed; !ok && all >= b.least && float64(failed) >= b.ratio*float64(all) {
			b.shut(now, b.open)
		}
	case b.state == circuit.HalfOpen && !ok:
		b.shut(now, b.open)
	case b.state == circuit.HalfOpen:
		if b.proved++; b.proved >= b.proves {
			b.state, b.window = circuit.Closed, window{tenth: b.window.tenth}
		} else {
			b.places++
		}
	}
}

// A countBreaker opens when half of the last calls have failed, and is half-open for as
// many results as it admits probes. Results count whenever they come.
type countBreaker struct {
	mode

	size   int // calls of the window
	open   time.Duration
	probes int

	places int
	ring   []bool // the last results, whether they failed
	next   int
	failed int
}

func (b *countBreaker) admit(now int64, _ *call) bool {
	if b.over(now) {
		b.enter(circuit.HalfOpen)
		b.places = b.probes
	}
	if b.state == circuit.HalfOpen && b.places > 0 {
		b.places--
		return true
	}
	return b.state == circuit.Closed
}

// enter begins a state, in which no result has come.
func (b *countBreaker) enter(s circuit.State) {
	b.state, b.ring, b.next, b.failed = s, b.ring[:0], 0, 0
}

func (b *countBreaker) result(now int64, _ *call, ok bool) {
	if b.state == circuit.Open {
		return
	}
	size := b.size
	if b.state == circuit.HalfOpen {
		size = b.probes
	}
	if len(b.ring) < size {
		b.ring = append(b.ring, !ok)
	} else {
		if b.ring[b.next] {
			b.failed--
		}
		b.ring[b.next] = !ok
		b.next = (b.next + 1) % size
	}
	if !ok {
		b.failed++
	}
	switch {
	case len(b.ring) < size:
	case 2*b.failed >= size:
		b.enter(circuit.Open)
		b.shut(now, b.open)
	case b.state == circuit.HalfOpen:
		b.enter(circuit.Closed)
	}
}

// A rowBreaker opens after failures in a row. Results of an earlier state do not count.
type rowBreaker struct {
	mode

	most int // failures in a row that it stands
	open time.Duration

	generation int32
	failed     int
	probing    bool
}

func (b *rowBreaker) admit(now int64, c *call) bool {
	if b.over(now) {
		b.enter(circuit.HalfOpen)
	}
	if b.state == circuit.Open || b.state == circuit.HalfOpen && b.probing {
		return false
	}
	b.probing = b.state == circuit.HalfOpen
	c.generation = b.generation
	return true
}

func (b *rowBreaker) enter(s circuit.State) {
	b.state, b.failed, b.probing = s, 0, false
	b.generation++
}

func (b *rowBreaker) result(now int64, c *call, ok bool) {
	switch {
	case c.generation != b.generation:
	case ok && b.state == circuit.HalfOpen:
		b.enter(circuit.Closed)
	case ok:
		b.failed = 0
	default:
		if b.failed++; b.failed > b.most || b.state == circuit.HalfOpen {
			b.enter(circuit.Open)
			b.shut(now, b.open)
		}
	}
}

// An awsQuota is a bucket of tokens that retries pay with. A retry that succeeds gets
// back what it paid.
type awsQuota struct {
	noQuota

	tokens                           int32 // 500 at most
	cost, costTimeout, costThrottled int32
	every                            bool // each success brings a token, not only that of a first attempt
}

func (q *awsQuota) decide(_ int64, c *call, a answer) bool {
	c.paid = q.cost
	switch a {
	case timedOut:
		c.paid = q.costTimeout
	case throttled:
		c.paid = q.costThrottled
	default:
	}
	if c.paid > q.tokens {
		return false
	}
	q.tokens -= c.paid
	return true
}

func (q *awsQuota) result(c *call, a answer) {
	if a != succeeded {
		return
	}
	if q.tokens += c.paid; q.every || c.tries == 1 {
		q.tokens++
	}
	q.tokens = min(q.tokens, 500)
}

// grpcToken is a token, in tenths: what a success brings.
const grpcToken = 10

// A grpcThrottle stops retries while the tokens, 10 at most, are 5 or fewer: a failure
// takes one, a success brings a tenth.
type grpcThrottle struct {
	noQuota

	tokens int
}

func (q *grpcThrottle) decide(int64, *call, answer) bool { return q.tokens > 5*grpcToken }

func (q *grpcThrottle) result(_ *call, a answer) {
	switch a {
	case succeeded:
		q.tokens = min(q.tokens+1, 10*grpcToken)
	case cut: // DEADLINE_EXCEEDED is none of the codes
	default:
		q.tokens = max(q.tokens-grpcToken, 0)
	}
}

// A finagleBudget lets a fifth of the requests of the last 10 s be retried, and 100 more.
type finagleBudget struct {
	noQuota

	window window // requests; five times what was retried, negative
}

func (q *finagleBudget) begin(now int64) { q.put(now, 1) }

func (q *finagleBudget) put(now int64, n int) {
	if q.window.tenth == 0 {
		q.window = newWindow(10 * time.Second)
	}
	q.window.at(now)[0] += n
}

func (q *finagleBudget) decide(now int64, _ *call, _ answer) bool {
	q.put(now, 0)
	if sum, _ := q.window.sum(); sum+5*100 < 5 {
		return false
	}
	q.put(now, -5)
	return true
}

// A failsafeBudget refuses a retry when there are 3 already, and they are more than a
// fifth of all executions, which are the operations and the retries that are out.
type failsafeBudget struct{ operations, retries int }

func (q *failsafeBudget) begin(int64)                      { q.operations++ }
func (q *failsafeBudget) end()                             { q.operations-- }
func (q *failsafeBudget) decide(int64, *call, answer) bool { return true }

func (q *failsafeBudget) resume(*call) bool {
	if q.retries >= 3 && 5*q.retries > q.operations+q.retries {
		return false
	}
	q.retries++
	return true
}

func (q *failsafeBudget) result(c *call, _ answer) {
	if c.tries > 1 {
		q.retries--
	}
}
