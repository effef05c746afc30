package circuit

import (
	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// Tokens is an amount of retry budget in twentieths of a token, so that all amounts
// are integers.
type Tokens int

// Token is one token: the price of a retry after a transient failure.
const Token Tokens = 20

const _ = uint(Token-cell.Token) + uint(cell.Token-Token) // does not compile unless they are equal

// reward is what a success pays in, a fifth of a token: so retries are at most a
// fifth of the successes. A budget begins with one token, and has no floor, since
// each process would add one.
//
// Sources: the token buckets of gRPC (A6) and of the AWS SDKs, with the AWS refund of a
// retry that succeeds. Unlike in the AWS SDKs, a throttled retry costs as much as any
// other: with 2,000 processes the lower price caused a retry storm.
const reward = Token / 5

// balance returns the tokens that retries may spend. on is false if the breaker has no
// budget.
func (b *Breaker) balance() (t Tokens, on bool) {
	if b == nil || b.ceiling == 0 {
		return 0, false
	}
	return Tokens(b.cell.Load().Budget.Balance()), true
}

// withdraw takes t from the budget and reports whether the balance was enough. It
// never blocks. It reports true if the breaker has no budget.
func (b *Breaker) withdraw(t Tokens) bool {
	if b == nil || b.ceiling == 0 || t <= 0 {
		return true
	}
	ok := b.cell.Load().Budget.Withdraw(int64(t))
	b.notifyLow()
	return ok
}

// notifyLow notifies the store if the budget is too low for a retry: other hosts may
// have tokens to grant.
func (b *Breaker) notifyLow() {
	if b.ceiling > 0 && b.cell.Load().Budget.Balance() < cell.Token {
		b.store.BudgetLow(b.key)
	}
}

// refund deposits t, up to the ceiling: a retry that succeeded costs nothing.
func (b *Breaker) refund(t Tokens) {
	if b == nil || b.ceiling == 0 || t <= 0 {
		return
	}
	b.cell.Load().Budget.Deposit(int64(t), cell.FullMark(int64(b.ceiling)))
}
