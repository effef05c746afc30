package sqlretry

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/sqlretry/internal/outcome"
)

// Options sets the isolation of a transaction, and how a lost reply to COMMIT is resolved. The zero Options begins
// transactions with the database's defaults, and resolves nothing.
type Options struct {
	// Isolation is the isolation level; 0 means the default of the database.
	Isolation sql.IsolationLevel
	// ReadOnly begins read-only transactions. They change nothing, so they are repeated even if the reply to COMMIT was
	// lost.
	ReadOnly bool
	// Verify reports whether the transaction was committed. Tx calls it on the caller's goroutine after the reply to
	// COMMIT was lost, and again under the Policy, without its Breaker, while Verify returns a retried or an unknown
	// error. If it returns true, Tx returns nil. If it returns false, Tx repeats the transaction. If Verify is nil, or
	// fails, Tx returns an *AmbiguousError.
	//
	// The server may still receive the COMMIT after Verify has looked. Let the function first insert a row with a unique
	// id, made before Tx is called, and Verify look for that row: if a commit comes late, the repeated insert waits for
	// it and fails, and Tx calls Verify again before it returns that error.
	Verify func(ctx context.Context) (committed bool, err error)
}

// An AmbiguousError reports a transaction that may or may not have been committed: COMMIT was sent, the reply was lost,
// and nothing has found out what happened. Tx does not repeat such a transaction, nor does a retry around Tx.
type AmbiguousError struct {
	Err       error // of COMMIT
	VerifyErr error // why the outcome could not be verified; nil if there was nothing to verify it with
}

// Error includes the texts of Err and VerifyErr, in one line and without the secrets in them.
func (e *AmbiguousError) Error() string {
	text := fmt.Sprintf("unknown whether the transaction was committed: %v", e.Err)
	if e.VerifyErr != nil {
		text += fmt.Sprintf(" (verifying failed: %v)", e.VerifyErr)
	}
	return redact.Line(redact.Message(text))
}

// Unwrap returns Err.
func (e *AmbiguousError) Unwrap() error { return e.Err }

// Tx runs f in a transaction on db and commits it. If an attempt fails before its COMMIT, or the server refuses the
// COMMIT, Tx rolls back and repeats the whole transaction on another connection, or the same, as p allows: after
// conflicts (serialization failures, deadlocks), lost connections, and other errors that p retries. If p is nil, the
// zero Policy is used; if o is nil, the zero Options. Concurrent calls may share db, p and o.
//
// f runs on the caller's goroutine, once for each attempt. It must not end tx, neither by a method nor by a statement, and
// its effects outside the transaction happen once for each attempt; so do statements that a transaction does not cover,
// such as MySQL's DDL and tables of MyISAM. Tx rolls back and returns the error of f unchanged if p does not retry it.
// If f panics or calls runtime.Goexit, Tx rolls back and releases the connection. Savepoints are up to f: Tx only
// repeats whole transactions.
//
// When ctx ends before COMMIT was sent, Tx rolls back and returns the error of ctx. After that, ctx no longer decides:
// Tx returns what COMMIT returns. A driver that can be interrupted (pgx) waits at most 5 s after the end of ctx for the
// reply; for others set their read timeout.
//
// If the transaction may have been committed, the error is an [*AmbiguousError]. Other errors are those of
// [retry.Value].
func Tx(ctx context.Context, db *sql.DB, p *retry.Policy, o *Options, f func(ctx context.Context, tx *sql.Tx) error) error {
	if o == nil {
		o = &Options{}
	}
	c := call{Call: outcome.Call[*AmbiguousError]{Policy: outcome.Policy(p), Verify: o.Verify, Ambiguous: ambiguous}, db: db, o: o, f: f}
	return c.Do(ctx, func(attempt context.Context) error { return c.attempt(attempt, ctx) })
}

func ambiguous(commit, verify error) *AmbiguousError {
	return &AmbiguousError{Err: commit, VerifyErr: verify}
}

// A call is one call of Tx.
type call struct {
	outcome.Call[*AmbiguousError]

	db *sql.DB
	o  *Options
	f  func(context.Context, *sql.Tx) error
}

