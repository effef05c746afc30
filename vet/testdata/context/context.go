package context

import (
	"context"
	"database/sql"
	"log/slog"
	"net/http"
	"os/exec"
	"time"

	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/sqlretry"
)

func work(context.Context, int) error { return nil }

func outer(ctx context.Context, p *retry.Policy) error {
	return retry.Do(ctx, p, func(context.Context) error {
		return work(ctx, 1) // want `the attempt's own context is not passed on`
	})
}

func other(root context.Context, p *retry.Policy) error {
	return retry.Do(root, p, func(ctx context.Context) error {
		timed, cancel := context.WithCancel(root) // want `the attempt's own context is not passed on`
		defer cancel()
		return work(timed, 1)
	})
}

func passed(ctx context.Context, p *retry.Policy) error {
	return retry.Do(ctx, p, func(ctx context.Context) error {
		timed, cancel := context.WithCancel(ctx)
		defer cancel()
		if err := work(timed, 1); err != nil {
			return err
		}
		return work(ctx, 2)
	})
}

func without(ctx context.Context, p *retry.Policy, db *sql.DB, client *http.Client) error {
	return retry.Do(ctx, p, func(ctx context.Context) error {
		if _, err := http.Get("https://api.example/"); err != nil { // want `http.Get takes no context`
			return err
		}
		if _, err := client.Get("https://api.example/"); err != nil { // want `Client.Get takes no context`
			return err
		}
		if _, err := db.Exec("select 1"); err != nil { // want `DB.Exec takes no context`
			return err
		}
		if _, err := db.ExecContext(ctx, "select 1"); err != nil {
			return err
		}
		return exec.Command("true").Run() // want `exec.Command takes no context`
	})
}

var global = context.TODO()

func declared(ctx context.Context, p *retry.Policy) error { return retry.Do(ctx, p, attempt) }

func attempt(ctx context.Context) error {
	if err := work(ctx, 1); err != nil {
		return err
	}
	return work(global, 2) // want `the attempt's own context is not passed on`
}

func fresh(r *http.Request, p *retry.Policy) error {
	return retry.Do(r.Context(), p, func(ctx context.Context) error {
		if err := work(context.Background(), 1); err != nil { // want `the attempt's own context is not passed on`
			return err
		}
		timed, cancel := context.WithTimeout(context.TODO(), time.Second) // want `the attempt's own context is not passed on`
		defer cancel()
		if err := work(timed, 2); err != nil {
			return err
		}
		return work(r.Context(), 3) // want `the attempt's own context is not passed on`
	})
}

type loggerKey struct{}

func loggerOf(ctx context.Context) *slog.Logger { return ctx.Value(loggerKey{}).(*slog.Logger) }

// Values, what outlives the attempt, and what cleans up after it.
func allowed(outer context.Context, p *retry.Policy, db *sql.DB) error {
	return retry.Do(outer, p, func(ctx context.Context) error {
		loggerOf(outer).InfoContext(outer, "attempt")
		defer func() { _ = work(context.Background(), 1) }()
		go func() { _ = work(outer, 2) }()
		if err := work(context.WithoutCancel(outer), 3); err != nil {
			return err
		}
		req, err := http.NewRequestWithContext(ctx, "GET", "https://api.example/", nil)
		if err != nil {
			return err
		}
		return work(req.Context(), 4)
	})
}

func replaced(ctx context.Context, p *retry.Policy) error {
	return retry.Do(ctx, p, func(own context.Context) error {
		ctx = own
		return work(ctx, 1)
	})
}

func transaction(ctx context.Context, db *sql.DB, p *retry.Policy) error {
	return sqlretry.Tx(ctx, db, p, nil, func(own context.Context, tx *sql.Tx) error {
		if _, err := tx.ExecContext(own, "delete from t"); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "delete from u") // want `the attempt's own context is not passed on`
		return err
	})
}
