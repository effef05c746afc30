package fleet

import (
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/fleet/twin"
)

// The model of a budget: two hosts with the real budgetShare and cell, a twin of the
// script as their server, and every order of events between them. TestBudgetTwin of
// redisstore compares the twin with the script.

// A host is a process with a cell of its own.
type host struct {
	balance, limit int64 // of the cell
	shared         bool
	share          budgetShare

	sent, done bool
	request    twin.Request
	grant      twin.Grant
}

// cell returns h's as a real one.
func (h *host) cell(ceiling int64) *cell.Cell {
	c := new(cell.Cell)
	c.Budget.Withdraw(cell.Token)
	if h.shared {
		c.Budget.Grant(h.balance, h.limit, ceiling)
	} else {
		c.Budget.Deposit(h.balance, cell.FullMark(ceiling))
	}
	return c
}

// An economy is one state of the model.
type economy struct {
	budget twin.Budget
	host   [2]host
	lost   int64 // tokens lost, less tokens from nowhere; at most one token counts
}

// A market is what can happen, and what is wrong.
type market struct {
	ceiling int64
	calm    bool   // no limit expires, and the server loses nothing
	bug     string // one that is planted
}

// worth returns the number of tokens everywhere, without those that cells begin with,
// which a fleet takes away.
func (m *market) worth(e *economy) int64 {
	n := e.budget.Available
	for i := range e.host {
		h := &e.host[i]
		if n += h.balance; !h.shared {
			n -= min(h.balance, cell.Token)
		}
		if h.sent && h.done {
			n += h.grant.Granted
		} else if h.sent {
			n += h.request.Returned
		}
	}
	return n
}

// acts returns all that can happen to host i; each returns the tokens that it made, less
// those that it spent.
func (m *market) acts(i int) map[string]func(e *economy) int64 {
	with := func(do func(e *economy, h *host) int64) func(e *economy) int64 {
		return func(e *economy) int64 { return do(e, &e.host[i]) }
	}
	amount := func(h *host, c *cell.Cell) int64 {
		before := h.balance
		h.balance = c.Budget.Balance()
		return h.balance - before
	}
	return map[string]func(e *economy) int64{
		"calls succeed": with(func(_ *economy, h *host) int64 {
			if !h.shared {
				return 0
			}
			c := h.cell(m.ceiling)
			c.Budget.Deposit(m.ceiling, cell.FullMark(m.ceiling))
			return amount(h, c)
		}),
		"it retries": with(func(_ *economy, h *host) int64 {
			if !h.shared {
				return 0
			}
			c := h.cell(m.ceiling)
			c.Budget.Withdraw(cell.Token)
			h.share.low = c.Budget.Balance() < cell.Token
			return amount(h, c)
		}),
		"it sends": with(func(_ *economy, h *host) int64 {
			if !h.sent {
				m.send(h)
			}
			return 0
		}),
		"the server executes": with(func(e *economy, h *host) int64 {
			if !h.sent || h.done {
				return 0
			}
			return m.execute(e, i)
		}),
		"the response arrives": with(func(_ *economy, h *host) int64 {
			if h.sent && h.done {
				m.arrive(h)
			}
			return 0
		}),
		"the response is lost": with(func(_ *economy, h *host) int64 {
			if h.sent && m.bug == "returned tokens are returned again" {
				h.balance += h.request.Returned
			}
			h.sent, h.done, h.request, h.grant = false, false, twin.Request{}, twin.Grant{}
			return 0
		}),
		"its limit expires": func(e *economy) int64 {
			if m.calm || !e.budget.Live[i] {
				return 0
			}
			if m.bug == "an expired limit gives tokens back" {
				e.budget.Available += e.budget.Limit[i]
			}
			e.budget.Live[i], e.budget.Limit[i] = false, 0
			return 0
		},
		"another process takes its place": with(func(_ *economy, h *host) int64 {
			if !m.calm {
				*h = host{balance: cell.Token}
			}
			return 0
		}),
		"the server loses its data": func(e *economy) int64 {
			if !m.calm {
				e.budget = twin.Budget{Unit: e.budget.Unit}
			}
			return 0
		},
	}
}

// send is the real key.budgetRequest.
func (m *market) send(h *host) {
	c := h.cell(m.ceiling)
	k := key{budget: h.share, ref: cell.NewRef(c)}
	d := k.budgetRequest()
	h.share, h.balance, h.limit = k.budget, c.Budget.Balance(), c.Budget.Limit(m.ceiling)
	h.sent, h.request = true, twin.Request{Balance: d.Balance, Limit: d.Limit, Returned: d.Returned, Need: d.Need, Phase: d.Phase}
}

