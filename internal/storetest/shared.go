package storetest

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/cell"
)

func testBudget(t *testing.T, s Subject) {
	t.Helper()
	c, spent := quick(), atomic.Int64{}
	c.Budget = 10
	b := s.breakers(t, 3, c)
	for range 200 {
		for i := range b {
			if p, err := b[i].Acquire(); err == nil {
				p.Success()
			}
		}
	}
	var work sync.WaitGroup
	for i := range b {
		work.Go(func() {
			for range 50 {
				if breakers.Withdraw(b[i], cell.Token) {
					spent.Add(1)
				} else if p, err := b[i].Acquire(); err == nil {
					p.Cancel()
				}
			}
		})
	}
	work.Wait()
	if n := spent.Load(); n < 1 || n > 10 {
		t.Errorf("of a budget of 10 tokens %d were spent, want 1 to 10", n)
	}
}

func testRate(t *testing.T, s Subject) {
	t.Helper()
	c, calls := quick(), 40
	c.Rate = 50
	b := s.breakers(t, 3, c)
	for i := range b {
		if err := b[i].Do(t.Context(), func(context.Context) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	var work sync.WaitGroup
	began := time.Now()
	for i := range calls {
		work.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := b[i%len(b)].Do(ctx, func(context.Context) error { return nil }); err != nil {
				t.Errorf("call %d: %v", i, err)
			}
		})
	}
	work.Wait()
	least := time.Duration(float64(calls-2) / c.Rate * float64(time.Second))
	if took := time.Since(began); took < least && !s.Noisy {
		t.Errorf("%d calls of three processes at %v/s have taken %v, want at least %v", calls, c.Rate, took, least)
	}
}

func testNames(t *testing.T, s Subject) {
	t.Helper()
	names := []string{"", " ", "a", "a ", "A", "{a}", "a\nb", "ü", strings.Repeat("x", 300), strings.Repeat("x", 301)}
	var here, there []*circuit.Breaker
	one, other := s.process(t), s.process(t)
	for _, name := range names {
		c := quick()
		c.Store = one.Store
		here = append(here, circuit.New(name, c))
		c.Store = other.Store
		there = append(there, circuit.New(name, c))
	}
	one.ready(t)
	other.ready(t)
	for i := range names {
		here[i].Isolate()
		eventually(t, func() bool { return there[i].State() == circuit.Isolated }, "%q is shared", names[i])
		for j := i + 1; j < len(names); j++ {
			if here[j].State() != circuit.Closed || there[j].State() != circuit.Closed {
				t.Errorf("%q is isolated with %q", names[j], names[i])
			}
		}
	}
}
