package sqlretry_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/sqlretry"
)

func policy() *retry.Policy {
	return &retry.Policy{MaxAttempts: 3, Observe: func(context.Context, retry.Event) {}}
}

func update(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, "UPDATE")
	return err
}

func once(err error) func(int64) error {
	return func(attempt int64) error {
		if attempt == 1 {
			return err
		}
		return nil
	}
}

// Each kind of error of COMMIT: the transaction is repeated, or the error returned, or the outcome unknown.
func TestCommitErrors(t *testing.T) {
	const repeated, returned, ambiguous = "repeated", "returned", "ambiguous"
	for _, row := range []struct {
		err      error
		lost     bool
		want     string
		readOnly string
	}{
		{&pgconn.PgError{Code: "40001"}, false, repeated, repeated},
		{&pgconn.PgError{Code: "40P01"}, false, repeated, repeated},
		{&pgconn.PgError{Code: "23505"}, false, returned, returned},
		{&pgconn.PgError{Code: "57014"}, false, returned, returned},
		{&pgconn.PgError{Code: "40003"}, false, ambiguous, repeated},
		{&pgconn.PgError{Code: "57P01"}, true, ambiguous, repeated},
		{&pgconn.PgError{Code: "08007"}, true, ambiguous, repeated},
		{&pgconn.PgError{Code: "XX000"}, false, ambiguous, repeated},
		{&pgconn.PgError{Code: "53100"}, false, ambiguous, repeated},
		{pgx.ErrTxCommitRollback, false, returned, repeated},
		{&mysql.MySQLError{Number: 1213}, false, repeated, repeated},
		{&mysql.MySQLError{Number: 1836}, false, repeated, returned},
		{&mysql.MySQLError{Number: 1180}, false, ambiguous, repeated},
		{&mysql.MySQLError{Number: 1053}, true, ambiguous, repeated},
		{mysql.ErrInvalidConn, true, ambiguous, repeated},
		{driver.ErrBadConn, false, ambiguous, repeated},
		{io.ErrUnexpectedEOF, true, ambiguous, repeated},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, true, ambiguous, repeated},
		{context.DeadlineExceeded, true, ambiguous, repeated},
		{errors.New("not known"), true, ambiguous, repeated},
	} {
		for _, readOnly := range []bool{false, true} {
			want := row.want
			if readOnly {
				want = row.readOnly
			}
			t.Run(fmt.Sprintf("%v, read-only %v", row.err, readOnly), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := &fakeDB{commit: once(fmt.Errorf("commit: %w", row.err))}
					f.lost.Store(row.lost)
					err := sqlretry.Tx(t.Context(), f.open(t), policy(), &sqlretry.Options{ReadOnly: readOnly}, update)
					_, unknown := errors.AsType[*sqlretry.AmbiguousError](err)
					got := returned
					switch {
					case err == nil:
						got = repeated
					case unknown:
						got = ambiguous
					}
					if got != want {
						t.Errorf("%s, want %s: %v", got, want, err)
					}
					if err != nil && (!errors.Is(err, row.err) || f.begun.Load() != 1) {
						t.Errorf("%d transactions, and the error %v, want one and %v", f.begun.Load(), err, row.err)
					}
				})
			})
		}
	}
}

// Before COMMIT a lost connection, whatever error the driver has for it, is no doubt: the transaction is repeated.
func TestLostBeforeCommit(t *testing.T) {
	for _, err := range []error{mysql.ErrInvalidConn, driver.ErrBadConn, io.ErrUnexpectedEOF, errors.New("lost")} {
		for _, step := range []string{"begin", "exec"} {
			synctest.Test(t, func(t *testing.T) {
				f := &fakeDB{}
				f.lost.Store(true)
				if step == "begin" {
					f.begin = once(err)
				} else {
					f.exec = once(err)
				}
				if got := sqlretry.Tx(t.Context(), f.open(t), policy(), nil, update); got != nil || f.committed.Load() != 1 {
					t.Errorf("%v at %s: %v after %d commits, want one", err, step, got, f.committed.Load())
				}
			})
		}
	}
}

