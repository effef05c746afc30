//go:build integration && unix

package sqlretry_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/servertest"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/sqlretry"
	"github.com/seed-0f2c7998/perdure/sqlretry/pgxretry"
)

// A client runs transactions through one of the two functions Tx.
type client struct {
	check  *sql.DB // directly, for the test's own queries
	direct transact
	cut    transact // through proxy
	proxy  *proxy
	server *server
}

type options struct{ readOnly, verify, noXID bool }

// A transact runs a transfer of 1, with an id of its own, in a serializable transaction.
type transact func(ctx context.Context, p *retry.Policy, o options, id string, account int) error

// A statement is what sql.Tx and pgx.Tx have in common, in the way of the server.
type statement func(query string, args ...any) (value int, err error)

// transfer changes a balance and writes the ledger, which has no unique key: a second commit shows.
func transfer(do statement, id string, account int, readOnly bool) error {
	balance, err := do("SELECT balance FROM account WHERE id = $1", account)
	if err != nil || readOnly {
		return err
	}
	if _, err := do("INSERT INTO ledger VALUES ($1, $2)", id, account); err != nil {
		return err
	}
	_, err = do("UPDATE account SET balance = $1 WHERE id = $2", balance+1, account)
	return err
}

func overSQL(db *sql.DB, rebind func(string) string) transact {
	return func(ctx context.Context, p *retry.Policy, o options, id string, account int) error {
		how := &sqlretry.Options{Isolation: sql.LevelSerializable, ReadOnly: o.readOnly}
		if o.verify {
			how.Verify = func(ctx context.Context) (committed bool, err error) {
				var n int
				err = db.QueryRowContext(ctx, rebind("SELECT count(*) FROM ledger WHERE id = $1"), id).Scan(&n)
				return n > 0, err
			}
		}
		return sqlretry.Tx(ctx, db, p, how, func(ctx context.Context, tx *sql.Tx) error {
			return transfer(func(query string, args ...any) (value int, err error) {
				if strings.HasPrefix(query, "SELECT") {
					return value, tx.QueryRowContext(ctx, rebind(query), args...).Scan(&value)
				}
				_, err = tx.ExecContext(ctx, rebind(query), args...)
				return 0, err
			}, id, account, o.readOnly)
		})
	}
}

func overPgx(pool *pgxpool.Pool) transact {
	return func(ctx context.Context, p *retry.Policy, o options, id string, account int) error {
		how := &pgxretry.Options{TxOptions: pgx.TxOptions{IsoLevel: pgx.Serializable}, NoXID: o.noXID}
		if o.readOnly {
			how.AccessMode = pgx.ReadOnly
		}
		return pgxretry.Tx(ctx, pool, p, how, func(ctx context.Context, tx pgx.Tx) error {
			return transfer(func(query string, args ...any) (value int, err error) {
				if strings.HasPrefix(query, "SELECT") {
					return value, tx.QueryRow(ctx, query, args...).Scan(&value)
				}
				_, err = tx.Exec(ctx, query, args...)
				return 0, err
			}, id, account, o.readOnly)
		})
	}
}

func same(query string) string { return query }

// marks writes placeholders as MySQL has them. Those of this test come in the order of their numbers.
func marks(query string) string { return strings.NewReplacer("$1", "?", "$2", "?").Replace(query) }

func newPool(tb testing.TB, dsn string) *pgxpool.Pool {
	tb.Helper()
	pool, err := pgxpool.New(tb.Context(), dsn+" pool_max_conns=24")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(pool.Close)
	return pool
}

