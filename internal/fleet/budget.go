package fleet

import "github.com/seed-0f2c7998/perdure/internal/cell"

// A budgetShare is this process's share of one budget of the fleet. The tokens are
// in the cell; a budgetShare has what the server last granted, and what to request.
type budgetShare struct {
	ceiling   int64 // 0 if the breaker has no budget
	fairShare int64 // above which the cell's tokens are returned
	available int64 // tokens that the server could still grant
	low       bool  // the balance does not pay for the next retry, or did not pay for the last one
	returning bool  // all tokens are to be returned
	returned  bool  // all tokens have been returned, or are on their way
}

// BudgetLow requests more tokens from the fleet: at once if the server had any
// available, otherwise with the next read.
func (s cells) BudgetLow(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.keys[name]; k != nil && !k.budget.low {
		if k.budget.low = true; k.budget.available > 0 {
			s.wake()
		}
	}
}

// due reports whether to send a request: with a read of the server, or before it.
func (b *budgetShare) due(read bool) bool {
	return b.ceiling > 0 && !b.returned && (read || b.returning || b.low && b.available > 0)
}

// budgetRequest takes the tokens that k does not need out of its cell, and returns
// the request that returns them. If the response is lost, so are those tokens, and
// any that the server granted: the server may have executed the request, and a
// token that is returned twice would count as two.
func (k *key) budgetRequest() BudgetRequest {
	b, c := &k.budget, k.ref.Load()
	keep, need, phase := b.fairShare, int64(0), ""
	if b.low {
		need = cell.Token
		keep = max(keep, cell.Token)
	}
	if b.returning {
		keep, phase, b.returned = 0, LastRequest, true
	}
	b.low, b.returning = false, false
	shared := c.Budget.IsShared()
	returned := c.Budget.GiveBack(keep, b.ceiling)
	balance, limit := c.Budget.Balance(), c.Budget.Limit(b.ceiling)
	if !shared {
		balance, limit, phase = max(balance-cell.Token, 0), 0, FirstRequest
	}
	return BudgetRequest{
		Cell: c.Name(), Balance: balance, Limit: max(limit, balance), Returned: returned, Ceiling: b.ceiling, Need: need, Phase: phase,
	}
}

// applyBudget adds to the cell of k what the server has granted. After Close it
// adds nothing: the cell keeps its limit, and earns what it spends.
func (k *key) applyBudget(g BudgetGrant) {
	k.budget.fairShare, k.budget.available = g.FairShare, g.Available
	if b := &k.ref.Load().Budget; !k.budget.returned {
		room := k.budget.ceiling - b.Balance() // no correct server grants more
		if !b.IsShared() {
			room += cell.Token // which the cell returns
		}
		b.Grant(min(g.Granted, max(room, 0)), g.Limit, k.budget.ceiling)
	}
}
