// Package postgres shows how transactions that conflict are retried, beside a circuit breaker that must not take a
// conflict for a failure of the database.
package postgres

import (
	"context"
	"database/sql"

	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/sqlretry"
)

// Transfer moves amount from one account to another in a serializable transaction, and retries the transaction as p
// says. PostgreSQL ends a transaction that cannot be ordered among the others with SQLSTATE 40001, which is found in the
// driver's error.
func Transfer(ctx context.Context, db *sql.DB, p *retry.Policy, from, to, amount int) error {
	serializable := &sqlretry.Options{Isolation: sql.LevelSerializable}
	return sqlretry.Tx(ctx, db, p, serializable, func(ctx context.Context, tx *sql.Tx) error {
		return move(ctx, tx, from, to, amount)
	})
}

// move reads both balances and writes them back, so that two transfers of one account conflict.
func move(ctx context.Context, tx *sql.Tx, from, to, amount int) error {
	for _, change := range []struct{ account, amount int }{{from, -amount}, {to, amount}} {
		var balance int
		if err := tx.QueryRowContext(ctx, "SELECT balance FROM account WHERE id = $1", change.account).Scan(&balance); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "UPDATE account SET balance = $1 WHERE id = $2", balance+change.amount, change.account); err != nil {
			return err
		}
	}
	return nil
}
