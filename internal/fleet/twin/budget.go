package twin

import "github.com/seed-0f2c7998/perdure/internal/cell"

// A Budget is what a server stores of the budget that two cells share.
type Budget struct {
	Unit      int64 // shares are multiples of it: 1 in a server; a token in the model, which so has fewer states
	Exists    bool  // the field exists
	Available int64
	Limit     [2]int64
	Live      [2]bool // the limit of the cell has not expired
}

// A Request is a fleet.BudgetRequest.
type Request struct {
	Balance, Limit, Returned, Need int64
	Phase                          string // first, last or ""
}

// A Grant is a fleet.BudgetGrant.
type Grant struct{ Granted, Limit, FairShare, Available int64 }

// Share executes a request of cell i.
func (b *Budget) Share(i int, r Request, ceiling int64) (g Grant) {
	cells, others := int64(1), int64(0)
	if o := 1 - i; b.Live[o] {
		cells, others = 2, b.Limit[o]
	}
	if !b.Exists && r.Phase == "first" {
		b.Available = cell.Token
	}
	b.Exists = true
	b.Available = max(min(b.Available+r.Returned, ceiling-others-r.Limit), 0)
	if r.Phase == "last" {
		b.Live[i], b.Limit[i] = false, 0
		return Grant{Available: b.Available}
	}
	if g.FairShare = ceiling / (cells + 1) / b.Unit * b.Unit; g.FairShare < cell.Token {
		if g.FairShare = 0; b.Available*2 >= ceiling {
			g.FairShare = cell.Token
		}
	}
	g.Granted = min(max(g.FairShare-r.Balance, r.Need-r.Balance, 0), b.Available)
	b.Available -= g.Granted
	g.Available = b.Available
	g.Limit = r.Balance + g.Granted + max(ceiling-others-b.Available-r.Balance-g.Granted, 0)/cells/b.Unit*b.Unit
	b.Limit[i], b.Live[i] = max(g.Limit, r.Limit+g.Granted), true
	return g
}
