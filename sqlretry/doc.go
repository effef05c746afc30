// Package sqlretry retries whole transactions of database/sql, and classifies the errors of PostgreSQL, MySQL and
// MariaDB. Package pgxretry does the same for pgx without database/sql.
//
//	p := retry.Service()
//	err := sqlretry.Tx(ctx, db, &p, nil, func(ctx context.Context, tx *sql.Tx) error {
//		_, err := tx.ExecContext(ctx, "UPDATE account SET balance = balance - 10 WHERE id = $1", id)
//		return err
//	})
//
// A transaction that was not committed can be repeated from scratch, whatever ended it: a serialization failure, a
// deadlock, or a lost connection. A transaction whose COMMIT was sent, and whose reply was lost, may be committed: [Tx]
// never repeats it, and returns an [AmbiguousError], unless [Options.Verify] finds out what happened.
//
// No driver is imported. SQLSTATEs are read by the method SQLState, which errors of pgx and lib/pq have. The
// *mysql.MySQLError of github.com/go-sql-driver/mysql has no method, so its number is read by reflection, from the name
// of the type and its fields: a program that uses one driver does not link another, and needs no setting.
package sqlretry
