package sqlretry

import (
	"database/sql/driver"
	"errors"
	"net"

	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/sqlretry/internal/outcome"
)

// Class returns the class of a MySQL or MariaDB error by its number and SQLSTATE: deadlocks and lock wait timeouts are
// conflicts, and too many connections are throttled. It returns ClassTransient for the SQLSTATE 25006 of a PostgreSQL
// server that became read-only and for errors of pgx whose method SafeToRetry says so, and ClassUnknown for other errors,
// which the general rules of package retry classify: they know all other SQLSTATEs. [Tx] applies Class by itself.
//
// Class is a Policy.Classify for reads and other statements that may run twice. For those that must not, see
// [Statement].
func Class(err error) retry.Class { return outcome.Class(err) }

// Statement returns err for a retry of one statement outside a transaction: unchanged if the statement did not run, and
// otherwise marked by [retry.Final], so that it is not repeated. It did not run if the server has refused it, or if
// nothing was sent: the connection could not be made, or the driver returned driver.ErrBadConn or an error with the
// method SafeToRetry. Statement(nil) is nil.
//
//	p.Classify = sqlretry.Class
//	err := retry.Do(ctx, p, func(ctx context.Context) error {
//		_, err := db.ExecContext(ctx, "INSERT INTO event (text) VALUES ($1)", text)
//		return sqlretry.Statement(err)
//	})
func Statement(err error) error {
	var dial *net.OpError
	switch {
	case err == nil,
		outcome.RolledBack(err),
		errors.Is(err, driver.ErrBadConn),
		errors.As(err, &dial) && dial.Op == "dial",
		Class(err) == retry.ClassThrottled: // too many connections: there was none to send the statement on
		return err
	}
	return retry.Final(err)
}