func TestPostgres(t *testing.T) {
	s := startPostgres(t)
	p := startProxy(t, s.socket)
	direct := "host=" + s.dir + " user=test dbname=postgres"
	far := strings.NewReplacer("127.0.0.1:", "host=127.0.0.1 port=").Replace(p.Addr().String()) + " user=test dbname=postgres sslmode=disable"
	check := open(t, "pgx", direct)
	t.Run("sql", func(t *testing.T) {
		play(t, &client{check, overSQL(open(t, "pgx", direct), same), overSQL(open(t, "pgx", far), same), p, s}, same, false)
	})
	t.Run("pgx", func(t *testing.T) {
		t.Run("leaves", func(t *testing.T) { leaves(t, newPool(t, direct)) })
		t.Run("misuses", func(t *testing.T) { misuses(t, newPool(t, direct)) })
		c := &client{check, overPgx(newPool(t, direct)), overPgx(newPool(t, far)), p, s}
		play(t, c, same, true)
		t.Run("an id is not believed after a crash", func(t *testing.T) { crashes(t, c) })
	})
}

func TestMariaDB(t *testing.T) {
	_ = mysql.SetLogger(&mysql.NopLogger{})
	s := startMariaDB(t)
	p := startProxy(t, s.socket)
	direct := open(t, "mysql", "root@unix("+s.socket+")/test")
	far := open(t, "mysql", "root@tcp("+p.Addr().String()+")/test")
	play(t, &client{direct, overSQL(direct, marks), overSQL(far, marks), p, s}, marks, false)
}

const accounts = 4

func play(t *testing.T, c *client, rebind func(string) string, byXID bool) {
	t.Helper()
	for _, query := range []string{
		"DROP TABLE IF EXISTS account", "DROP TABLE IF EXISTS ledger",
		"CREATE TABLE account (id int PRIMARY KEY, balance int)", "CREATE TABLE ledger (id varchar(100), account int)",
		"CREATE INDEX ledger_id ON ledger (id)", "INSERT INTO account VALUES (0, 0), (1, 0), (2, 0), (3, 0)",
	} {
		if _, err := c.check.ExecContext(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	count := func(t *testing.T, id string) (n int) {
		t.Helper()
		c.query(t, rebind("SELECT count(*) FROM ledger WHERE id = $1"), []any{id}, &n)
		return n
	}
	t.Run("conflicts", func(t *testing.T) { conflicts(t, c); c.audit(t) })
	t.Run("lost commits", func(t *testing.T) { lostCommits(t, c, count, byXID); c.audit(t) })
	t.Run("restarts", func(t *testing.T) { restarts(t, c, count, byXID); c.audit(t) })
}

// query reads one row, again if connections have ended with an earlier server.
func (c *client) query(t *testing.T, query string, args []any, dest ...any) {
	t.Helper()
	p := patient()
	p.Classify = retry.Always
	err := retry.Do(t.Context(), p, func(ctx context.Context) error { return c.check.QueryRowContext(ctx, query, args...).Scan(dest...) })
	if err != nil {
		t.Fatal(err)
	}
}

// audit compares the balances with the ledger.
func (c *client) audit(t *testing.T) {
	t.Helper()
	var balance, entries, ids int
	c.query(t, "SELECT (SELECT sum(balance) FROM account), count(*), count(DISTINCT id) FROM ledger", nil, &balance, &entries, &ids)
	if balance != entries || entries != ids {
		t.Errorf("the balances are %d, for %d entries of %d transfers", balance, entries, ids)
	}
}

func patient() *retry.Policy {
	return &retry.Policy{
		MaxAttempts: retry.Unlimited, BaseDelay: 2 * time.Millisecond, MaxDelay: 50 * time.Millisecond,
		JitterMode: retry.FullJitter, MaxElapsed: time.Minute, Observe: func(context.Context, retry.Event) {},
	}
}

// 160 of 160 serializable transactions of 16 workers end well, and no conflict is a failure to the breaker.
func conflicts(t *testing.T, c *client) {
	t.Helper()
	const workers, transfers = 16, 10
	p, seed := patient(), testseed.Of(t, 1)
	p.Breaker = circuit.New("db", circuit.Config{Budget: 10})
	var conflicts atomic.Int64
	p.Observe = func(_ context.Context, e retry.Event) {
		if e.Class == retry.ClassConflict {
			conflicts.Add(1)
		} else if e.Kind != retry.Succeeded {
			t.Errorf("%v of class %v: %v", e.Kind, e.Class, e.Err)
		}
	}
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(w)))
			for i := range transfers {
				if err := c.direct(t.Context(), p, options{}, fmt.Sprintf("conflict-%d-%d", w, i), random.IntN(accounts)); err != nil {
					t.Errorf("transfer %d of worker %d: %v", i, w, err)
				}
			}
		})
	}
	all.Wait()
	var balance int
	if c.query(t, "SELECT sum(balance) FROM account", nil, &balance); balance != workers*transfers {
		t.Errorf("the balances are %d, want %d", balance, workers*transfers)
	}
	if n := p.Breaker.Metrics(); n.Trips > 0 || n.Failures > 0 || conflicts.Load() == 0 {
		t.Errorf("%d trips, %d failures, %d conflicts, want none, none and some", n.Trips, n.Failures, conflicts.Load())
	}
	t.Logf("%d conflicts", conflicts.Load())
}

