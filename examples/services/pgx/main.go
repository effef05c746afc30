// Command pgx moves money between accounts in serializable transactions of PostgreSQL, with retries, a circuit breaker
// and a retry budget for the database. Its metrics are at /metrics of the address -admin, its spans in the log.
package main

import (
	"context"
	"flag"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/examples/services/internal/service"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/sqlretry/pgxretry"
)

func main() {
	database := flag.String("database", "postgres://127.0.0.1/bank", "`URL` of the database")
	service.Main(func(ctx context.Context, t *service.Telemetry) error { return run(ctx, t, *database, 8, 20) })
}

// run lets each of the workers make n transfers.
func run(ctx context.Context, t *service.Telemetry, database string, workers, n int) error {
	pool, err := pgxpool.New(ctx, database)
	if err != nil {
		return err
	}
	defer pool.Close()

	// resilience: begin
	policy := retry.Service()
	policy.Name, policy.MaxAttempts, policy.Metrics, policy.Observe = "transfer", 30, t.Registry, t.Observe
	policy.MaxDelay, policy.Breaker = time.Second, circuit.New("bank", circuit.Service())
	serializable := &pgxretry.Options{TxOptions: pgx.TxOptions{IsoLevel: pgx.Serializable}}
	transfer := func(ctx context.Context, from, to, amount int) error {
		return pgxretry.Tx(ctx, pool, &policy, serializable, func(ctx context.Context, tx pgx.Tx) error {
			return move(ctx, tx, from, to, amount)
		})
	}
	// resilience: end

	var all errgroup.Group
	for w := range workers {
		all.Go(func() error {
			for i := range n {
				if err := transfer(ctx, (w+i)%4, (w+i+1)%4, 1); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return all.Wait()
}

// move reads both balances and writes them back, so that two transfers of one account conflict.
func move(ctx context.Context, tx pgx.Tx, from, to, amount int) error {
	for _, change := range []struct{ account, amount int }{{from, -amount}, {to, amount}} {
		var balance int
		if err := tx.QueryRow(ctx, "SELECT balance FROM account WHERE id = $1", change.account).Scan(&balance); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "UPDATE account SET balance = $1 WHERE id = $2", balance+change.amount, change.account); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, "INSERT INTO ledger (source, target, amount) VALUES ($1, $2, $3)", from, to, amount)
	return err
}
