//go:build integration && unix

package sqlretry_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/sqlretry/pgxretry"
)

// A function that ends its transaction, by a method or by a statement, or that leaves rows open, is not repeated, and its
// transaction does not count as committed.
func misuses(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), "CREATE TABLE misused (n int)"); err != nil {
		t.Fatal(err)
	}
	own := errors.New("the function's own")
	do := func(query string, then error) func(context.Context, pgx.Tx) error {
		return func(ctx context.Context, tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, query); err != nil {
				return err
			}
			return then
		}
	}
	for name, row := range map[string]struct {
		f     func(context.Context, pgx.Tx) error
		want  error // nil: any
		class retry.Class
		rows  int
	}{
		"Commit":              {func(ctx context.Context, tx pgx.Tx) error { return tx.Commit(ctx) }, pgx.ErrTxClosed, retry.ClassPermanent, 1},
		"Rollback":            {func(ctx context.Context, tx pgx.Tx) error { return tx.Rollback(ctx) }, pgx.ErrTxClosed, retry.ClassPermanent, 0},
		"COMMIT":              {do("COMMIT", nil), pgx.ErrTxClosed, retry.ClassPermanent, 1},
		"ROLLBACK":            {do("ROLLBACK", nil), pgx.ErrTxClosed, retry.ClassPermanent, 0},
		"COMMIT and conflict": {do("COMMIT", retry.Conflict(own)), own, retry.ClassConflict, 1},
		"rows":                {func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Query(ctx, "SELECT 1"); return err }, nil, retry.ClassPermanent, 0},
		"rows and own error":  {func(ctx context.Context, tx pgx.Tx) error { _, _ = tx.Query(ctx, "SELECT 1"); return own }, own, retry.ClassUnknown, 0},
		"rows and a statement": {func(ctx context.Context, tx pgx.Tx) error {
			_, _ = tx.Query(ctx, "SELECT 1")
			return do("SELECT 1", nil)(ctx, tx)
		}, nil, retry.ClassPermanent, 0},
	} {
		if _, err := pool.Exec(t.Context(), "DELETE FROM misused"); err != nil {
			t.Fatal(err)
		}
		p, attempts := patient(), 0
		p.MaxAttempts = 3
		err := pgxretry.Tx(t.Context(), pool, p, nil, func(ctx context.Context, tx pgx.Tx) error {
			attempts++
			if err := do("INSERT INTO misused VALUES (1)", nil)(ctx, tx); err != nil {
				return err
			}
			return row.f(ctx, tx)
		})
		class, _ := p.ClassOf(err)
		if attempts != 1 || class != row.class || err == nil || row.want != nil && !errors.Is(err, row.want) {
			t.Errorf("%s: %d attempts, %v error %v; want 1, %v, %v", name, attempts, class, err, row.class, row.want)
		}
		var n int
		if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM misused").Scan(&n); err != nil || n != row.rows {
			t.Errorf("%s: %d rows, want %d: %v", name, n, row.rows, err)
		}
	}
}
