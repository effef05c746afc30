package twin

import "github.com/seed-0f2c7998/perdure/internal/cell"

// A Bank is what a server keeps of the budget that two cells share.
type Bank struct {
	Grain int64 // parts are multiples of it: 1 in a server, a token in the model, for fewer states
	Begun bool  // the field is there
	Left  int64
	Limit [2]int64
	Live  [2]bool // the limit is not forgotten
}

// A Visit is what a cell tells the bank, as fleet.Deposit.
type Visit struct {
	Holds, May, Given, Need int64
	How                     string // new, ends or ""
}

// A Loan is the answer, as fleet.Loan.
type Loan struct{ Lent, Limit, Fair, Left int64 }

// Visit is the visit of cell i.
func (b *Bank) Visit(i int, v Visit, ceiling int64) (l Loan) {
	cells, others := int64(1), int64(0)
	if o := 1 - i; b.Live[o] {
		cells, others = 2, b.Limit[o]
	}
	if !b.Begun && v.How == "new" {
		b.Left = cell.Token
	}
	b.Begun = true
	b.Left = max(min(b.Left+v.Given, ceiling-others-v.May), 0)
	if v.How == "ends" {
		b.Live[i], b.Limit[i] = false, 0
		return Loan{Left: b.Left}
	}
	if l.Fair = ceiling / (cells + 1) / b.Grain * b.Grain; l.Fair < cell.Token {
		if l.Fair = 0; b.Left*2 >= ceiling {
			l.Fair = cell.Token
		}
	}
	l.Lent = min(max(l.Fair-v.Holds, v.Need-v.Holds, 0), b.Left)
	b.Left -= l.Lent
	l.Left = b.Left
	l.Limit = v.Holds + l.Lent + max(ceiling-others-b.Left-v.Holds-l.Lent, 0)/cells/b.Grain*b.Grain
	b.Limit[i], b.Live[i] = max(l.Limit, v.May+l.Lent), true
	return l
}
