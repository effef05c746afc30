package pgxretry

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/sqlretry/internal/outcome"
)

// An identity names a transaction to the server.
type identity struct {
	xid           string // "" means not known
	epoch         string // of the server that gave xid
	writesNothing bool   // the transaction has no xid
}

// epochQuery returns what changes when a server restarts, and when it recovers from the crash of one of its processes: it
// discards its statistics then. Ids that were not yet on the disk are given again after that.
const epochQuery = "concat_ws('/', pg_postmaster_start_time(), (SELECT stats_reset FROM pg_stat_bgwriter))"

// epochKey is the key of the epoch in pgconn.PgConn.CustomData. An epoch lasts at least as long as a connection.
const epochKey = "perdure-epoch"

// identify returns the identity of tx.
func (c *call) identify(ctx context.Context, tx pgx.Tx) (id identity, err error) {
	if c.o.NoXID || c.o.AccessMode == pgx.ReadOnly || c.o.CommitQuery != "" {
		return id, nil
	}
	data := tx.Conn().PgConn().CustomData()
	epoch, known := data[epochKey].(string)
	var xid *string
	if known {
		err = tx.QueryRow(ctx, "SELECT pg_current_xact_id_if_assigned()::text").Scan(&xid)
	} else {
		err = tx.QueryRow(ctx, "SELECT pg_current_xact_id_if_assigned()::text, "+epochQuery).Scan(&xid, &epoch)
	}
	if err != nil {
		return id, err
	}
	data[epochKey] = epoch
	if xid == nil {
		return identity{writesNothing: true}, nil
	}
	return identity{xid: *xid, epoch: epoch}, nil
}

// resolve finds out whether the transaction was committed. err is the error of its COMMIT.
func (c *call) resolve(ctx context.Context, id identity, err error) error {
	if id.xid == "" {
		return c.Lost(ctx, err, errors.New("the id of the transaction is not known"))
	}
	committed, verr := outcome.Resolve(ctx, c.Policy, func(ctx context.Context) (bool, error) { return c.status(ctx, id) })
	switch {
	case verr != nil:
		return c.Lost(ctx, err, verr)
	case committed:
		return nil
	}
	return retry.Transient(err)
}

// status asks PostgreSQL whether the transaction was committed. An error that is not permanent asks for another query.
func (c *call) status(ctx context.Context, id identity) (committed bool, err error) {
	tx, err := c.db.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly}) // both queries on one server
	if err != nil {
		return false, err
	}
	defer func() { _ = rollback(ctx, tx) }()
	var standby bool
	var epoch string
	if err := tx.QueryRow(ctx, "SELECT pg_is_in_recovery(), "+epochQuery).Scan(&standby, &epoch); err != nil {
		return false, err
	}
	if standby {
		return false, retry.Transient(errors.New("the server is a standby, which may lag"))
	}
	var status *string
	err = tx.QueryRow(ctx, "SELECT pg_xact_status($1::text::xid8)", id.xid).Scan(&status)
	var pgErr *pgconn.PgError
	switch {
	case errors.As(err, &pgErr) && pgErr.Code == "22023": // the id was not given yet: a crash has undone it
		return false, nil
	case err != nil:
		return false, err
	case status == nil:
		return false, retry.Permanent(fmt.Errorf("the server has forgotten transaction %s", id.xid))
	case *status == "aborted":
		return false, nil
	case *status != "committed":
		return false, retry.Transient(fmt.Errorf("transaction %s is %s", id.xid, *status))
	case epoch != id.epoch:
		return false, retry.Permanent(fmt.Errorf("the server has restarted, and transaction %s may be another now", id.xid))
	}
	return true, nil
}
