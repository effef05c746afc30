package main

import (
	"bytes"
	"context"
	"maps"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/pipes"
)

// publish stores rows as a table in Parquet, and reports the step's asset as
// materialized, with metadata of the table and about.
func publish[T any](ctx context.Context, l *link, j *job, rows []T, about pipes.Metadata) error {
	var table bytes.Buffer
	if err := parquet.Write(&table, rows, parquet.Compression(&parquet.Zstd)); err != nil {
		return err
	}
	store, err := l.store(ctx, "upload_to_s3")
	if err != nil {
		return err
	}
	begin := time.Now()
	object, err := store.Put(ctx, j.bucket, j.key, bytes.NewReader(table.Bytes()), objects.PutOptions{
		Attributes: objects.Attributes{ContentType: "application/vnd.apache.parquet"},
	})
	if err != nil {
		return err
	}
	outcome := l.session.Outcome(nil)
	m := pipes.Metadata{
		"dagster/row_count":     pipes.Int(int64(len(rows))),
		"dagster/column_schema": pipes.TableSchema(columns[T]()...),
		"destination":           pipes.Text("s3://" + j.bucket + "/" + j.key),
		"bytes":                 pipes.Int(object.Size),
		"checksum":              pipes.Text(object.Checksum),
		"attempts":              pipes.Int(int64(outcome.Attempts)), // of the request with the most
		"retries":               pipes.Int(l.retries.Load()),
		"waited":                pipes.Float(outcome.Waited), // seconds between attempts
		"upload":                pipes.Seconds(time.Since(begin)),
	}
	maps.Copy(m, about)
	// The same rows give the same bytes, so that Dagster sees an unchanged version.
	return l.session.Materialize(pipes.Materialization{DataVersion: object.Checksum, Metadata: m})
}

// columns returns the columns of a table of T, for Dagster's catalog.
func columns[T any]() (all []pipes.Column) {
	for _, f := range parquet.SchemaOf(new(T)).Fields() {
		all = append(all, pipes.Column{Name: f.Name(), Type: f.Type().String(), NotNull: f.Required()})
	}
	return all
}
