package fleet

import "github.com/seed-0f2c7998/perdure/internal/cell"

// A budgetShare is one budget of this process, of which the fleet lends it a part.
// What there is to spend is in the cell; here is what the server last said, and
// what it has still to be asked.
type budgetShare struct {
	ceiling   int64 // 0: there is no budget
	fairShare int64 // above which the cell's balance is handed in
	available int64 // what the server could still lend
	low       bool  // a retry could not be paid, or the next one cannot
	returning bool  // all is to be handed in
	returned  bool  // and has been, or is on its way
}

// BudgetLow asks the fleet for more, at once if it had something left, and else at
// the next look.
func (s cells) BudgetLow(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.keys[name]; k != nil && !k.budget.low {
		if k.budget.low = true; k.budget.available > 0 {
			s.wake()
		}
	}
}

// due reports whether the server is to be asked, at a look or before it.
func (p *budgetShare) due(look bool) bool {
	return p.ceiling > 0 && !p.returned && (look || p.returning || p.low && p.available > 0)
}

// budgetRequest returns what k has to tell the budget. What the cell does
// not need is taken out of it first. Without an answer that is lost, and so may
// be what the server has lent: nobody knows whether it was asked, and a token
// that is handed in a second time would count as two.
func (k *key) budgetRequest() Deposit {
	p, c := &k.budget, k.ref.Load()
	keep, need, visit := p.fairShare, int64(0), ""
	if p.low {
		need = cell.Token
		keep = max(keep, cell.Token)
	}
	if p.returning {
		keep, visit, p.returned = 0, LastVisit, true
	}
	p.low, p.returning = false, false
	lent := c.Budget.IsShared()
	given := c.Budget.GiveBack(keep, p.ceiling)
	holds, limit := c.Budget.Balance(), c.Budget.Limit(p.ceiling)
	if !lent {
		holds, limit, visit = max(holds-cell.Token, 0), 0, FirstVisit
	}
	return Deposit{Cell: c.Name(), Holds: holds, May: max(limit, holds), Given: given, Ceiling: p.ceiling, Need: need, How: visit}
}

// applyBudget takes in what the server has lent. After Close the cell keeps its
// limit, and earns what it spends.
func (k *key) applyBudget(l Loan) {
	k.budget.fairShare, k.budget.available = l.Fair, l.Left
	if b := &k.ref.Load().Budget; !k.budget.returned {
		room := k.budget.ceiling - b.Balance() // no server that counts right lends more
		if !b.IsShared() {
			room += cell.Token // which the cell gives back
		}
		b.Grant(min(l.Lent, max(room, 0)), l.Limit, k.budget.ceiling)
	}
}
