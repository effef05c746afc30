package circuit

// Tokens is an amount of retry budget, in twentieths of a token, so that the
// amounts below are whole numbers.
type Tokens int

// Token is one token: what a retry after a transient failure costs.
const Token Tokens = 20

// The rules of a budget: a success brings a fifth of a token, so that retries
// are at most a fifth of the calls that work; it begins with one token, and
// has no floor, since a floor is multiplied by the number of processes.
//
// Sources: the token buckets of gRPC (A6) and of the AWS SDKs, whose refund
// and cheaper throttled retry (here 0.35) are kept.
const (
	reward       = Token / 5
	startBalance = Token
)

// ThrottledCost is what a retry costs that the server has asked for.
const ThrottledCost = 7 * Token / 20

// Balance returns the tokens that retries may spend; on is false when the
// breaker has no budget, and every retry is free.
func (b *Breaker) Balance() (t Tokens, on bool) {
	if b == nil || b.ceiling == 0 {
		return 0, false
	}
	return startBalance + Tokens(b.cell.Load().Budget.Load()), true
}

// Withdraw takes t from the budget and reports whether there was enough. It
// never waits. Without a budget it takes nothing and reports true.
func (b *Breaker) Withdraw(t Tokens) bool {
	if b == nil || b.ceiling == 0 || t <= 0 {
		return true
	}
	budget := &b.cell.Load().Budget
	for {
		old := budget.Load()
		if startBalance+Tokens(old) < t {
			return false
		}
		if budget.CompareAndSwap(old, old-int64(t)) {
			return true
		}
	}
}

// Refund gives t back, up to the ceiling: a retry that worked costs nothing.
func (b *Breaker) Refund(t Tokens) {
	if b == nil || b.ceiling == 0 || t <= 0 {
		return
	}
	full := int64(b.ceiling - startBalance)
	budget := &b.cell.Load().Budget
	for {
		old := budget.Load()
		if old >= full || budget.CompareAndSwap(old, old+min(int64(t), full-old)) {
			return
		}
	}
}