func (m *market) execute(e *economy, i int) (made int64) {
	h := &e.host[i]
	before := e.budget
	h.grant, h.done = e.budget.Share(i, h.request, m.ceiling), true
	if m.bug == "granted tokens stay available" {
		e.budget.Available += h.grant.Granted
	}
	if !before.Exists && h.request.Phase == "first" {
		made = cell.Token
	}
	h.request = twin.Request{Returned: h.request.Returned} // which the bug needs
	if m.bug == "" {
		h.request = twin.Request{}
	}
	h.grant.Available = 0 // it affects only when to request
	return made
}

// arrive is the real key.applyBudget.
func (m *market) arrive(h *host) {
	c, l := h.cell(m.ceiling), h.grant
	if m.bug == "each cell keeps the token that it began with" && !h.shared {
		l.Granted += cell.Token
	}
	k := key{budget: h.share, ref: cell.NewRef(c)}
	k.budget.ceiling = m.ceiling
	k.applyBudget(BudgetGrant(l))
	h.share, h.balance, h.limit, h.shared = k.budget, c.Budget.Balance(), l.Limit, true
	h.sent, h.done, h.request, h.grant = false, false, twin.Request{}, twin.Grant{}
}

// explore walks through all that can happen, and returns the first thing that
// is wrong, and else the number of states.
func (m *market) explore() (wrong string, states int) {
	start := economy{budget: twin.Budget{Unit: cell.Token}, host: [2]host{{balance: cell.Token}, {balance: cell.Token}}}
	for i := range start.host {
		start.host[i].share.ceiling = m.ceiling
	}
	number, all := map[economy]int{start: 0}, []economy{start}
	var back [][]int
	var well []int
	acts := []map[string]func(*economy) int64{m.acts(0), m.acts(1)}
	back = append(back, nil)
	var e economy // one for all, as in explore
	for n := 0; n < len(all); n++ {
		for i := range acts {
			for _, do := range acts[i] {
				e = all[n]
				made := do(&e)
				e.lost = min(e.lost+m.worth(&all[n])-m.worth(&e)+made, cell.Token)
				if e.lost < 0 {
					return "tokens come from nowhere", len(all)
				}
				if total := m.worth(&e); m.calm && e.host[0].shared && e.host[1].shared && total > m.ceiling {
					return "the fleet holds more than the ceiling", len(all)
				}
				j, ok := number[e]
				if !ok {
					j = len(all)
					number[e] = j
					all, back = append(all, e), append(back, nil)
					if m.worth(&e) >= m.ceiling-2*cell.Token {
						well = append(well, j)
					}
				}
				back[j] = append(back[j], n)
			}
		}
		if len(all) > 3_000_000 {
			return "too many states", len(all)
		}
	}
	reach := make([]bool, len(all))
	for n := len(well); n > 0; n = len(well) {
		j := well[n-1]
		well = well[:n-1]
		if !reach[j] {
			reach[j] = true
			well = append(well, back[j]...)
		}
	}
	for _, ok := range reach {
		if !ok {
			return "tokens never come back", len(all)
		}
	}
	return "", len(all)
}

// thrives explores m, in which nothing must be wrong.
func (m *market) thrives(t *testing.T) {
	t.Helper()
	began := time.Now()
	wrong, states := m.explore()
	if t.Logf("%d states in %v", states, time.Since(began).Round(time.Millisecond)); wrong != "" {
		t.Error(wrong)
	}
}

// Whatever happens in whatever order: no token is spent twice, the fleet has no more
// tokens than the ceiling, and tokens come back.
func TestBudgetModel(t *testing.T) {
	m := market{ceiling: 3 * cell.Token, calm: true}
	m.thrives(t)
}

// The model finds faults in budgets.
func TestBudgetModelFindsBugs(t *testing.T) {
	for _, bug := range []string{
		"returned tokens are returned again", "granted tokens stay available",
		"an expired limit gives tokens back", "each cell keeps the token that it began with",
	} {
		m := market{ceiling: 3 * cell.Token, bug: bug}
		if wrong, _ := m.explore(); wrong != "tokens come from nowhere" {
			t.Errorf("with the bug %q: found %q", bug, wrong)
		}
	}
}
