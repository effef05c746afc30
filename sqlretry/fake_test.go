package sqlretry_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"sync/atomic"
	"testing"
)

// A fakeDB is a driver whose connections fail as a test says. Real servers are in the tests with the tag integration.
type fakeDB struct {
	begin, exec, commit func(attempt int64) error
	begun               atomic.Int64
	committed, rolled   atomic.Int64
	lost                atomic.Bool // connections respond no longer
}

func (f *fakeDB) open(t *testing.T) *sql.DB {
	t.Helper()
	db := sql.OpenDB(f)
	t.Cleanup(func() {
		if n := db.Stats().InUse; n != 0 {
			t.Errorf("%d connections leaked", n)
		}
		_ = db.Close()
	})
	return db
}

func (f *fakeDB) Connect(context.Context) (driver.Conn, error) { return &fakeConn{f: f}, nil }
func (f *fakeDB) Driver() driver.Driver                        { return nil }

func at(step func(int64) error, attempt int64) error {
	if step == nil {
		return nil
	}
	return step(attempt)
}

type fakeConn struct {
	f    *fakeDB
	lost bool
}

func (c *fakeConn) result(err error) error {
	c.lost = c.lost || err != nil && c.f.lost.Load()
	return err
}

func (c *fakeConn) Prepare(string) (driver.Stmt, error) { return nil, driver.ErrSkip }
func (c *fakeConn) Close() error                        { return nil }
func (c *fakeConn) Begin() (driver.Tx, error)           { return nil, driver.ErrSkip }

func (c *fakeConn) BeginTx(context.Context, driver.TxOptions) (driver.Tx, error) {
	if err := c.result(at(c.f.begin, c.f.begun.Add(1))); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *fakeConn) ExecContext(context.Context, string, []driver.NamedValue) (driver.Result, error) {
	return driver.RowsAffected(1), c.result(at(c.f.exec, c.f.begun.Load()))
}

func (c *fakeConn) Ping(context.Context) error {
	if c.lost {
		return driver.ErrBadConn
	}
	return nil
}

func (c *fakeConn) Commit() error {
	err := c.result(at(c.f.commit, c.f.begun.Load()))
	if err == nil {
		c.f.committed.Add(1)
	}
	return err
}

func (c *fakeConn) Rollback() error {
	c.f.rolled.Add(1)
	if c.lost {
		return driver.ErrBadConn
	}
	return nil
}
