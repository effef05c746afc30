package cell

import (
	"math"
	"sync"
	"testing"
)

// A fleet grants, takes back and limits tokens, while calls earn and spend some.
func TestBudgetShared(t *testing.T) {
	const ceiling = 10 * Token
	level := FullMark(ceiling)
	var b Budget
	for i, row := range []struct {
		do                  func() int64
		got, balance, limit int64
		shared, full        bool
	}{
		{func() int64 { return b.GiveBack(0, ceiling) }, 0, 20, 200, false, false},          // not shared: the cell keeps all
		{func() int64 { b.Deposit(30, level); return 0 }, 0, 50, 200, false, false},         //
		{func() int64 { b.Grant(5, 60, ceiling); return 0 }, 0, 35, 60, true, false},        // less the first token
		{func() int64 { b.Deposit(math.MaxInt64, level); return 0 }, 0, 60, 60, true, true}, // up to the limit
		{func() int64 { return b.GiveBack(20, ceiling) }, 40, 20, 20, true, true},           // with the room for it
		{func() int64 { return b.GiveBack(20, ceiling) }, 0, 20, 20, true, true},
		{func() int64 { b.Grant(0, 200, ceiling); return 0 }, 0, 20, 200, true, false},
		{func() int64 { b.Withdraw(20); return 0 }, 0, 0, 200, true, false},
		{func() int64 { b.Grant(0, 0, ceiling); return 0 }, 0, 0, 0, true, true}, // a limit of nothing is reached
		{func() int64 { b.Deposit(4, level); return 0 }, 0, 0, 0, true, true},
		{func() int64 { b.Grant(30, 10, ceiling); return 0 }, 0, 30, 10, true, true}, // more than it may hold
		{func() int64 { return b.GiveBack(0, ceiling) }, 30, 0, 0, true, true},       // no room below nothing
		{func() int64 { b.Reset(); return 0 }, 0, 20, 200, false, false},
	} {
		got := row.do()
		if got != row.got || b.Balance() != row.balance || b.Limit(ceiling) != row.limit || b.IsShared() != row.shared || b.AtLeast(level) != row.full {
			t.Fatalf("row %d: %d, balance %d, limit %d, shared %v, full %v; want %+v", i, got, b.Balance(), b.Limit(ceiling), b.IsShared(), b.AtLeast(level), row)
		}
	}
}

// No token is lost or made when cells grant, give back and spend at once.
func TestBudgetCountsExactly(t *testing.T) {
	const ceiling, each = 1000 * Token, 2000
	var b Budget
	b.Grant(0, ceiling, ceiling)
	var all sync.WaitGroup
	var returned [4]int64
	for i := range returned {
		all.Go(func() {
			for range each {
				b.Grant(2, b.Limit(ceiling), ceiling)
				if b.Withdraw(1) {
					returned[i]++
				}
				returned[i] += b.GiveBack(3, ceiling)
			}
		})
	}
	all.Wait()
	if sum := returned[0] + returned[1] + returned[2] + returned[3] + b.Balance(); sum != 2*each*int64(len(returned)) {
		t.Errorf("%d tokens in all, want %d", sum, 2*each*len(returned))
	}
}
