package sim

import (
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
)

// A mode is the state of a breaker, and until when the breaker is open.
type mode struct {
	state circuit.State
	until int64
}

func (m *mode) current() circuit.State { return m.state }

// shut opens the breaker.
func (m *mode) shut(now int64, d time.Duration) { m.state, m.until = circuit.Open, now+int64(d) }

// over reports whether the breaker is open and its open time is over.
func (m *mode) over(now int64) bool { return m.state == circuit.Open && now >= m.until }

type noBreaker struct{ mode }

func (*noBreaker) admit(int64, *call) bool   { return true }
func (*noBreaker) result(int64, *call, bool) {}

type noQuota struct{}

func (noQuota) begin(int64)                       {}
func (noQuota) decide(int64, *call, outcome) bool { return true }
func (noQuota) resume(*call) bool                 { return true }
func (noQuota) result(*call, outcome)             {}
func (noQuota) end()                              {}

// A window sums what was added in the last tenths of a time.
type window struct {
	tenth int64
	slot  int64 // number of the current tenth
	sums  [10][2]int
}

func newWindow(length time.Duration) window { return window{tenth: int64(length) / 10} }

// at removes old tenths, and returns the sums of the current tenth.
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

// A ratioBreaker opens at a ratio of failures in a window. All results count, even of calls
// that were admitted before it opened.
type ratioBreaker struct {
	mode

	window window // successes, failures
	least  int    // minimum number of calls in the window
	ratio  float64
	open   time.Duration
	probes int // probes admitted half-open
	proves int // successful probes that close the breaker; one failure opens it

	places int // free probe slots, half-open
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

// A countBreaker opens when half of the last calls have failed. Half-open it admits probes, and
// decides after as many results. All results count.
type countBreaker struct {
	mode

	size   int // calls in the window
	open   time.Duration
	probes int

	places int
	ring   []bool // whether the last calls failed
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

// enter begins a state, without results.
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

	most int // failures in a row that do not open the breaker
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

// An awsQuota is a bucket of tokens that pays for retries. A retry that succeeds gets its cost back.
type awsQuota struct {
	noQuota

	tokens                           int32 // 500 at most
	cost, costTimeout, costThrottled int32
	every                            bool // each success pays in a token, not only that of a first attempt
}

func (q *awsQuota) decide(_ int64, c *call, a outcome) bool {
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

func (q *awsQuota) result(c *call, a outcome) {
	if a != succeeded {
		return
	}
	if q.tokens += c.paid; q.every || c.tries == 1 {
		q.tokens++
	}
	q.tokens = min(q.tokens, 500)
}

// grpcToken is a token in tenths; a success pays in a tenth.
const grpcToken = 10

// A grpcThrottle allows retries while more than 5 of at most 10 tokens are left. A failure costs
// a token; a success pays in a tenth.
type grpcThrottle struct {
	noQuota

	tokens int
}

func (q *grpcThrottle) decide(int64, *call, outcome) bool { return q.tokens > 5*grpcToken }

func (q *grpcThrottle) result(_ *call, a outcome) {
	switch a {
	case succeeded:
		q.tokens = min(q.tokens+1, 10*grpcToken)
	case cut: // DEADLINE_EXCEEDED is not one of the codes
	default:
		q.tokens = max(q.tokens-grpcToken, 0)
	}
}

// A finagleBudget allows a fifth of the requests of the last 10 s to be retried, plus 100.
type finagleBudget struct {
	noQuota

	window window // requests, minus five for each retry
}

func (q *finagleBudget) begin(now int64) { q.put(now, 1) }

func (q *finagleBudget) put(now int64, n int) {
	if q.window.tenth == 0 {
		q.window = newWindow(10 * time.Second)
	}
	q.window.at(now)[0] += n
}

func (q *finagleBudget) decide(now int64, _ *call, _ outcome) bool {
	q.put(now, 0)
	if sum, _ := q.window.sum(); sum+5*100 < 5 {
		return false
	}
	q.put(now, -5)
	return true
}

// A failsafeBudget refuses a retry while at least 3 retries are in progress, and they are more
// than a fifth of the operations and retries in progress.
type failsafeBudget struct{ operations, retries int }

func (q *failsafeBudget) begin(int64)                       { q.operations++ }
func (q *failsafeBudget) end()                              { q.operations-- }
func (q *failsafeBudget) decide(int64, *call, outcome) bool { return true }

func (q *failsafeBudget) resume(*call) bool {
	if q.retries >= 3 && 5*q.retries > q.operations+q.retries {
		return false
	}
	q.retries++
	return true
}

func (q *failsafeBudget) result(c *call, _ outcome) {
	if c.tries > 1 {
		q.retries--
	}
}