// attempt runs the transaction once, within ctx. The reply to COMMIT is looked for within whole, the context of all
// attempts.
func (c *call) attempt(ctx, whole context.Context) error {
	// The transaction has a context that outlives ctx, so that the end of ctx cannot cut a COMMIT that was sent.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	stop := context.AfterFunc(ctx, end)
	defer stop()
	conn, tx, err := c.begin(ctx, life)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	if err := c.f(ctx, tx); err != nil {
		return c.failed(ctx, conn, tx, err)
	}
	if !stop() || ctx.Err() != nil { // a context wakes who waits for it before it calls what AfterFunc was given
		return context.Cause(ctx)
	}
	defer context.AfterFunc(ctx, func() { time.AfterFunc(outcome.Grace, end) })()
	return c.commit(whole, conn, tx)
}

// begin begins a transaction, and replaces connections that have ended in the pool, as db.BeginTx does. It keeps the
// connection, which tells whether the server has responded.
func (c *call) begin(ctx, life context.Context) (conn *sql.Conn, tx *sql.Tx, err error) {
	for range 3 {
		conn, err = c.db.Conn(ctx)
		if err != nil {
			if ctx.Err() == nil && c.isUnknown(err) && isOpen(ctx, c.db) {
				err = retry.Transient(err) // no connection could be made
			}
			return nil, nil, err
		}
		tx, err = conn.BeginTx(life, &sql.TxOptions{Isolation: c.o.Isolation, ReadOnly: c.o.ReadOnly})
		if err == nil {
			return conn, tx, nil
		}
		if ctx.Err() == nil && c.isUnknown(err) && !responds(ctx, conn) {
			err = retry.Transient(err)
		}
		_ = conn.Close()
		if !errors.Is(err, driver.ErrBadConn) {
			break
		}
	}
	return nil, nil, err
}

// failed rolls back after f has returned err, and returns err for the retry.
func (c *call) failed(ctx context.Context, conn *sql.Conn, tx *sql.Tx, err error) error {
	switch rolled := tx.Rollback(); {
	case rolled == nil:
		return c.uncommitted(conn, err)
	case !errors.Is(rolled, sql.ErrTxDone):
		if c.isUnknown(err) { // the connection is lost, and with it the transaction
			return retry.Transient(err)
		}
		return err
	case ctx.Err() == nil: // f has called Commit or Rollback, who knows which
		return retry.Final(err)
	}
	return err
}

// uncommitted returns err, with which the server has ended the transaction, for the retry.
func (c *call) uncommitted(conn *sql.Conn, err error) error {
	if !outcome.ReadOnly(err) {
		return err
	}
	if c.o.ReadOnly {
		return retry.Permanent(err)
	}
	// After a failover another connection may lead to the new primary.
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	return err
}

// commit commits tx. If the reply is lost, commit finds out what happened.
func (c *call) commit(ctx context.Context, conn *sql.Conn, tx *sql.Tx) error {
	err := tx.Commit()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrTxDone):
		return retry.Permanent(fmt.Errorf("the function has ended the transaction itself: %w", err))
	case outcome.RolledBack(err):
		return c.uncommitted(conn, err)
	case c.o.ReadOnly:
		return retry.Transient(err)
	case !errors.Is(err, driver.ErrBadConn) && !outcome.FromServer(err) && responds(ctx, conn):
		return err // the server has responded to COMMIT, and not with success
	}
	return c.Lost(ctx, err, nil)
}

func (c *call) isUnknown(err error) bool {
	class, _ := c.Policy.ClassOf(err)
	return class == retry.ClassUnknown
}

// responds reports whether the server still responds on conn.
func responds(ctx context.Context, conn *sql.Conn) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	return conn.PingContext(ctx) == nil
}

// isOpen reports whether db was not closed.
func isOpen(ctx context.Context, db *sql.DB) bool {
	ended, cancel := context.WithCancel(context.WithoutCancel(ctx))
	cancel()
	_, err := db.Conn(ended) // makes no connection, and says first whether db is closed
	return errors.Is(err, context.Canceled)
}
