// Package sqlretry has the path and the function that the passes know, without what the tests of sqlretry need.
package sqlretry

import (
	"context"
	"database/sql"
)

func Tx(ctx context.Context, db *sql.DB, p any, o any, f func(context.Context, *sql.Tx) error) error {
	return nil
}
