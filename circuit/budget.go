package circuit

import (
	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// Tokens is an amount of retry budget, in twentieths of a token, so that the
// amounts below are whole numbers.
type Tokens int

// Token is one token: what a retry after a transient failure costs.
const Token Tokens = 20

const _ = uint(Token-cell.Token) + uint(cell.Token-Token) // they are the same, or this does not compile

// The rules of a budget: a success brings a fifth of a token, so that retries
// are at most a fifth of the calls that work; it begins with one token, and
// has no floor, since a floor is multiplied by the number of processes.
//
// Sources: the token buckets of gRPC (A6) and of the AWS SDKs, whose refund is
// kept, and whose cheaper throttled retry is not: 2,000 processes made a storm of them.
const reward = Token / 5

// balance returns the tokens that retries may spend; on is false when the
// breaker has no budget, and every retry is free.
func (b *Breaker) balance() (t Tokens, on bool) {
	if b == nil || b.ceiling == 0 {
		return 0, false
	}
	return Tokens(b.cell.Load().Budget.Balance()), true
}

// withdraw takes t from the budget and reports whether there was enough. It
// never waits. Without a budget it takes nothing and reports true.
func (b *Breaker) withdraw(t Tokens) bool {
	if b == nil || b.ceiling == 0 || t <= 0 {
		return true
	}
	ok := b.cell.Load().Budget.Withdraw(int64(t))
	b.notifyLow()
	return ok
}

// notifyLow tells the store when the budget does not pay for a retry any more: one
// that shares it may have more elsewhere.
func (b *Breaker) notifyLow() {
	if b.ceiling > 0 && b.cell.Load().Budget.Balance() < cell.Token {
		b.store.BudgetLow(b.key)
	}
}

// refund gives t back, up to the ceiling: a retry that worked costs nothing.
func (b *Breaker) refund(t Tokens) {
	if b == nil || b.ceiling == 0 || t <= 0 {
		return
	}
	b.cell.Load().Budget.Deposit(int64(t), cell.FullMark(int64(b.ceiling)))
}