// The error of the function itself rolls back, is returned unchanged, and fails no breaker.
func TestOwnError(t *testing.T) {
	f, own := &fakeDB{}, errors.New("insufficient funds")
	got := sqlretry.Tx(t.Context(), f.open(t), policy(), nil, func(context.Context, *sql.Tx) error { return own })
	if got != own || f.rolled.Load() != 1 || f.begun.Load() != 1 { //nolint:errorlint // it must be the same
		t.Errorf("%v after %d transactions and %d rollbacks, want %v after one", got, f.begun.Load(), f.rolled.Load(), own)
	}
}

func TestPanicAndGoexitRollBack(t *testing.T) {
	f := &fakeDB{}
	db := f.open(t)
	for name, leave := range map[string]func(){"panic": func() { panic("x") }, "Goexit": runtime.Goexit} {
		ended := make(chan any)
		go func() {
			defer func() { ended <- recover() }()
			_ = sqlretry.Tx(t.Context(), db, policy(), nil, func(context.Context, *sql.Tx) error { leave(); return nil })
		}()
		if got := <-ended; name == "panic" && got != "x" {
			t.Errorf("recovered %v", got)
		}
		if n := db.Stats().InUse; n != 0 {
			t.Errorf("%s: %d connections in use", name, n)
		}
	}
	if f.rolled.Load() != 2 || f.committed.Load() != 0 {
		t.Errorf("%d rollbacks, %d commits, want 2, 0", f.rolled.Load(), f.committed.Load())
	}
}

// A function that ends the transaction itself is not repeated: it may have committed.
func TestFunctionThatCommits(t *testing.T) {
	f := &fakeDB{commit: once(io.ErrUnexpectedEOF)}
	err := sqlretry.Tx(t.Context(), f.open(t), policy(), nil, func(_ context.Context, tx *sql.Tx) error { return tx.Commit() })
	if !errors.Is(err, io.ErrUnexpectedEOF) || f.begun.Load() != 1 {
		t.Errorf("%v after %d transactions", err, f.begun.Load())
	}
	f = &fakeDB{}
	err = sqlretry.Tx(t.Context(), f.open(t), policy(), nil, func(_ context.Context, tx *sql.Tx) error { return tx.Rollback() })
	if !errors.Is(err, sql.ErrTxDone) || f.begun.Load() != 1 {
		t.Errorf("%v after %d transactions", err, f.begun.Load())
	}
}

// The end of ctx before COMMIT rolls back; the end during COMMIT changes nothing.
func TestContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeDB{}
		ctx, cancel := context.WithCancel(t.Context())
		err := sqlretry.Tx(ctx, f.open(t), policy(), nil, func(context.Context, *sql.Tx) error { cancel(); return nil })
		if !errors.Is(err, context.Canceled) || f.committed.Load() != 0 {
			t.Errorf("%v after %d commits, want none", err, f.committed.Load())
		}
		synctest.Wait()
		if f.rolled.Load() != 1 {
			t.Errorf("%d rollbacks, want 1", f.rolled.Load())
		}

		ctx, cancel = context.WithCancel(t.Context())
		f = &fakeDB{commit: func(int64) error { cancel(); synctest.Wait(); return nil }}
		if err := sqlretry.Tx(ctx, f.open(t), policy(), nil, update); err != nil || f.committed.Load() != 1 {
			t.Errorf("%v after %d commits, want one", err, f.committed.Load())
		}
	})
}

// A slow context has ended before anyone but the function hears of it, as a context of any kind may for a moment.
type slow struct {
	context.Context

	done chan struct{}
}

func (c slow) Done() <-chan struct{} { return c.done }

func (c slow) Err() error {
	select {
	case <-c.done:
		return context.Canceled
	default:
		return nil
	}
}