// A connection that ends at COMMIT leaves the transaction unknown, or resolved, and never committed twice.
func lostCommits(t *testing.T, c *client, count func(*testing.T, string) int, byXID bool) {
	t.Helper()
	for _, forward := range []bool{false, true} {
		for _, o := range []options{{verify: true}, {noXID: true}, {readOnly: true}} {
			name := fmt.Sprintf("forward %v %+v", forward, o)
			if byXID {
				o.verify = false
			}
			c.proxy.armed.Store(&cut{forward, func() {}})
			var attempts atomic.Int64
			p := patient()
			p.Observe = func(context.Context, retry.Event) { attempts.Add(1) }
			err := c.cut(t.Context(), p, o, name, 0)
			if c.proxy.armed.Swap(nil) != nil {
				t.Fatalf("%s: COMMIT was not seen: %v", name, err)
			}
			_, ambiguous := errors.AsType[*sqlretry.AmbiguousError](err)
			entries := 1
			if o.readOnly || o.noXID && !forward {
				entries = 0
			}
			if ambiguous != o.noXID || (err != nil) != o.noXID || count(t, name) != entries {
				t.Errorf("%s: %d entries, want %d: %v", name, count(t, name), entries, err)
			}
			if repeated := attempts.Load() > 0; !o.noXID && repeated != (o.readOnly || !forward) {
				t.Errorf("%s: repeated: %v", name, repeated)
			}
		}
	}
}

// The server is killed and started again while workers run transactions. No update is lost, and none made twice.
func restarts(t *testing.T, c *client, count func(*testing.T, string) int, byXID bool) {
	t.Helper()
	const workers, kills, between = 8, 2, 100
	var done atomic.Int64
	var over atomic.Bool
	var all sync.WaitGroup
	results := make([]map[string]error, workers)
	for w := range workers {
		results[w] = map[string]error{}
		all.Go(func() {
			p := patient()
			for i := 0; !over.Load(); i++ {
				id := fmt.Sprintf("restart-%d-%d", w, i)
				results[w][id] = c.direct(t.Context(), p, options{verify: !byXID}, id, (w+i)%accounts)
				done.Add(1)
			}
		})
	}
	more := func() {
		from := done.Load()
		servertest.Until(t, "the workers proceed", func() bool { return done.Load() >= from+between })
	}
	for range kills {
		more()
		c.server.restart(t)
	}
	more()
	over.Store(true)
	all.Wait()
	unknown := 0
	for _, ids := range results {
		for id, err := range ids {
			_, ambiguous := errors.AsType[*sqlretry.AmbiguousError](err)
			switch {
			case err == nil && count(t, id) != 1:
				t.Errorf("%s succeeded, and is committed %d times", id, count(t, id))
			case ambiguous && byXID: // committed before the server was killed, as far as can be known
				unknown++
			case err != nil:
				t.Errorf("%s: %v", id, err)
			}
		}
	}
	t.Logf("%d transfers, %d unknown", done.Load(), unknown)
}

