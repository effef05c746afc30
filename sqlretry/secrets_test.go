package sqlretry_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/secrettest"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/sqlretry"
)

// What a driver's error tells of a DSN or a statement is in no log and no event, nor in the errors of this module: from
// each step of a transaction, and from Verify.
func TestSecretsStaySecret(t *testing.T) { synctest.Test(t, secretsStaySecret) }

func secretsStaySecret(t *testing.T) {
	t.Helper()
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	for _, text := range secrettest.Texts() {
		failed := func(int64) error { return retry.Transient(errors.New(text)) }
		for name, db := range map[string]*fakeDB{"begin": {begin: failed}, "exec": {exec: failed}, "commit": {commit: failed}} {
			p := retry.Policy{Name: name + " " + text, MaxAttempts: 2, BaseDelay: time.Nanosecond, Observe: retry.Observers(
				retry.LogTo(log), retry.LogRecords(log), func(_ context.Context, e retry.Event) { fmt.Fprintf(&out, "%+v %#v %s\n", e, e.Err, e.Message()) },
			)}
			for _, o := range []*sqlretry.Options{nil, {Verify: func(context.Context) (bool, error) { return false, retry.Permanent(errors.New(text)) }}} {
				db.lost.Store(name == "commit")
				err := sqlretry.Tx(t.Context(), db.open(t), &p, o, func(ctx context.Context, tx *sql.Tx) error {
					_, err := tx.ExecContext(ctx, "INSERT")
					return err
				})
				if err == nil {
					t.Errorf("%s: no error", name)
				}
				fmt.Fprintf(&out, "%v %+v %q\n", err, err, err)
			}
		}
	}
	for _, found := range secrettest.Find(out.String()) {
		t.Errorf("it shows %s", found)
	}
}
