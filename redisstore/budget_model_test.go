package redisstore

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
)

// The model of a budget: two hosts with the real purse and cell, a twin of the
// script, and everything between them that can go differently. TestPurseTwin
// shows that the twin is one.

// A bank is what the script budget keeps, and does.
type bank struct {
	grain int64 // parts are multiples of it: 1 in the script, a token in the model, for fewer states
	begun bool  // the field is there
	left  int64
	limit [2]int64
	live  [2]bool // the limit is not forgotten
}

// A visit is the arguments of the script.
type visit struct {
	holds, may, given, need int64
	how                     string
}

func (b *bank) visit(i int, v visit, ceiling int64) (l loan) {
	cells, others := int64(1), int64(0)
	if o := 1 - i; b.live[o] {
		cells, others = 2, b.limit[o]
	}
	if !b.begun && v.how == "new" {
		b.left = cell.Token
	}
	b.begun = true
	b.left = max(min(b.left+v.given, ceiling-others-v.may), 0)
	if v.how == "ends" {
		b.live[i], b.limit[i] = false, 0
		return loan{Left: b.left}
	}
	if l.Fair = ceiling / (cells + 1) / b.grain * b.grain; l.Fair < cell.Token {
		if l.Fair = 0; b.left*2 >= ceiling {
			l.Fair = cell.Token
		}
	}
	l.Lent = min(max(l.Fair-v.holds, v.need-v.holds, 0), b.left)
	b.left -= l.Lent
	l.Left = b.left
	l.Limit = v.holds + l.Lent + max(ceiling-others-b.left-v.holds-l.Lent, 0)/cells/b.grain*b.grain
	b.limit[i], b.live[i] = max(l.Limit, v.may+l.Lent), true
	return l
}

// A host is a process with a cell of its own.
type host struct {
	balance, limit int64 // of the cell
	lent           bool
	purse          purse

	sent, done bool
	visit      visit
	answer     loan
}

// cell returns h's as a real one.
func (h *host) cell(ceiling int64) *cell.Cell {
	c := new(cell.Cell)
	c.Budget.Withdraw(cell.Token)
	if h.lent {
		c.Budget.Lend(h.balance, h.limit, ceiling)
	} else {
		c.Budget.Deposit(h.balance, cell.Level(ceiling))
	}
	return c
}

// An economy is one state of the model.
type economy struct {
	bank bank
	host [2]host
	lost int64 // tokens that are gone, less those that came from nowhere; no more than one is counted
}

// A market is what can happen, and what is wrong.
type market struct {
	ceiling int64
	calm    bool   // no limit is forgotten, and no server forgets
	bug     string // one that is planted
}

// worth is all tokens, wherever they are, but for those with which cells begin,
// which are taken away.
func (m *market) worth(e *economy) int64 {
	n := e.bank.left
	for i := range e.host {
		h := &e.host[i]
		if n += h.balance; !h.lent {
			n -= min(h.balance, cell.Token)
		}
		if h.sent && h.done {
			n += h.answer.Lent
		} else if h.sent {
			n += h.visit.given
		}
	}
	return n
}

// acts are all that can happen to host i; each returns the tokens that have
// been made and spent.
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
			if !h.lent {
				return 0
			}
			c := h.cell(m.ceiling)
			c.Budget.Deposit(m.ceiling, cell.Level(m.ceiling))
			return amount(h, c)
		}),
		"it retries": with(func(_ *economy, h *host) int64 {
			if !h.lent {
				return 0
			}
			c := h.cell(m.ceiling)
			c.Budget.Withdraw(cell.Token)
			h.purse.short = c.Budget.Balance() < cell.Token
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
		"the answer arrives": with(func(_ *economy, h *host) int64 {
			if h.sent && h.done {
				m.arrive(h)
			}
			return 0
		}),
		"it is not answered": with(func(_ *economy, h *host) int64 {
			if h.sent && m.bug == "what is handed in is told again" {
				h.balance += h.visit.given
			}
			h.sent, h.done, h.visit, h.answer = false, false, visit{}, loan{}
			return 0
		}),
		"its limit is forgotten": func(e *economy) int64 {
			if m.calm || !e.bank.live[i] {
				return 0
			}
			if m.bug == "a limit that is over gives tokens back" {
				e.bank.left += e.bank.limit[i]
			}
			e.bank.live[i], e.bank.limit[i] = false, 0
			return 0
		},
		"another process takes its place": with(func(_ *economy, h *host) int64 {
			if !m.calm {
				*h = host{balance: cell.Token}
			}
			return 0
		}),
		"the server loses its memory": func(e *economy) int64 {
			if !m.calm {
				e.bank = bank{grain: e.bank.grain}
			}
			return 0
		},
	}
}

