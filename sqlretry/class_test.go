package sqlretry_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/sqlretry"
)

func TestClass(t *testing.T) {
	p := &retry.Policy{Classify: sqlretry.Class}
	state := func(s string) [5]byte { return [5]byte([]byte(s)) }
	for _, row := range []struct {
		err  error
		want retry.Class
	}{
		{&mysql.MySQLError{Number: 1213, SQLState: state("40001")}, retry.ClassConflict},
		{&mysql.MySQLError{Number: 1205, SQLState: state("HY000")}, retry.ClassConflict},
		{&mysql.MySQLError{Number: 1020}, retry.ClassConflict},
		{&mysql.MySQLError{Number: 3572}, retry.ClassConflict},
		{&mysql.MySQLError{Number: 1040, SQLState: state("08004")}, retry.ClassThrottled},
		{&mysql.MySQLError{Number: 1203, SQLState: state("42000")}, retry.ClassThrottled},
		{&mysql.MySQLError{Number: 1226, SQLState: state("42000")}, retry.ClassThrottled},
		{&mysql.MySQLError{Number: 1053, SQLState: state("08S01")}, retry.ClassTransient},
		{&mysql.MySQLError{Number: 1290}, retry.ClassTransient},
		{&mysql.MySQLError{Number: 1836}, retry.ClassTransient},
		{&mysql.MySQLError{Number: 2006}, retry.ClassTransient},
		{&mysql.MySQLError{Number: 2013}, retry.ClassTransient},
		{&mysql.MySQLError{Number: 9999, SQLState: state("08S01")}, retry.ClassTransient},
		{&mysql.MySQLError{Number: 1062, SQLState: state("23000")}, retry.ClassPermanent},
		{&mysql.MySQLError{Number: 1064, SQLState: state("42000")}, retry.ClassPermanent},
		{&mysql.MySQLError{Number: 1317, SQLState: state("70100")}, retry.ClassUnknown},
		{&mysql.MySQLError{Number: 1105}, retry.ClassUnknown},
		{errors.Join(errors.New("a"), &mysql.MySQLError{Number: 1213}), retry.ClassConflict},
		{&pgconn.PgError{Code: "40001"}, retry.ClassConflict},
		{&pgconn.PgError{Code: "25006"}, retry.ClassTransient},
		{&pgconn.PgError{Code: "57P01"}, retry.ClassTransient},
		{&pgconn.PgError{Code: "23505"}, retry.ClassPermanent},
		{unsent{}, retry.ClassTransient},
		{errors.Join(unsent{}, context.Canceled), retry.ClassIgnored},
		{driver.ErrBadConn, retry.ClassTransient},
		{io.ErrUnexpectedEOF, retry.ClassTransient},
		{errors.New("other"), retry.ClassUnknown},
		{MySQLError{}, retry.ClassUnknown},
		{&MySQLError{}, retry.ClassUnknown},
	} {
		for _, err := range []error{row.err, fmt.Errorf("wrapped: %w", row.err)} {
			if got, _ := p.ClassOf(err); got != row.want {
				t.Errorf("%#v is %v, want %v", err, got, row.want)
			}
		}
	}
}

// unsent is like pgx's error for a connection that is closed.
type unsent struct{}

func (unsent) Error() string     { return "conn closed" }
func (unsent) SafeToRetry() bool { return true }

// A MySQLError is another type of that name.
type MySQLError struct{}

func (MySQLError) Error() string { return "no number" }

// A statement that may have run is not repeated.
func TestStatement(t *testing.T) {
	for _, row := range []struct {
		err  error
		runs int
	}{
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, 2},
		{driver.ErrBadConn, 2},
		{&pgconn.PgError{Code: "40001"}, 2},
		{&pgconn.PgError{Code: "57P03"}, 2},
		{&mysql.MySQLError{Number: 1040}, 2},
		{&mysql.MySQLError{Number: 1213}, 2},
		{unsent{}, 2},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, 1},
		{io.ErrUnexpectedEOF, 1},
		{mysql.ErrInvalidConn, 1},
		{&pgconn.PgError{Code: "57P01"}, 1},
		{&mysql.MySQLError{Number: 1053}, 1},
	} {
		p := policy()
		p.Classify, p.BaseDelay, p.Jitter = sqlretry.Class, 1, retry.NoJitter
		runs := 0
		err := retry.Do(t.Context(), p, func(context.Context) error {
			if runs++; runs == 1 {
				return sqlretry.Statement(row.err)
			}
			return sqlretry.Statement(nil)
		})
		if runs != row.runs || (err == nil) != (runs == 2) {
			t.Errorf("%v: run %d times, want %d: %v", row.err, runs, row.runs, err)
		}
	}
}
