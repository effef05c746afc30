package sqlretry_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/sqlretry"
)

func ExampleTx() {
	db := sql.OpenDB(&fakeDB{commit: once(&pgconn.PgError{Code: "40001"})}) // the first transaction conflicts
	defer func() { _ = db.Close() }()

	p := retry.Policy{Name: "transfer", BaseDelay: 1, Jitter: retry.NoJitter}
	p.Observe = func(_ context.Context, e retry.Event) { fmt.Println(e.Kind, e.Class) }
	o := &sqlretry.Options{Isolation: sql.LevelSerializable}
	err := sqlretry.Tx(context.Background(), db, &p, o, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE account SET balance = balance - 10 WHERE id = 1")
		return err
	})
	if unknown, ok := errors.AsType[*sqlretry.AmbiguousError](err); ok {
		fmt.Println("may be committed:", unknown.Err)
	}
	fmt.Println(err)
	// Output:
	// retrying conflict
	// succeeded unknown
	// <nil>
}
