package sources

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/tree"
	"github.com/seed-0f2c7998/perdure/internal/private"
	"github.com/seed-0f2c7998/perdure/internal/record"
)

// Limits of the records of one destination.
const (
	maxRecords = 64 << 20            // bytes; above, all files count as not copied yet
	unused     = 60 * 24 * time.Hour // after which they are removed
)

// A row records one copied file. It has no address, which may hold secrets.
type row struct {
	Name     string `json:"name"`
	Source   string `json:"source"` // SHA-256 of what identifies the source
	ETag     string `json:"etag,omitempty"`
	Modified string `json:"modified,omitempty"` // Last-Modified
	Want     string `json:"want,omitempty"`     // checksum that was required
	Bytes    int64  `json:"bytes"`
	Checksum string `json:"checksum,omitempty"` // of the stored file
	Stored   string `json:"stored,omitempty"`   // ETag of the stored object
}

// Records are those of one destination: a line for each file that was copied, the last one of a name counts. A process appends
// lines, so that a kill loses no other; of two that append at the same instant, a line may be lost, and its file is copied again. The zero Records have none.
type records struct {
	path  string
	known map[string]row

	mu   sync.Mutex
	file *os.File // opened by the first line; guarded by mu
}

// openRecords reads the records of the destination place. It removes those of others that no run has used for 60 days.
func openRecords(place string) *records {
	dir, err := private.StatePath("urls")
	if err != nil {
		return &records{}
	}
	private.Prune(dir, time.Now().Add(-unused), ".jsonl")
	r := &records{path: filepath.Join(dir, private.Name(place)+".jsonl"), known: make(map[string]row)}
	if f, err := private.OpenPath(r.path, 0); err == nil {
		r.read(record.NewLog(f, maxRecords))
		_ = f.Close()
	}
	return r
}

// read reads the lines that are complete.
func (r *records) read(l *record.Log) {
	text, _ := l.Load() // after an error, what was read
	if len(text) > maxRecords {
		_ = l.Clear() // the files are copied again
		return
	}
	for line := range bytes.Lines(text) {
		var next row
		if record.Decode(line, &next) {
			r.known[next.Name] = next
		}
	}
}

// add appends a line.
func (r *records) add(next row) error {
	line, err := record.Encode(next)
	if err != nil || r.path == "" {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file == nil {
		if err := os.MkdirAll(filepath.Dir(r.path), 0o700); err != nil {
			return err
		}
		if r.file, err = private.OpenPath(r.path, os.O_CREATE); err != nil {
			return err
		}
	}
	if _, err := r.file.Seek(0, io.SeekEnd); err != nil {
		return err
	}
	_, err = r.file.Write(line)
	return err
}

func (r *records) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}

// Known returns what is recorded of an item.
func (m *Many) Known(rel string) (k tree.Known, ok bool) {
	p, found := m.find(rel)
	if !found || m.records == nil {
		return k, false
	}
	r, found := m.records.known[rel]
	if !found || r.Source != identity(p.from) {
		return k, false
	}
	k.Stored, k.Want = endpoint.Stored{Bytes: r.Bytes, Checksum: r.Checksum, ETag: r.Stored}, r.Want
	v, asks := p.from.(endpoint.Versioned)
	if asks && r.ETag+r.Modified != "" {
		k.Current = func(ctx context.Context) (bool, error) { return v.Unchanged(ctx, r.ETag, r.Modified) }
	}
	return k, true
}

// Record records that an item was copied.
func (m *Many) Record(rel string, got endpoint.Stored) error {
	p, found := m.find(rel)
	if !found || m.records == nil {
		return nil
	}
	r := row{Name: rel, Source: identity(p.from), Want: p.want.String(), Bytes: got.Bytes, Checksum: got.Checksum, Stored: got.ETag}
	if v, ok := p.from.(endpoint.Versioned); ok {
		r.ETag, r.Modified = v.Version()
	}
	return m.records.add(r)
}

// identity returns a hash of what identifies a source, without the parameters of a signed URL that change.
func identity(from endpoint.Endpoint) string {
	_, text := from.Getter()
	if text == "" {
		text = from.String()
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
