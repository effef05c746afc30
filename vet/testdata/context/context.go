package context

import (
	"context"
	"database/sql"
	"net/http"
	"os/exec"

	"github.com/seed-0f2c7998/perdure/retry"
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
