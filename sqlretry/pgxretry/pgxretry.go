// Package pgxretry retries whole transactions of pgx, as package sqlretry does for database/sql. PostgreSQL itself says
// whether a transaction was committed whose reply was lost.
//
//	pool, err := pgxpool.New(ctx, url)
//	p := retry.Service()
//	err = pgxretry.Tx(ctx, pool, &p, nil, func(ctx context.Context, tx pgx.Tx) error {
//		_, err := tx.Exec(ctx, "UPDATE account SET balance = balance - 10 WHERE id = $1", id)
//		return err
//	})
package pgxretry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/sqlretry"
	"github.com/seed-0f2c7998/perdure/sqlretry/internal/outcome"
)

// A DB begins transactions: a *pgxpool.Pool. A *pgx.Conn is a DB, too, but once its connection is lost no attempt can
// succeed.
type DB interface {
	BeginTx(ctx context.Context, o pgx.TxOptions) (pgx.Tx, error)
}

// Options sets the modes of a transaction, and how a lost reply to COMMIT is resolved. The zero Options begins
// transactions with the server's defaults, and asks PostgreSQL for their outcome.
type Options struct {
	pgx.TxOptions
	// NoXID omits the query for the transaction's id before each COMMIT, which costs a round trip. If the reply to COMMIT
	// is then lost, only Verify can tell what happened. A transaction with a CommitQuery has no such query either.
	NoXID bool
	// Verify, if not nil, is called when PostgreSQL does not know the outcome, or NoXID is set: see [sqlretry.Options].
	Verify func(ctx context.Context) (committed bool, err error)
}

// Tx runs f in a transaction on db and commits it, as [sqlretry.Tx] does, with the same rules for p, o, f and ctx.
// Concurrent calls may share a pool, p and o.
//
// Before COMMIT, Tx reads the id of the transaction. If the reply to COMMIT is lost, Tx asks PostgreSQL (13 or later,
// tested with 15, 16 and 18) for the status of that id, until it is final or p allows no further query, and then
// returns nil or repeats the transaction. After a crash PostgreSQL may give an id again. So Tx believes that the
// transaction was committed only if the server has not crashed or restarted since it gave the id; otherwise, and if
// nothing else can tell, the error is a [*sqlretry.AmbiguousError]. A transaction without an id has written nothing,
// and is repeated; if it contains a NOTIFY, that may be delivered twice.
func Tx(ctx context.Context, db DB, p *retry.Policy, o *Options, f func(ctx context.Context, tx pgx.Tx) error) error {
	if o == nil {
		o = &Options{}
	}
	c := call{Call: outcome.Call[*sqlretry.AmbiguousError]{Policy: outcome.Policy(p), Verify: o.Verify, Ambiguous: ambiguous}, db: db, o: o, f: f}
	return c.Do(ctx, func(attempt context.Context) error { return c.attempt(attempt, ctx) })
}

func ambiguous(commit, verify error) *sqlretry.AmbiguousError {
	return &sqlretry.AmbiguousError{Err: commit, VerifyErr: verify}
}

// A call is one call of Tx.
type call struct {
	outcome.Call[*sqlretry.AmbiguousError]

	db DB
	o  *Options
	f  func(context.Context, pgx.Tx) error
}

// attempt runs the transaction once, within ctx. The outcome of a lost COMMIT is looked for within whole, the context of
// all attempts.
func (c *call) attempt(ctx, whole context.Context) error {
	tx, err := c.db.BeginTx(ctx, c.o.TxOptions)
	if err != nil {
		return beforeCommit(err)
	}
	defer func() { _ = rollback(ctx, tx) }() // does nothing after Commit
	given := watched{Tx: tx}
	if err := c.f(ctx, &given); err != nil {
		return c.failed(ctx, &given, err)
	}
	if err := given.misused(); err != nil {
		return retry.Permanent(err)
	}
	id, err := c.identify(ctx, tx)
	if err != nil {
		return beforeCommit(err)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	err = commit(ctx, tx)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pgx.ErrTxCommitRollback): // f has hidden the error of a statement
		return retry.Permanent(err)
	case outcome.RolledBack(err):
		return err
	case c.o.AccessMode == pgx.ReadOnly, id.writesNothing:
		return retry.Transient(err)
	}
	return c.resolve(whole, id, err)
}

// beforeCommit marks err as transient if the connection was lost before COMMIT. pgx does not call that error safe to
// retry, because a statement may have run; but it did not run outside the transaction.
func beforeCommit(err error) error {
	if errors.Is(err, pgconn.ErrConnClosed) {
		return retry.Transient(err)
	}
	return err
}

// commit sends COMMIT. It waits for the reply for some time after ctx has ended.
func commit(ctx context.Context, tx pgx.Tx) error {
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(outcome.Grace, end) })()
	return tx.Commit(life)
}

// rollback rolls tx back, also after ctx has ended, so that its connection returns to the pool.
func rollback(ctx context.Context, tx pgx.Tx) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), outcome.Grace)
	defer cancel()
	return tx.Rollback(ctx)
}

// A watched is the transaction that f gets. Once f has ended it, its connection may be in use elsewhere.
type watched struct {
	pgx.Tx

	ended bool
}

func (w *watched) Commit(ctx context.Context) error {
	w.ended = true
	return w.Tx.Commit(ctx)
}

func (w *watched) Rollback(ctx context.Context) error {
	w.ended = true
	return w.Tx.Rollback(ctx)
}

// errEnded wraps pgx.ErrTxClosed, which a transaction returns after Commit or Rollback.
var errEnded = fmt.Errorf("the function has ended the transaction itself: %w", pgx.ErrTxClosed)

// misused returns what f has done, by methods or by statements, that leaves nothing to commit; nil if it did nothing so.
func (w *watched) misused() error {
	switch {
	case w.ended:
		return errEnded
	case w.Conn().IsClosed(): // lost
		return nil
	case w.Conn().PgConn().IsBusy():
		return errors.New("the function has not closed its rows")
	case w.Conn().PgConn().TxStatus() == 'I':
		return errEnded
	}
	return nil
}

// failed rolls back after f has returned err, and returns err for the retry.
func (c *call) failed(ctx context.Context, tx *watched, err error) error {
	misuse := tx.misused()
	switch {
	case errors.Is(misuse, pgx.ErrTxClosed): // committed or rolled back, who knows which
		return retry.Final(err)
	case misuse != nil && pgconn.SafeToRetry(err): // a statement beside open rows
		return retry.Permanent(err)
	case outcome.ReadOnly(err) && c.o.AccessMode == pgx.ReadOnly:
		return retry.Permanent(err)
	case outcome.ReadOnly(err):
		_ = tx.Conn().Close(ctx) // after a failover another connection may lead to the new primary
		return err
	}
	rolled := rollback(ctx, tx.Tx)
	if class, _ := c.Policy.ClassOf(err); rolled != nil && misuse == nil && class == retry.ClassUnknown { // the connection is lost
		return retry.Transient(err)
	}
	return err
}
