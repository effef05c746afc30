package retry_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/retry"
)

// funded returns a breaker that does not trip, with a budget of ten tokens and a balance
// of the given twentieths of a token.
func funded(balance circuit.Tokens) *circuit.Breaker {
	b := breaker(circuit.Config{FailureThreshold: 1000, Budget: 10})
	if have, _ := breakers.Balance(b); have > balance {
		breakers.Withdraw(b, have-balance)
	} else {
		breakers.Refund(b, balance-have)
	}
	return b
}

func balance(b *circuit.Breaker) circuit.Tokens {
	t, _ := breakers.Balance(b)
	return t
}

// The number of attempts of an operation that always fails depends on the balance: a new
// budget has one token, and one operation may spend at most half of the balance.
func TestBudgetLimitsRetries(t *testing.T) {
	t.Parallel()
	const token = circuit.Token
	throttled := retry.After(errDown, 0)
	for _, c := range []struct {
		name     string
		balance  circuit.Tokens
		err      error
		attempts int
		left     circuit.Tokens
		stop     error
	}{
		{"nothing", 0, errDown, 1, 0, retry.ErrBudget},
		{"almost a token", token - 1, errDown, 1, token - 1, retry.ErrBudget},
		{"the start", token, errDown, 2, 0, retry.ErrBudget},
		{"two: half is one", 2 * token, errDown, 2, token, retry.ErrBudget},
		{"four: half is two", 4 * token, errDown, 3, 2 * token, retry.ErrBudget},
		{"seven: half is three and a half", 7 * token, errDown, 4, 4 * token, retry.ErrBudget},
		{"ten: half is five", 10 * token, errDown, 5, 6 * token, retry.ErrExhausted},
		{"the start, throttled", token, throttled, 2, 0, retry.ErrBudget},
		{"ten, throttled", 10 * token, throttled, 5, 6 * token, retry.ErrExhausted},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := funded(c.balance)
			p := retry.Policy{Breaker: b, Classify: retry.Always, Jitter: retry.NoJitter}
			f, made := always(c.err)
			stopped(t, retry.Do(t.Context(), &p, f), c.stop, c.attempts)
			if made.n != c.attempts || balance(b) != c.left {
				t.Errorf("%s: %d calls, %d twentieths left; want %d, %d", c.name, made.n, balance(b), c.attempts, c.left)
			}
		})
	}
}

// The refusal comes without a wait.
func TestBudgetStopsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var r record
		f, _ := always(errDown)
		p := retry.Policy{Breaker: funded(0), Classify: retry.Always, Observe: r.observe}
		stopped(t, retry.Do(t.Context(), &p, f), retry.ErrBudget, 1)
		if time.Since(begin) != 0 || r.kinds() != "stopped" {
			t.Errorf("took %v, events %s", time.Since(begin), r.kinds())
		}
	})
}

// The budget of a new breaker holds one token. A success adds a fifth of a token, and so
// does a permanent error; a retry that succeeds is refunded.
func TestBudgetBalance(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const token = circuit.Token
		b := breaker(circuit.Config{FailureThreshold: 1000, Budget: 10})
		p := retry.Policy{Breaker: b, Jitter: retry.NoJitter, RetryOn: []string{"Busy"}}
		busy, denied := &coded{code: "Busy"}, &coded{code: "AccessDenied", status: 403}
		do := func(results ...error) {
			f, _ := calls(results...)
			_ = retry.Do(t.Context(), &p, f)
		}
		for _, c := range []struct {
			name    string
			results []error
			want    circuit.Tokens
		}{
			{"success", nil, token + token/5},
			{"permanent", []error{denied}, token + 2*token/5},
			{"a retry that works", []error{busy}, token + 3*token/5},
			{"a retry that is denied", []error{busy, denied}, token - token/5},
		} {
			if do(c.results...); balance(b) != c.want {
				t.Errorf("after %s: %d twentieths, want %d", c.name, balance(b), c.want)
			}
		}
		for range 1000 {
			do()
		}
		if balance(b) != 10*token {
			t.Errorf("after 1000 successes: %d twentieths, want the ceiling of %d", balance(b), 10*token)
		}
	})
}

// Of two retries only the retry that succeeded is refunded.
func TestBudgetRefundsTheRetryThatWorked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := funded(8 * circuit.Token)
		p := retry.Policy{Breaker: b, Classify: retry.Always, Jitter: retry.NoJitter}
		f, _ := calls(errDown, errDown)
		if err := retry.Do(t.Context(), &p, f); err != nil {
			t.Fatal(err)
		}
		if want := 7*circuit.Token + circuit.Token/5; balance(b) != want {
			t.Errorf("%d twentieths, want %d", balance(b), want)
		}
	})
}

