//go:build integration && unix

package sqlretry_test

import (
	"context"
	"database/sql"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/sqlretry"
	"github.com/seed-0f2c7998/perdure/sqlretry/pgxretry"
)

// BenchmarkTx measures a transaction of one update on PostgreSQL, bare and retried.
func BenchmarkTx(b *testing.B) {
	s := startPostgres(b)
	dsn := "host=" + s.dir + " user=test dbname=postgres"
	db, pool, p, ctx := open(b, "pgx", dsn), newPool(b, dsn), &retry.Policy{}, b.Context()
	if _, err := db.ExecContext(ctx, "CREATE TABLE n (n int); INSERT INTO n VALUES (0)"); err != nil {
		b.Fatal(err)
	}
	const query = "UPDATE n SET n = n + 1"
	inSQL := func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, query)
		return err
	}
	inPgx := func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, query)
		return err
	}
	for _, row := range []struct {
		name string
		run  func() error
	}{
		{"database_sql/bare", func() error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			defer func() { _ = tx.Rollback() }()
			if err := inSQL(ctx, tx); err != nil {
				return err
			}
			return tx.Commit()
		}},
		{"database_sql/sqlretry", func() error { return sqlretry.Tx(ctx, db, p, nil, inSQL) }},
		{"pgx/bare", func() error { return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { return inPgx(ctx, tx) }) }},
		{"pgx/pgxretry", func() error { return pgxretry.Tx(ctx, pool, p, nil, inPgx) }},
		{"pgx/pgxretry_NoXID", func() error { return pgxretry.Tx(ctx, pool, p, &pgxretry.Options{NoXID: true}, inPgx) }},
	} {
		b.Run(row.name, func(b *testing.B) {
			for b.Loop() {
				if err := row.run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
