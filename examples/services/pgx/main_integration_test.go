//go:build integration && unix

package main

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/seed-0f2c7998/perdure/examples/internal/pgtest"
	"github.com/seed-0f2c7998/perdure/examples/services/internal/scrape"
)

// Each transfer is done once, though transactions conflict, and the server ends three connections within a transaction.
func TestPGX(t *testing.T) {
	const workers, transfers = 8, 20
	database := pgtest.Start(t)
	db, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close(context.Background()) }()
	if _, err := db.Exec(t.Context(), `CREATE TABLE account (id int PRIMARY KEY, balance int);
		INSERT INTO account SELECT id, 1000 FROM generate_series(0, 3) id;
		CREATE TABLE ledger (id serial, source int, target int, amount int);
		CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF NEW.id IN (60, 90, 120) THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;
			RETURN NEW;
		END $$;
		CREATE TRIGGER cut BEFORE INSERT ON ledger FOR EACH ROW EXECUTE FUNCTION cut()`); err != nil {
		t.Fatal(err)
	}
	listener := scrape.Listen(t)
	if err := run(t.Context(), listener, database, workers, transfers); err != nil {
		t.Fatal(err)
	}

	var sum, rows int
	err = db.QueryRow(t.Context(), "SELECT (SELECT sum(balance) FROM account), (SELECT count(*) FROM ledger)").Scan(&sum, &rows)
	if err != nil || sum != 4000 || rows != workers*transfers {
		t.Errorf("the accounts hold %d after %d transfers, want 4000 after %d: %v", sum, rows, workers*transfers, err)
	}
	operation := `operation="transfer"`
	if n := scrape.Metric(t, listener, "perdure_calls_total", operation, `outcome="success"`); n != workers*transfers {
		t.Errorf("%v calls succeeded, want %d", n, workers*transfers)
	}
	if n := scrape.Metric(t, listener, "perdure_attempts_total", operation, `class="transient"`); n != 3 {
		t.Errorf("%v attempts lost their connection, want 3", n)
	}
	if n := scrape.Metric(t, listener, "perdure_breaker_state", `key="bank"`); n != 1 {
		t.Errorf("the breaker has %v states", n)
	}
}
