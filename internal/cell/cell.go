// Package cell holds what calls that share a fate share: the atomic words of
// one key.
//
// A [Cell] is plain words and no pointers, so the same struct works on the heap
// and laid over memory that several processes map. What the words mean is the
// business of package circuit, but for the wait that a server asked for.
// Instants are wall time, since a monotonic reading means nothing to another
// process.
package cell

import (
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"
)

// Version is that of a Cell's layout and of the meaning of its words. Processes
// of different versions must not map the same file, so the file's name has it.
//
// A reserved word is 0 in every file of this version. A release that begins to
// use one need not raise the version, if 0 means to it that nothing is known.
const Version = 3

// Buckets is the number of time buckets in a Cell's window.
const Buckets = 10

// A Cell is the shared state of one key. The zero Cell is that of a key about
// which nothing is known. All its words may be used concurrently.
type Cell struct {
	// The first cache line is all that a healthy call reads. Of the gate's
	// words two count who waits and who was admitted, and one is to spare.
	Breaker atomic.Uint64 // state, counts, instant and generation
	Budget  Budget
	hint    atomic.Uint64    // the wait that a server asked for, see SetHint
	Gate    [6]atomic.Uint64 // reserved for admission at a rate that the service can digest; the last is in the next line

	// The second is read and written in trouble, and by calls that have a rate.
	Rate         [2]atomic.Uint64 // of a rate: the schedule of calls, see Reserve, and the limit in force
	Since        atomic.Int64     // when the state last changed, Unix nanoseconds; 0: never
	Reason       atomic.Uint64    // why it did
	Prober       atomic.Uint64    // who sends the last probe
	override     atomic.Int64     // what was last set here by hand, see ByHand
	SeenOverride atomic.Uint64    // what was last set elsewhere by hand, as the store names it

	Window [Buckets]Bucket // three lines, with the name
	name   atomic.Uint64   // random, see Name
	spent  atomic.Int64    // of a rate: the schedule by which calls went, see Spend
	_      [2]uint64

	// Counters, which only people read: of calls, of refusals, and of the rest.
	Calls     [8]atomic.Uint64 // reserved for calls by class: success, transient, throttled, conflict, permanent, ignored, unknown; one to spare
	Rejected  atomic.Uint64    // refused calls
	Refused   [7]atomic.Uint64 // reserved for refusals by reason: open, half-open, isolated, not-before, gate, rate or concurrency, budget
	Trips     atomic.Uint64
	Probes    atomic.Uint64
	OpenTime  atomic.Uint64 // reserved, nanoseconds that ended openings have lasted
	Retries   atomic.Uint64 // reserved
	Waits     atomic.Uint64 // waits at a gate or for a rate
	Waited    atomic.Uint64 // nanoseconds that they took
	Credits   atomic.Uint64 // calls that a gate has admitted for a credit
	Abandoned atomic.Uint64 // calls that have waited at a gate in vain
}

// A Bucket counts the calls of one slice of the window. Each word names the
// slice that it counts, so the two of them change over on their own.
type Bucket struct {
	Calls atomic.Uint64
	Slow  atomic.Uint64
}

// The hint word: when a server asked for a wait and how long it is. With both in
// it, an instant that was set in the future, by a clock that has since been put
// back, is known to be over.
const (
	hintBits  = 28 // milliseconds of the wait: three days
	hintMask  = 1<<hintBits - 1
	setBits   = 64 - hintBits
	clockSkew = 60_000 // milliseconds by which a word may seem to be set in the future
)

// MaxHint is the longest wait that a Cell keeps. What asks for more is not kept.
const MaxHint = 24 * time.Hour

// SetHint notes that a server asked at now, in Unix milliseconds, not to be
// called for d, unless a later instant is noted already. It has no effect if d
// is not positive or more than [MaxHint]. It is rounded up to a millisecond.
func (c *Cell) SetHint(now int64, d time.Duration) {
	if d <= 0 || d > MaxHint {
		return
	}
	length := int64((d + time.Millisecond - 1) / time.Millisecond)
	next := uint64(now)<<hintBits | uint64(length)
	for {
		old := c.hint.Load()
		if hintLeft(old, now) > length || c.hint.CompareAndSwap(old, next) {
			return
		}
	}
}

// Hint returns how many milliseconds are left, at now in Unix milliseconds, of
// the longest wait that a server asked for; 0 means none.
func (c *Cell) Hint(now int64) int64 { return hintLeft(c.hint.Load(), now) }

// ForgetHint forgets what servers asked for.
func (c *Cell) ForgetHint() {
	if c.hint.Load() != 0 {
		c.hint.Store(0)
	}
}

func hintLeft(word uint64, now int64) int64 {
	// The age is a signed difference of 36 bits: negative if set in the future.
	age := int64(uint64(now)-word>>hintBits) << (64 - setBits) >> (64 - setBits)
	if word == 0 || age < -clockSkew {
		return 0
	}
	return max(int64(word&hintMask)-max(age, 0), 0)
}

// SetOverride notes that somebody sets a state by hand, here and now.
func (c *Cell) SetOverride(now time.Time, state uint8) {
	c.override.Store(now.UnixMilli()<<overrideBits | int64(state))
}

// overrideBits is for the state in the word hand; when it was set is above it, in
// Unix milliseconds.
const overrideBits = 2

// Override returns the state that was last set here by hand, and when; the zero
// Time if none was, or something that was set elsewhere has taken its place.
func (c *Cell) Override() (state uint8, at time.Time) {
	w := c.override.Load()
	if w == 0 {
		return 0, time.Time{}
	}
	return uint8(w & (1<<overrideBits - 1)), time.UnixMilli(w >> overrideBits)
}

// ClearOverride forgets what was set here by hand.
func (c *Cell) ClearOverride() { c.override.Store(0) }

// Name returns the cell's ID as text: by it a fleet knows what it has lent to
// whom.
func (c *Cell) Name() string { return strconv.FormatUint(c.ID(), 36) }

// ID returns a number that no other cell has, made at first use. It is the same
// wherever the cell is mapped.
func (c *Cell) ID() uint64 {
	for c.name.Load() == 0 {
		c.name.CompareAndSwap(0, rand.Uint64())
	}
	return c.name.Load()
}
