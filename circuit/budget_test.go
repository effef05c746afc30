package circuit

import (
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/testseed"
)

// full returns a breaker with a budget at its ceiling.
func full(ceiling float64) *Breaker {
	b := New("x", quiet(Config{Budget: ceiling, FailureThreshold: maxFailures}))
	b.refund(math.MaxInt)
	return b
}

func balance(b *Breaker) Tokens { t, _ := b.balance(); return t }

func TestBudgetAmounts(t *testing.T) {
	b := New("x", quiet(Config{Budget: 2}))
	for i, row := range []struct {
		do   func() bool
		ok   bool
		want Tokens
	}{
		{func() bool { return true }, true, 20}, // it begins with one token
		{func() bool { return b.withdraw(Token) }, true, 0},
		{func() bool { return b.withdraw(1) }, false, 0},
		{func() bool { b.RecordSuccess(); return true }, true, 4}, // a fifth of a token
		{func() bool { return b.withdraw((7 * Token / 20)) }, false, 4},
		{func() bool { b.RecordSuccess(); return b.withdraw((7 * Token / 20)) }, true, 1}, // 0.35 of one
		{func() bool { b.RecordFailure(); return true }, true, 1},
		{func() bool { b.refund(Token); return true }, true, 21},
		{func() bool { b.refund(Token); return true }, true, 40}, // the ceiling
		{func() bool { b.RecordSuccess(); return true }, true, 40},
		{func() bool { return b.withdraw(41) }, false, 40},
		{func() bool { return b.withdraw(0) && b.withdraw(-5) }, true, 40},
		{func() bool { b.refund(0); b.refund(-5); return true }, true, 40},
		{func() bool { return b.withdraw(40) }, true, 0},
		{func() bool { b.Reset(); return true }, true, 20},
	} {
		if ok := row.do(); ok != row.ok || balance(b) != row.want {
			t.Fatalf("row %d: %v and %d twentieths; want %v and %d", i, ok, balance(b), row.ok, row.want)
		}
	}
}

// A huge amount used to overflow into an unlimited debt.
func TestRefundWithoutBounds(t *testing.T) {
	b := New("x", quiet(Config{Budget: 10}))
	b.RecordSuccess()
	b.refund(math.MaxInt)
	if got := balance(b); got != 10*Token {
		t.Errorf("the balance is %d twentieths, want the ceiling", got)
	}
	if b.withdraw(math.MaxInt) {
		t.Error("it had that much")
	}
}

func TestNoBudget(t *testing.T) {
	b := New("x", quiet(Config{}))
	if _, on := b.balance(); on || !b.withdraw(1e9) {
		t.Error("a breaker without a budget limits retries")
	}
	b.refund(Token)
	b.RecordSuccess()
	if got := b.cell.Load().Budget.Balance(); got != int64(Token) {
		t.Errorf("a budget that there is not counts %d", got)
	}
}

// A budget never spends more than its first token, a fifth per success, and the refunds.
func TestBudgetBound(t *testing.T) {
	first := testseed.Of(t, 0)
	for seed := first; seed < first+50; seed++ {
		r := rand.New(rand.NewPCG(seed, 0))
		ceiling := 1 + r.Float64()*20
		b := New("x", quiet(Config{Budget: ceiling, FailureThreshold: maxFailures}))
		var spent, earned Tokens = 0, Token
		for range 500 {
			switch r.IntN(5) {
			case 0:
				b.RecordSuccess()
				earned += Token / 5
			case 1:
				b.RecordFailure()
			case 2:
				cost := []Tokens{Token, (7 * Token / 20)}[r.IntN(2)]
				b.refund(cost)
				earned += cost
			default:
				cost := Tokens(r.IntN(45))
				before := balance(b)
				if ok := b.withdraw(cost); ok != (cost <= before) {
					t.Fatalf("seed %d: Withdraw(%d) of %d is %v", seed, cost, before, ok)
				} else if ok {
					spent += cost
				}
			}
			if got := balance(b); got < 0 || got > Tokens(ceiling*float64(Token)) || spent > earned {
				t.Fatalf("seed %d: balance %d, spent %d, earned %d", seed, got, spent, earned)
			}
		}
	}
}

func TestBudgetConcurrently(t *testing.T) {
	b := full(10)
	var spent, refunded atomic.Int64
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			for range 200 {
				cost := Tokens(1 + r.IntN(25))
				switch {
				case r.IntN(4) == 0:
					refunded.Add(int64(cost))
					b.refund(cost)
				case b.withdraw(cost):
					spent.Add(int64(cost))
				}
				if got := balance(b); got < 0 || got > 10*Token {
					t.Errorf("the balance is %d twentieths", got)
					return
				}
			}
		})
	}
	all.Wait()
	if spent.Load() > int64(10*Token)+refunded.Load() {
		t.Errorf("%d twentieths were spent of %d", spent.Load(), int64(10*Token)+refunded.Load())
	}
}

// Concurrent withdrawals take exactly the balance.
func TestWithdrawNeverOverdraws(t *testing.T) {
	b := full(10)
	var taken atomic.Int64
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			for range 10 {
				if b.withdraw(Token) {
					taken.Add(1)
				}
			}
		})
	}
	all.Wait()
	if taken.Load() != 10 || balance(b) != 0 {
		t.Errorf("%d tokens of 10 were taken, and %d twentieths are left", taken.Load(), balance(b))
	}
}