// A retry that is not made is refunded: its wait was cancelled, or the breaker refused
// the retry.
func TestBudgetGivesBack(t *testing.T) {
	t.Parallel()
	for name, during := range map[string]func(*circuit.Breaker, func()){
		"cancelled": func(_ *circuit.Breaker, cancel func()) { cancel() },
		"refused":   func(b *circuit.Breaker, _ func()) { b.Isolate() },
	} {
		synctest.Test(t, func(t *testing.T) {
			b := funded(4 * circuit.Token)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			paid := circuit.Tokens(0)
			time.AfterFunc(time.Second/2, func() { paid = balance(b); during(b, cancel) })
			p := retry.Policy{Breaker: b, Classify: retry.Always, Jitter: retry.NoJitter}
			f, made := always(errDown)
			if err := retry.Do(ctx, &p, f); err == nil || made.n != 1 {
				t.Errorf("%s: %v after %d calls", name, err, made.n)
			}
			if paid != 3*circuit.Token || balance(b) != 4*circuit.Token {
				t.Errorf("%s: %d twentieths during the wait, %d after it; want 60 and 80", name, paid, balance(b))
			}
		})
	}
}

// A retry that another rule forbids costs nothing.
func TestBudgetIsAskedLast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for _, c := range []struct {
			ctx    context.Context
			policy retry.Policy
			err    error
			stop   error
		}{
			{t.Context(), retry.Policy{MaxAttempts: 1}, errDown, retry.ErrExhausted},
			{ctx, retry.Policy{BaseDelay: 2 * time.Second}, errDown, retry.ErrDeadline},
			{t.Context(), retry.Policy{}, retry.After(errDown, time.Hour), retry.ErrRetryLater},
		} {
			b := funded(0) // which would forbid it, too
			c.policy.Breaker, c.policy.Classify = b, retry.Always
			f, _ := always(c.err)
			stopped(t, retry.Do(c.ctx, &c.policy, f), c.stop, 1)
			if balance(b) != 0 {
				t.Errorf("%v: %d twentieths, want 0", c.stop, balance(b))
			}
		}
	})
}

// Without a Budget in its Config, a breaker has no budget: five attempts stay five,
// however often they fail.
func TestBudgetIsOffByDefault(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := retry.Policy{Classify: retry.Always, Breaker: breaker(circuit.Config{FailureThreshold: 1000})}
		f, made := always(errDown)
		for range 50 {
			stopped(t, retry.Do(t.Context(), &p, f), retry.ErrExhausted, 5)
		}
		if _, on := breakers.Balance(p.Breaker); made.n != 250 || on {
			t.Errorf("%d calls, budget %v; want 250 and none", made.n, on)
		}
	})
}

// Operations that fail at the same instant together spend no more than the balance, and
// the rest gets ErrBudget.
func TestBudgetIsSharedExactly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const operations = 500
		b := funded(10 * circuit.Token)
		p := retry.Policy{MaxAttempts: 2, Breaker: b, Classify: retry.Always, Observe: func(context.Context, retry.Event) {}}
		var made, refused atomic.Int32
		start := make(chan struct{})
		var all sync.WaitGroup
		for range operations {
			all.Go(func() {
				<-start
				err := retry.Do(t.Context(), &p, func(context.Context) error {
					made.Add(1)
					return errDown
				})
				if errors.Is(err, retry.ErrBudget) {
					refused.Add(1)
				}
			})
		}
		close(start)
		all.Wait()
		if made.Load() != operations+10 || refused.Load() != operations-10 || balance(b) != 0 {
			t.Errorf("%d attempts, %d refused, %d twentieths left; want %d, %d, 0",
				made.Load(), refused.Load(), balance(b), operations+10, operations-10)
		}
	})
}

// In a total outage a budget keeps the load of many operations near one attempt each.
func TestBudgetInAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := retry.Policy{Classify: retry.Always, Breaker: funded(10 * circuit.Token)}
		f, made := always(errDown)
		for range 1000 {
			if retry.Do(t.Context(), &p, f) == nil {
				t.Fatal("no error")
			}
		}
		if made.n > 1010 {
			t.Errorf("%d attempts of 1000 operations, want at most 1010", made.n)
		}
	})
}
