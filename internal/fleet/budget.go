package fleet

import "github.com/seed-0f2c7998/perdure/internal/cell"

// A purse is one budget of this process, of which the fleet lends it a part.
// What there is to spend is in the cell; here is what the server last said, and
// what it has still to be asked.
type purse struct {
	ceiling int64 // 0: there is no budget
	fair    int64 // above which the cell's balance is handed in
	left    int64 // what the server could still lend
	short   bool  // a retry could not be paid, or the next one cannot
	ends    bool  // all is to be handed in
	ended   bool  // and has been, or is on its way
}

// BudgetLow asks the fleet for more, at once if it had something left, and else at
// the next look.
func (s cells) BudgetLow(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.keys[name]; k != nil && !k.purse.short {
		if k.purse.short = true; k.purse.left > 0 {
			s.wake()
		}
	}
}

// due reports whether the server is to be asked, at a look or before it.
func (p *purse) due(look bool) bool {
	return p.ceiling > 0 && !p.ended && (look || p.ends || p.short && p.left > 0)
}

// borrows returns what k has to tell the budget. What the cell does
// not need is taken out of it first. Without an answer that is lost, and so may
// be what the server has lent: nobody knows whether it was asked, and a token
// that is handed in a second time would count as two.
func (k *key) borrows() Deposit {
	p, c := &k.purse, k.ref.Load()
	keep, need, visit := p.fair, int64(0), ""
	if p.short {
		need = cell.Token
		keep = max(keep, cell.Token)
	}
	if p.ends {
		keep, visit, p.ended = 0, LastVisit, true
	}
	p.short, p.ends = false, false
	lent := c.Budget.IsShared()
	given := c.Budget.GiveBack(keep, p.ceiling)
	holds, limit := c.Budget.Balance(), c.Budget.Limit(p.ceiling)
	if !lent {
		holds, limit, visit = max(holds-cell.Token, 0), 0, FirstVisit
	}
	return Deposit{Cell: c.Name(), Holds: holds, May: max(limit, holds), Given: given, Ceiling: p.ceiling, Need: need, How: visit}
}

// borrowed takes in what the server has lent. After Close the cell keeps its
// limit, and earns what it spends.
func (k *key) borrowed(l Loan) {
	k.purse.fair, k.purse.left = l.Fair, l.Left
	if b := &k.ref.Load().Budget; !k.purse.ended {
		room := k.purse.ceiling - b.Balance() // no server that counts right lends more
		if !b.IsShared() {
			room += cell.Token // which the cell gives back
		}
		b.Grant(min(l.Lent, max(room, 0)), l.Limit, k.purse.ceiling)
	}
}
