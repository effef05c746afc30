// Command pgx moves money between accounts in serializable transactions of PostgreSQL, with retries, a circuit breaker
// and a retry budget for the database, and metrics on the address -admin.
package main

import (
	"context"
	"flag"
	"log"
	"net"
	"os"
	"os/signal"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/examples/services/internal/admin"
	"github.com/seed-0f2c7998/perdure/metrics"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/sqlretry/pgxretry"
)

func main() {
	address := flag.String("admin", "127.0.0.1:9464", "`address` of /metrics")
	database := flag.String("database", "postgres://127.0.0.1/bank", "`URL` of the database")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", *address)
	if err == nil {
		err = run(ctx, listener, *database, 8, 20)
	}
	if err != nil {
		log.Fatal(err) //nolint:gocritic // nothing is left to stop
	}
}

// run lets each of the workers make n transfers.
func run(ctx context.Context, listener net.Listener, database string, workers, n int) error {
	registry := new(metrics.Registry)
	go func() { _ = admin.Serve(listener, registry) }()
	pool, err := pgxpool.New(ctx, database)
	if err != nil {
		return err
	}
	defer pool.Close()

	// resilience: begin
	policy := retry.Service()
	policy.Name, policy.MaxAttempts, policy.Metrics = "transfer", 30, registry
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
