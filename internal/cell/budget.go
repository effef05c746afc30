package cell

import "sync/atomic"

// Token is one token in the units of a [Budget].
const Token = 20

// A Budget is the balance of tokens that retries of a key may spend, in one word.
// The zero Budget has one token. A fleet shares a budget by granting each cell a
// share: then the cell may hold no more than its limit. The limits of all cells
// and the tokens not granted add up to the budget's ceiling at most.
//
//	surplus 48 | reserved 16
//
// Of these:
//   - reserved is 0 if the budget is not shared, else 1 + the part of the ceiling
//     that this cell may not hold.
//   - surplus is the balance above one token, plus that part of the ceiling.
//
// balance = one token + surplus - max(reserved-1, 0). So surplus has the same
// value when an unshared budget is full and when a cell holds all that it may: a
// healthy call compares the word with one constant.
type Budget struct{ word atomic.Int64 }

const (
	reservedBits = 16
	reservedMask = 1<<reservedBits - 1
)

// MaxCeiling is the highest ceiling of a Budget.
const MaxCeiling = reservedMask - 1

// FullMark returns the word of a full budget of that ceiling, for [Budget.AtLeast].
func FullMark(ceiling int64) int64 { return (ceiling - Token) << reservedBits }

// AtLeast reports whether the budget is full, given its [FullMark]. It is one load.
func (b *Budget) AtLeast(mark int64) bool { return b.word.Load() >= mark }

// Balance returns the tokens that may be spent.
func (b *Budget) Balance() int64 { return balance(b.word.Load()) }

func balance(w int64) int64 { return Token + w>>reservedBits - max(w&reservedMask-1, 0) }

// Withdraw takes n from the balance and reports whether there was enough.
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

// Deposit adds n, up to the budget's [FullMark].
func (b *Budget) Deposit(n, mark int64) {
	for {
		old := b.word.Load()
		room := (mark - old + reservedMask) >> reservedBits
		if room <= 0 || b.word.CompareAndSwap(old, old+min(n, room)<<reservedBits) {
			return
		}
	}
}

// Reset makes b the zero Budget, which is not shared.
func (b *Budget) Reset() { b.word.Store(0) }

// IsShared reports whether a fleet has granted the cell a share.
func (b *Budget) IsShared() bool { return b.word.Load()&reservedMask != 0 }

// Limit returns the maximum that the cell may hold, of a budget of that ceiling.
func (b *Budget) Limit(ceiling int64) int64 {
	return ceiling - max(b.word.Load()&reservedMask-1, 0)
}

// GiveBack takes out the balance above keep, lowers the limit by as much, and
// returns that amount, for the fleet. If the budget is not shared, it returns 0.
func (b *Budget) GiveBack(keep, ceiling int64) int64 {
	for {
		old := b.word.Load()
		held, reserved := balance(old), old&reservedMask-1
		n := held - keep
		if n <= 0 || reserved < 0 {
			return 0
		}
		if b.word.CompareAndSwap(old, sharedWord(keep, min(reserved+n, ceiling))) {
			return n
		}
	}
}

// sharedWord returns the word of a shared budget that holds held tokens, and may
// not hold reserved tokens of its ceiling.
func sharedWord(held, reserved int64) int64 {
	return (held-Token+reserved)<<reservedBits | (reserved + 1)
}

// Grant adds n tokens of the fleet's budget and sets the maximum that the cell may
// hold, of a budget of that ceiling. The first Grant takes away the token of the
// zero Budget: the fleet as a whole begins with one.
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
