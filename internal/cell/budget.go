package cell

import "sync/atomic"

// Token is one token in the units of a [Budget].
const Token = 20

// A Budget is the tokens that retries of a key may spend, in one word. The zero
// Budget has one token. A fleet that shares a budget lends each cell a part of
// it: then the cell may hold no more than its limit, and all limits and what is
// not lent are together no more than the budget's ceiling.
//
//	above 48 | apart 16
//
// above is the balance above that of a zero Budget, apart 0, or, when a fleet
// has a say, one more than the part of the ceiling that others may hold, which
// above counts and nobody here may spend. So above reaches the same value
// when the budget is full as when the cell has all that it may, and that is all
// that a call which goes well has to look at.
type Budget struct{ word atomic.Int64 }

const (
	reservedBits = 16
	reservedMask = 1<<reservedBits - 1
)

// MaxCeiling is the greatest ceiling that a Budget can have.
const MaxCeiling = reservedMask - 1

// FullMark is what [Budget.AtLeast] compares with, for a budget of that ceiling.
func FullMark(ceiling int64) int64 { return (ceiling - Token) << reservedBits }

// AtLeast reports whether the budget is full, given its Level. It is one load.
func (b *Budget) AtLeast(level int64) bool { return b.word.Load() >= level }

// Balance returns what may be spent.
func (b *Budget) Balance() int64 { return balance(b.word.Load()) }

func balance(w int64) int64 { return Token + w>>reservedBits - max(w&reservedMask-1, 0) }

// Withdraw takes n if there is so much.
func (b *Budget) Withdraw(n int64) bool {
	for {
		old := b.word.Load()
		if balance(old) < n {
			return false
		}
		if b.word.CompareAndSwap(old, old-n<<reservedBits) {
			return true
		}
	}
}

// Deposit adds n, as far as the budget's level allows.
func (b *Budget) Deposit(n, level int64) {
	for {
		old := b.word.Load()
		room := (level - old + reservedMask) >> reservedBits
		if room <= 0 || b.word.CompareAndSwap(old, old+min(n, room)<<reservedBits) {
			return
		}
	}
}

// Reset makes b as it was at first, when no fleet had a say.
func (b *Budget) Reset() { b.word.Store(0) }

// IsShared reports whether a fleet has a say in how much there is.
func (b *Budget) IsShared() bool { return b.word.Load()&reservedMask != 0 }

// Limit returns up to what the cell may hold, of a budget of that ceiling.
func (b *Budget) Limit(ceiling int64) int64 {
	return ceiling - max(b.word.Load()&reservedMask-1, 0)
}

// GiveBack takes out what is above keep, and the room for it, for the fleet to
// have both back. A budget that is not lent keeps all.
func (b *Budget) GiveBack(keep, ceiling int64) int64 {
	for {
		old := b.word.Load()
		held, apart := balance(old), old&reservedMask-1
		n := held - keep
		if n <= 0 || apart < 0 {
			return 0
		}
		if b.word.CompareAndSwap(old, sharedWord(keep, min(apart+n, ceiling))) {
			return n
		}
	}
}

// sharedWord is the word of a budget that holds so much, and of whose ceiling others
// may hold what is apart.
func sharedWord(held, apart int64) int64 { return (held-Token+apart)<<reservedBits | (apart + 1) }

// Grant adds n tokens of the fleet's and sets the limit up to which the cell may
// hold any, of a budget of that ceiling. The first time, the token with which
// the cell has begun is taken away: the fleet begins with one as a whole.
func (b *Budget) Grant(n, limit, ceiling int64) {
	for {
		old := b.word.Load()
		held := balance(old)
		if old&reservedMask == 0 {
			held = max(held-Token, 0)
		}
		if b.word.CompareAndSwap(old, sharedWord(held+n, max(ceiling-limit, 0))) {
			return
		}
	}
}