// The function may be the first to hear that ctx has ended: nothing is committed after that.
func TestContextEndsForTheFunctionFirst(t *testing.T) {
	for range 100 {
		f, ctx := &fakeDB{}, slow{t.Context(), make(chan struct{})}
		err := sqlretry.Tx(ctx, f.open(t), policy(), nil, func(context.Context, *sql.Tx) error { close(ctx.done); return nil })
		if !errors.Is(err, context.Canceled) || f.committed.Load() != 0 || f.rolled.Load() != 1 {
			t.Fatalf("%v after %d commits and %d rollbacks, want none and 1", err, f.committed.Load(), f.rolled.Load())
		}
	}
}

func TestAttemptTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, p := &fakeDB{}, policy()
		p.AttemptTimeout = time.Second
		err := sqlretry.Tx(t.Context(), f.open(t), p, nil, func(ctx context.Context, _ *sql.Tx) error {
			if retry.Attempt(ctx) == 1 {
				<-ctx.Done()
			}
			return nil
		})
		if err != nil || f.begun.Load() != 2 || f.committed.Load() != 1 {
			t.Errorf("%v after %d transactions and %d commits, want 2 and 1", err, f.begun.Load(), f.committed.Load())
		}
	})
}

func TestVerify(t *testing.T) {
	type verdict struct {
		committed bool
		err       error
	}
	refused := &pgconn.PgError{Code: "23514"}
	down := verdict{err: &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}}
	for name, row := range map[string]struct {
		verdicts  []verdict
		repeat    error // of the second transaction
		begun     int64
		ambiguous bool
		err       error
	}{
		"committed":                   {[]verdict{{true, nil}}, nil, 1, false, nil},
		"not committed":               {[]verdict{{false, nil}}, nil, 2, false, nil},
		"the server is down at first": {[]verdict{down, {true, nil}}, nil, 1, false, nil},
		"the server stays down":       {[]verdict{down, down, down}, nil, 1, true, io.ErrUnexpectedEOF},
		"verify is wrong":             {[]verdict{{false, &pgconn.PgError{Code: "42601"}}}, nil, 1, true, io.ErrUnexpectedEOF},
		"the commit comes late":       {[]verdict{{false, nil}, {true, nil}}, &pgconn.PgError{Code: "23505"}, 2, false, nil},
		"the repeat fails":            {[]verdict{{false, nil}, {false, nil}}, refused, 2, false, refused},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakeDB{commit: once(io.ErrUnexpectedEOF)}
				f.lost.Store(true)
				f.exec = func(attempt int64) error {
					if attempt == 2 {
						return row.repeat
					}
					return nil
				}
				asked := 0
				o := &sqlretry.Options{Verify: func(context.Context) (bool, error) {
					asked++
					return row.verdicts[asked-1].committed, row.verdicts[asked-1].err
				}}
				p := policy()
				p.Breaker = circuit.New("db", circuit.Config{Concurrency: 1})
				err := sqlretry.Tx(t.Context(), f.open(t), p, o, update)
				_, ambiguous := errors.AsType[*sqlretry.AmbiguousError](err)
				if !errors.Is(err, row.err) || (err == nil) != (row.err == nil) || ambiguous != row.ambiguous ||
					f.begun.Load() != row.begun || asked != len(row.verdicts) {
					t.Errorf("%v after %d transactions and %d questions, want %v after %d and %d", err, f.begun.Load(), asked,
						row.err, row.begun, len(row.verdicts))
				}
			})
		})
	}
}

// A retry around Tx does not repeat a transaction that may be committed.
func TestAmbiguousEndsOuterRetry(t *testing.T) {
	f := &fakeDB{commit: once(driver.ErrBadConn)}
	db, outer := f.open(t), policy()
	outer.Classify, outer.RetryNested = retry.Always, true
	err := retry.Do(t.Context(), outer, func(ctx context.Context) error {
		return sqlretry.Tx(ctx, db, policy(), nil, update)
	})
	if _, ok := errors.AsType[*sqlretry.AmbiguousError](err); !ok || f.begun.Load() != 1 {
		t.Errorf("%v after %d transactions", err, f.begun.Load())
	}
}
