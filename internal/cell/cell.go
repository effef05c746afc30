// Package cell holds the shared state of one key, in atomic words.
//
// A [Cell] has no pointers, so the same struct works on the heap and in memory
// that several processes map. Package circuit gives most of the words their
// meaning. Instants are wall time, since a monotonic reading means nothing to
// another process.
package cell

import (
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"
)

// Version numbers the layout of a Cell and the meaning of its words. Processes
// of different versions must not map the same file, so the file's name contains
// the version.
//
// A reserved word is 0 in every file of this version. A release that begins to
// use a reserved word need not raise the version if 0 means "not known" there.
const Version = 3

// Buckets is the number of time buckets in a Cell's window.
const Buckets = 10

// A Cell is the shared state of one key. The zero Cell is the state of a new key.
// All words may be used concurrently.
type Cell struct {
	// The first cache line is all that a healthy call reads.
	Breaker atomic.Uint64 // state, counts, instant and generation
	Budget  Budget
	hint    atomic.Uint64    // wait that a server asked for, see SetHint
	Gate    [6]atomic.Uint64 // 3 words of the gate, then calls waiting, calls admitted, and 1 reserved word, which is in the next line

	// The second line is used by calls that fail, and by calls with a rate limit.
	Rate         [2]atomic.Uint64 // schedule of the rate limit, see Reserve; limit in force, see InForce
	Since        atomic.Int64     // time of the last transition, Unix nanoseconds; 0 means never
	Reason       atomic.Uint64    // reason of the last transition
	Prober       atomic.Uint64    // process that sent the last probe
	override     atomic.Int64     // last override set on this host, see Override
	SeenOverride atomic.Uint64    // ID of the last override of another host that was applied here; the store makes it

	Window  [Buckets]Bucket // three lines, with the name
	name    atomic.Uint64   // random, see Name
	spent   atomic.Int64    // second schedule of the rate limit, see Spend
	longest atomic.Int64    // how far ahead an instant of Breaker can be, see Longest
	_       uint64

	// Counters, for people.
	Calls     [8]atomic.Uint64 // attempts of policies that have Metrics, by class: success, transient, throttled, conflict, permanent, ignored, unknown; one to spare
	Rejected  atomic.Uint64    // refused calls
	Refused   [7]atomic.Uint64 // refusals, see Refusal; those of the budget are not in Rejected
	Trips     atomic.Uint64
	Probes    atomic.Uint64
	openTime  atomic.Int64  // nanoseconds spent open, see OpenTime
	Retries   atomic.Uint64 // those of Calls that were retries
	Waits     atomic.Uint64 // waits at a gate or for a rate limit
	Waited    atomic.Uint64 // nanoseconds spent in those waits
	Credits   atomic.Uint64 // calls that a gate admitted for a credit
	Abandoned atomic.Uint64 // calls that left a gate without being admitted
}

// A Bucket counts the calls of one slice of the window. Each word contains the
// number of its slice, so the two words change to a new slice independently.
type Bucket struct {
	Calls atomic.Uint64
	Slow  atomic.Uint64
}

// The hint word: set 36 | length 28, when a server asked for a wait and how long
// the wait is, in milliseconds. Since the word contains both, a hint that was set
// by a clock ahead of this one counts as over.
const (
	hintBits  = 28 // three days
	hintMask  = 1<<hintBits - 1
	setBits   = 64 - hintBits
	clockSkew = 60_000 // milliseconds by which a hint may seem to be set in the future
)

// MaxHint is the longest wait that a Cell keeps. Longer waits are ignored.
const MaxHint = 24 * time.Hour

// SetHint records that a server asked at now, in Unix milliseconds, not to be
// called for d, rounded up to a millisecond. It has no effect if d is not positive
// or more than [MaxHint], or if a later instant is already set.
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

// Hint returns how many milliseconds are left at now, in Unix milliseconds, of
// the longest wait that a server asked for; 0 means none.
func (c *Cell) Hint(now int64) int64 { return hintLeft(c.hint.Load(), now) }

// ForgetHint clears the hint.
func (c *Cell) ForgetHint() {
	if c.hint.Load() != 0 {
		c.hint.Store(0)
	}
}

func hintLeft(word uint64, now int64) int64 {
	// The age is a signed 36-bit difference: negative if set in the future.
	age := int64(uint64(now)-word>>hintBits) << (64 - setBits) >> (64 - setBits)
	if word == 0 || age < -clockSkew {
		return 0
	}
	return max(int64(word&hintMask)-max(age, 0), 0)
}

// Longest returns the longest time, in milliseconds, for which a process has set an
// instant of the word Breaker that does not contain that time; 0 means not known. An
// instant further ahead was set before a clock was put back.
func (c *Cell) Longest() int64 { return c.longest.Load() }

// RecordLongest makes ms the longest time, unless a longer one is recorded. Call it
// before the instant is set.
func (c *Cell) RecordLongest(ms int64) {
	for old := c.longest.Load(); old < ms; old = c.longest.Load() {
		if c.longest.CompareAndSwap(old, ms) {
			return
		}
	}
}

// SetOverride records that a person sets the state on this host at now.
func (c *Cell) SetOverride(now time.Time, state uint8) {
	c.override.Store(now.UnixMilli()<<overrideBits | int64(state))
}

// The override word: when it was set 62, in Unix milliseconds | state 2.
const overrideBits = 2

// Override returns the state that a person last set on this host, and when. at is
// the zero Time if there was no override or ClearOverride was called since.
func (c *Cell) Override() (state uint8, at time.Time) {
	w := c.override.Load()
	if w == 0 {
		return 0, time.Time{}
	}
	return uint8(w & (1<<overrideBits - 1)), time.UnixMilli(w >> overrideBits)
}

// ClearOverride removes the override, because another host's has replaced it.
func (c *Cell) ClearOverride() { c.override.Store(0) }

// Name returns the cell's ID as text. A fleet's server records by it which cell
// holds which share.
func (c *Cell) Name() string { return strconv.FormatUint(c.ID(), 36) }

// ID returns a random number that identifies the cell, made at first use. All
// processes that map the cell get the same ID.
func (c *Cell) ID() uint64 {
	for c.name.Load() == 0 {
		c.name.CompareAndSwap(0, rand.Uint64())
	}
	return c.name.Load()
}
