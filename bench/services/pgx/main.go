// Command pgx is examples/services/pgx with failsafe-go. It has no budget, as conflicts would spend it; if the reply to
// COMMIT is lost, it reports an error where pgxretry finds out what happened; and there are no metrics.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"
)

func main() {
	database := flag.String("database", "postgres://127.0.0.1/bank", "`URL` of the database")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *database, 8, 20); err != nil {
		log.Fatal(err) //nolint:gocritic // nothing is left to stop
	}
}

// run lets each of the workers make n transfers.
func run(ctx context.Context, database string, workers, n int) error {
	pool, err := pgxpool.New(ctx, database)
	if err != nil {
		return err
	}
	defer pool.Close()

	// resilience: begin
	retries := retrypolicy.NewBuilder[any]().HandleIf(func(_ any, err error) bool { return conflict(err) || lost(err) }).
		WithMaxAttempts(30).WithMaxDuration(30*time.Second).WithBackoff(50*time.Millisecond, time.Second).WithJitterFactor(0.5).
		AbortOnErrors(circuitbreaker.ErrOpen, errAmbiguous).ReturnLastFailure().Build()
	breaker := circuitbreaker.NewBuilder[any]().HandleIf(func(_ any, err error) bool { return lost(err) }).
		WithFailureRateThreshold(0.5, 10, time.Second).WithDelay(500 * time.Millisecond).WithSuccessThreshold(3).Build()
	executor := failsafe.With[any](retries, breaker)
	serializable := pgx.TxOptions{IsoLevel: pgx.Serializable}
	transfer := func(ctx context.Context, from, to, amount int) error {
		return executor.WithContext(ctx).Run(func() error {
			committing := false
			err := pgx.BeginTxFunc(ctx, pool, serializable, func(tx pgx.Tx) error {
				err := move(ctx, tx, from, to, amount)
				committing = err == nil
				return err
			})
			if committing && lost(err) {
				return fmt.Errorf("%w: %w", errAmbiguous, err)
			}
			return err
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

// resilience: begin

var errAmbiguous = errors.New("the transaction may have been committed")

func conflict(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (e.Code == "40001" || e.Code == "40P01")
}

// lost reports whether the connection or the server has failed.
func lost(err error) bool {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return strings.HasPrefix(e.Code, "08") || strings.HasPrefix(e.Code, "53") || strings.HasPrefix(e.Code, "57P")
	}
	return err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, pgx.ErrNoRows)
}

// resilience: end
