package meter

import (
	"sync/atomic"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/class"
	"github.com/seed-0f2c7998/perdure/internal/seam"
)

// The sizes of the arrays of a Series.
const (
	Numbers = 4  // attempts 1, 2, 3 and all others
	Classes = 7  // those of package class, and Success
	Reasons = 16 // at least as many as package retry has
	Buckets = 7  // of retries: see Bounds
)

// Success is the class of an attempt that succeeded, beside those of package class.
const Success = int(class.Ignored) + 1

const _ = uint(Classes - Success - 1) // does not compile unless Success is a valid index

// Bounds returns the upper bounds of the buckets of retries, without that of the last,
// +Inf.
func Bounds() [Buckets - 1]int { return [...]int{0, 1, 2, 3, 5, 10} }

// A Series counts the operations of one name and key. All counters are exact. The zero
// Series is ready for use, and safe for concurrent use.
type Series struct {
	firstTry atomic.Uint64 // operations whose first attempt succeeded: counted nowhere else
	_        [56]byte      // the rest is in other cache lines

	attempts [Numbers][Classes]atomic.Uint64
	retried  atomic.Uint64          // operations that succeeded after retries
	failed   [Reasons]atomic.Uint64 // operations that ended otherwise, by reason
	refused  [Reasons]atomic.Uint64 // operations that were refused before the first attempt, by reason
	retries  [Buckets]atomic.Uint64 // operations by number of retries
	sum      atomic.Uint64          // retries

	waited     [seam.WaitCauses]atomic.Int64
	hinted     [hints]atomic.Uint64
	hintedTime [hints]atomic.Int64

	Hedges, HedgesWon              atomic.Uint64
	FallbacksUsed, FallbacksFailed atomic.Uint64
	Resumes, ResumedBytes          atomic.Uint64
}

// What happened to a wait that a server asked for.
const (
	HintAsked = iota
	HintObeyed
	HintRefused
	hints
)

// FirstTry counts an operation whose first attempt succeeded. A nil Series counts nothing.
func (s *Series) FirstTry(b *circuit.Breaker) {
	if s == nil {
		return
	}
	s.firstTry.Add(1)
	if b != nil {
		countShared(b, 1, Success)
	}
}

// Attempt counts an attempt that ended with the class, or Success.
func (s *Series) Attempt(b *circuit.Breaker, number, class int) {
	s.attempts[min(number, Numbers)-1][class].Add(1)
	if b != nil {
		countShared(b, number, class)
	}
}

// countShared counts an attempt that ended with the class result, or Success, in the cell of b, if other processes share it.
func countShared(b *circuit.Breaker, number, result int) {
	r := seam.Of(b).Cell
	if !r.Anchor.IsZero() {
		return
	}
	c := r.Load()
	switch result { // the order of cell.Cell.Calls
	case Success:
		result = 0
	case int(class.Unknown):
		result = Success
	}
	c.Calls[result].Add(1)
	if number > 1 {
		c.Retries.Add(1)
	}
}

// Succeeded counts an operation that succeeded on a retry.
func (s *Series) Succeeded(attempts int) {
	s.retried.Add(1)
	s.ended(attempts)
}

// Stopped counts an operation that ended for the reason, a retry.Reason, after so many
// attempts. refused is true if no attempt was made because a breaker or a limit refused it.
func (s *Series) Stopped(attempts int, reason uint8, refused bool) {
	by := &s.failed
	if refused {
		by = &s.refused
	}
	by[min(int(reason), Reasons-1)].Add(1)
	s.ended(attempts)
}

// ended counts an operation by its retries.
func (s *Series) ended(attempts int) {
	n := max(attempts-1, 0)
	i := 0
	for _, bound := range Bounds() {
		if n <= bound {
			break
		}
		i++
	}
	s.retries[i].Add(1)
	s.sum.Add(uint64(n)) //nolint:gosec // not negative
}

// Waited counts a wait of d.
func (s *Series) Waited(cause seam.WaitCause, d time.Duration) {
	if d > 0 {
		s.waited[cause].Add(int64(d))
	}
}

// Hint counts what happened to a wait of d that a server asked for.
func (s *Series) Hint(what int, d time.Duration) {
	s.hinted[what].Add(1)
	s.hintedTime[what].Add(int64(d))
}

// total returns a number that is not 0 if s has counted an operation, a hedge or a fallback.
func (s *Series) total() uint64 {
	c := s.Counts()
	return c.Operations() + c.Hedges + c.FallbacksUsed + c.FallbacksFailed
}

// Counts is what a [Series] has counted.
type Counts struct {
	Attempts  [Numbers][Classes]uint64
	Succeeded uint64
	Failed    [Reasons]uint64 // by retry.Reason; cancelled operations too
	Refused   [Reasons]uint64 // by retry.Reason
	Retries   [Buckets]uint64 // not cumulative
	Sum       uint64          // of retries

	Waited     [seam.WaitCauses]time.Duration
	Hinted     [hints]uint64
	HintedTime [hints]time.Duration

	Hedges, HedgesWon              uint64
	FallbacksUsed, FallbacksFailed uint64
	Resumes, ResumedBytes          uint64
}

// Operations returns the number of operations.
func (c *Counts) Operations() (n uint64) {
	for _, bucket := range c.Retries {
		n += bucket
	}
	return n
}

// Counts returns the counts. Each is exact; they are not read atomically together.
func (s *Series) Counts() (c Counts) {
	first := s.firstTry.Load()
	for i := range c.Attempts {
		load(c.Attempts[i][:], s.attempts[i][:])
	}
	load(c.Failed[:], s.failed[:])
	load(c.Refused[:], s.refused[:])
	load(c.Retries[:], s.retries[:])
	load(c.Hinted[:], s.hinted[:])
	c.Attempts[0][Success] += first
	c.Succeeded = s.retried.Load() + first
	c.Retries[0] += first
	c.Sum = s.sum.Load()
	for i := range c.Waited {
		c.Waited[i] = time.Duration(s.waited[i].Load())
	}
	for i := range c.HintedTime {
		c.HintedTime[i] = time.Duration(s.hintedTime[i].Load())
	}
	c.Hedges, c.HedgesWon = s.Hedges.Load(), s.HedgesWon.Load()
	c.FallbacksUsed, c.FallbacksFailed = s.FallbacksUsed.Load(), s.FallbacksFailed.Load()
	c.Resumes, c.ResumedBytes = s.Resumes.Load(), s.ResumedBytes.Load()
	return c
}

func load(to []uint64, from []atomic.Uint64) {
	for i := range from {
		to[i] = from[i].Load()
	}
}