// send is the real key.borrows.
func (m *market) send(h *host) {
	c := h.cell(m.ceiling)
	k := key{purse: h.purse, ref: cell.NewRef(c)}
	args := k.borrows()
	var n [6]int64
	for i, text := range args[1:6] {
		n[i], _ = strconv.ParseInt(text, 10, 64) // they are numbers, or the twin will differ
	}
	h.purse, h.balance, h.limit = k.purse, c.Budget.Balance(), c.Budget.Limit(m.ceiling)
	h.sent, h.visit = true, visit{n[0], n[1], n[2], n[4], args[6]}
}

func (m *market) execute(e *economy, i int) (made int64) {
	h := &e.host[i]
	before := e.bank
	h.answer, h.done = e.bank.visit(i, h.visit, m.ceiling), true
	if m.bug == "what is lent is kept as well" {
		e.bank.left += h.answer.Lent
	}
	if !before.begun && h.visit.how == "new" {
		made = cell.Token
	}
	h.visit = visit{given: h.visit.given} // which the bug needs
	if m.bug == "" {
		h.visit = visit{}
	}
	h.answer.Left = 0 // it only says when to ask
	return made
}

// arrive is the real key.borrowed.
func (m *market) arrive(h *host) {
	c, l := h.cell(m.ceiling), h.answer
	if m.bug == "each cell keeps the token that it began with" && !h.lent {
		l.Lent += cell.Token
	}
	k := key{purse: h.purse, ref: cell.NewRef(c)}
	k.purse.ceiling = m.ceiling
	k.borrowed(l)
	h.purse, h.balance, h.limit, h.lent = k.purse, c.Budget.Balance(), l.Limit, true
	h.sent, h.done, h.visit, h.answer = false, false, visit{}, loan{}
}

// explore walks through all that can happen, and returns the first thing that
// is wrong, and else the number of states.
func (m *market) explore() (wrong string, states int) {
	start := economy{bank: bank{grain: cell.Token}, host: [2]host{{balance: cell.Token}, {balance: cell.Token}}}
	for i := range start.host {
		start.host[i].purse.ceiling = m.ceiling
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
				if total := m.worth(&e); m.calm && e.host[0].lent && e.host[1].lent && total > m.ceiling {
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

// Whatever happens in whatever order: no token is spent twice, the fleet holds
// no more than the ceiling, and tokens come back.
func TestBudgetModel(t *testing.T) {
	m := market{ceiling: 3 * cell.Token, calm: true}
	m.thrives(t)
}

// The model finds budgets that are wrong.
func TestBudgetModelFindsBugs(t *testing.T) {
	for _, bug := range []string{
		"what is handed in is told again", "what is lent is kept as well",
		"a limit that is over gives tokens back", "each cell keeps the token that it began with",
	} {
		m := market{ceiling: 3 * cell.Token, bug: bug}
		if wrong, _ := m.explore(); wrong != "tokens come from nowhere" {
			t.Errorf("with the bug %q: found %q", bug, wrong)
		}
	}
}

// The twin of the script answers as the script does.
func TestPurseTwin(t *testing.T) {
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{startRedis(t)}, ForceSingleClient: true, DisableCache: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	first := testseed.Of(t, 0)
	for seed := first; seed < first+20; seed++ {
		s := &Store{process: "p", node: "n", prefix: "purse:" + strconv.FormatUint(seed, 10), sync: time.Hour}
		u, twin, ceiling := rand.New(rand.NewPCG(seed, 0)), bank{grain: 1}, int64(20+seed*17)
		for n := range 200 {
			i := u.IntN(2)
			if u.IntN(10) == 0 {
				twin.live[i], twin.limit[i] = false, 0
				client.Do(t.Context(), client.B().Hset().Key(s.prefix).FieldValue().FieldValue("format", format).FieldValue("share."+string('a'+rune(i)), "0 0").Build())
			}
			v := visit{u.Int64N(ceiling), 0, u.Int64N(ceiling), []int64{0, cell.Token}[u.IntN(2)], []string{"", "", "", "new", "ends"}[u.IntN(5)]}
			v.may = v.holds + u.Int64N(ceiling)
			c := call{script: "budget", key: &key{}, args: []string{
				string('a' + rune(i)), number(v.holds), number(v.may), number(v.given), number(ceiling), number(v.need), v.how,
			}}
			text, err := client.Do(t.Context(), s.run(client.B(), c, true)).ToString()
			if err != nil {
				t.Fatal(err)
			}
			r, _, err := s.parse(text, time.Time{}, time.Now())
			if want := twin.visit(i, v, ceiling); err != nil || r.loan != want {
				t.Fatalf("seed %d, visit %d, %+v: the script answers %+v, the twin %+v; %v", seed, n, v, r.loan, want, err)
			}
		}
	}
}
