package dagster

import (
	"strings"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/copying"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/tree"
	"github.com/seed-0f2c7998/perdure/pipes"
)

// CopyMetadata returns the metadata of a copy of one file.
func CopyMetadata(r copying.Result) pipes.Metadata {
	m := pipes.Metadata{
		"source": place(r.Source), "destination": place(r.Destination),
		"bytes": pipes.Int(r.Bytes), "verified": pipes.Text(r.Verified),
		"attempts": pipes.Int(int64(r.Attempts)), "retries": pipes.Int(int64(r.Retries)), "duration": pipes.Seconds(r.Elapsed),
	}
	if r.Checksum != "" {
		m["checksum"] = pipes.Text(r.Checksum)
	}
	if r.Resumed > 0 {
		m["resumed"] = pipes.Int(r.Resumed)
	}
	return m
}

// TreeMetadata returns the metadata of a copy of many files.
func TreeMetadata(from, to string, s tree.Summary) pipes.Metadata {
	return pipes.Metadata{
		"source": place(from), "destination": place(to), "bytes": pipes.Int(s.Bytes),
		"files_copied": pipes.Int(int64(s.Copied)), "files_skipped": pipes.Int(int64(s.Skipped)), "files_failed": pipes.Int(int64(s.Failed)),
		"attempts": pipes.Int(int64(s.Requests)), "retries": pipes.Int(int64(s.Retries)), "duration": pipes.Seconds(s.Elapsed),
	}
}

// place returns an argument of the command line as a link if a browser can follow
// it, else as text.
func place(text string) pipes.Value {
	if strings.HasPrefix(text, "http://") || strings.HasPrefix(text, "https://") {
		return pipes.URL(text)
	}
	return pipes.Text(text)
}
