//go:build integration && unix

package postgres_test

import (
	"context"
	"database/sql"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/lib/pq"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/examples/internal/pgtest"
	"github.com/seed-0f2c7998/perdure/examples/postgres"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
	"github.com/seed-0f2c7998/perdure/retry"
)

// Conflicts are responses of a healthy database: they fail no transfer, open no breaker and cost no token of a budget.
func TestConflictsAreNoFailures(t *testing.T) {
	const workers, transfers, accounts, start = 16, 10, 4, 1000
	db := startPostgres(t)
	service := circuit.Service()
	for name, config := range map[string]*circuit.Config{
		"without a breaker": nil,
		"with one":          {},
		"with a budget":     {Budget: 10},
		"circuit.Service()": &service,
	} {
		t.Run(name, func(t *testing.T) {
			setUp(t, db, accounts, start)
			p := &retry.Policy{
				MaxAttempts: retry.Unlimited, BaseDelay: time.Millisecond, MaxDelay: 20 * time.Millisecond,
				JitterMode: retry.FullJitter, MaxElapsed: time.Minute,
			}
			var mu sync.Mutex
			conflicts := 0
			p.Observe = func(_ context.Context, e retry.Event) {
				mu.Lock()
				defer mu.Unlock()
				if e.Class == retry.ClassConflict {
					conflicts++
				} else if e.Kind == retry.Retrying || e.Kind == retry.Stopped {
					t.Errorf("%v of class %v: %v", e.Kind, e.Class, e.Err)
				}
			}
			if config != nil {
				p.Breaker = circuit.New("postgres", *config)
			}
			seed := testseed.Of(t, 1)
			var all sync.WaitGroup
			for w := range workers {
				all.Go(func() {
					random := rand.New(rand.NewPCG(seed, uint64(w)))
					for i := range transfers {
						from := random.IntN(accounts)
						if err := postgres.Transfer(t.Context(), db, p, from, (from+1)%accounts, 1); err != nil {
							t.Errorf("transfer %d of worker %d: %v", i, w, err)
						}
					}
				})
			}
			all.Wait()
			if conflicts == 0 {
				t.Error("no transaction conflicted: the test has shown nothing")
			}
			if n := p.Breaker.Metrics(); n.Trips > 0 || n.Failures > 0 {
				t.Errorf("%d openings, %d failures, want none", n.Trips, n.Failures)
			}
			if sum := total(t, db); sum != accounts*start {
				t.Errorf("the accounts hold %d, want %d", sum, accounts*start)
			}
			t.Logf("%d transfers, %d conflicts", workers*transfers, conflicts)
		})
	}
}

// An ended connection is a failure of the database; a wrong statement is not.
func TestStoppedServerIsAFailure(t *testing.T) {
	db := startPostgres(t)
	setUp(t, db, 2, 10)
	if _, err := db.ExecContext(t.Context(), "SELECT nothing"); retryClass(err) != retry.ClassPermanent {
		t.Errorf("an undefined column is %v, want permanent: %v", retryClass(err), err)
	}
	if _, err := db.ExecContext(t.Context(), "INSERT INTO account VALUES (0, 0)"); retryClass(err) != retry.ClassPermanent {
		t.Errorf("a duplicate key is %v, want permanent: %v", retryClass(err), err)
	}
	_, err := db.ExecContext(t.Context(), "SELECT pg_terminate_backend(pg_backend_pid())")
	if class := retryClass(err); class != retry.ClassTransient && class != retry.ClassUnknown {
		t.Errorf("a connection that the server has ended is %v, want a failure: %v", class, err)
	}
}

func retryClass(err error) retry.Class {
	class, _ := new(retry.Policy).ClassOf(err)
	return class
}

func setUp(t *testing.T, db *sql.DB, accounts, balance int) {
	t.Helper()
	_, err := db.ExecContext(t.Context(), "DROP TABLE IF EXISTS account; CREATE TABLE account (id int PRIMARY KEY, balance int)")
	for id := range accounts {
		if err == nil {
			_, err = db.ExecContext(t.Context(), "INSERT INTO account VALUES ($1, $2)", id, balance)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

func total(t *testing.T, db *sql.DB) (sum int) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), "SELECT sum(balance) FROM account").Scan(&sum); err != nil {
		t.Fatal(err)
	}
	return sum
}

func startPostgres(t *testing.T) *sql.DB {
	t.Helper()
	db, err := sql.Open("postgres", pgtest.Start(t))
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(32)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

var _ interface{ SQLState() string } = (*pq.Error)(nil)