// After a crash of the server, or of one of its processes, the status of an id proves no commit.
func crashes(t *testing.T, c *client) {
	t.Helper()
	for name, row := range map[string]struct {
		forward, ambiguous bool
		crash              func()
	}{
		"restart, forwarded": {true, true, func() { c.server.restart(t) }},
		"restart, kept back": {false, false, func() { c.server.restart(t) }},
		"crash, forwarded":   {true, true, func() { crashProcess(t, c.check) }},
		"crash, kept back":   {false, false, func() { crashProcess(t, c.check) }},
	} {
		c.proxy.armed.Store(&cut{row.forward, row.crash})
		err := c.cut(t.Context(), patient(), options{}, name, 0)
		if c.proxy.armed.Swap(nil) != nil {
			t.Fatalf("%s: COMMIT was not seen: %v", name, err)
		}
		if _, ambiguous := errors.AsType[*sqlretry.AmbiguousError](err); ambiguous != row.ambiguous || !ambiguous && err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	c.audit(t)
}

// crashProcess kills a process of the server, which then restarts all its processes but the first. Another connection works
// until the server has noticed; the checkpointer is another one only after that.
func crashProcess(t *testing.T, db *sql.DB) {
	t.Helper()
	const query = "SELECT pg_backend_pid(), pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'"
	var pid, before, now int
	ask := func(checkpointer *int) bool {
		return db.QueryRowContext(t.Context(), query).Scan(&pid, checkpointer) == nil
	}
	servertest.Until(t, "the server responds", func() bool { return ask(&before) })
	_ = syscall.Kill(pid, syscall.SIGKILL)
	servertest.Until(t, "the server has recovered", func() bool { return ask(&now) && now != before })
}

// However a function ends, its connection returns to the pool, and its transaction is rolled back.
func leaves(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), "CREATE TABLE left_behind (n int)"); err != nil {
		t.Fatal(err)
	}
	own := errors.New("the function's own")
	var cancel context.CancelFunc
	for name, row := range map[string]struct {
		leave func(context.Context, pgx.Tx) error
		want  error
	}{
		"error":  {func(context.Context, pgx.Tx) error { return own }, own},
		"cancel": {func(context.Context, pgx.Tx) error { cancel(); return nil }, context.Canceled},
		"query":  {func(ctx context.Context, tx pgx.Tx) error { cancel(); _, err := tx.Exec(ctx, "SELECT 1"); return err }, context.Canceled},
		"panic":  {func(context.Context, pgx.Tx) error { panic(own) }, nil},
		"Goexit": {func(context.Context, pgx.Tx) error { runtime.Goexit(); return nil }, nil},
		"hidden": {func(ctx context.Context, tx pgx.Tx) error { _, _ = tx.Exec(ctx, "SELECT nothing"); return nil }, nil},
	} {
		ended := make(chan error)
		var ctx context.Context
		ctx, cancel = context.WithCancel(t.Context())
		go func() {
			var err error
			defer func() { _ = recover(); ended <- err }()
			err = pgxretry.Tx(ctx, pool, patient(), nil, func(ctx context.Context, tx pgx.Tx) error {
				if _, err := tx.Exec(ctx, "INSERT INTO left_behind VALUES (1)"); err != nil {
					return err
				}
				return row.leave(ctx, tx)
			})
			if err == nil {
				err = errors.New("committed")
			}
		}()
		err := <-ended
		if row.want != nil && !errors.Is(err, row.want) || name == "hidden" && err.Error() == "committed" {
			t.Errorf("%s: %v, want %v", name, err, row.want)
		}
		servertest.Until(t, "no connection is in use", func() bool { return pool.Stat().AcquiredConns() == 0 })
		cancel()
	}
	var n int
	if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM left_behind").Scan(&n); err != nil || n != 0 {
		t.Errorf("%d rows are left: %v", n, err)
	}
}
