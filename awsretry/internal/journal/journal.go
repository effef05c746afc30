// Package journal remembers, in a file, the parts of a transfer that are done,
// so that another process can go on with it.
//
// The file has a line of JSON for the transfer and one for each part. A line is
// written at once and whole, or it is the last one and a process was killed while
// it wrote it: that line counts for nothing.
package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
)

// format is what the first line calls itself.
const format = "perdure-transfer-1"

// A Head says which transfer it is.
type Head struct {
	Format   string `json:"format"`
	Endpoint string `json:"endpoint,omitempty"`
	Bucket   string `json:"bucket"`
	Key      string `json:"key"`
	Upload   string `json:"upload,omitempty"`   // its ID in the store
	WriteID  string `json:"write_id,omitempty"` // of a conditional put
	ETag     string `json:"etag,omitempty"`     // of what is fetched
	PartSize int64  `json:"part_size"`
	Size     int64  `json:"size,omitempty"` // of all; 0 or less: not known

	CustomerKey bool `json:"customer_key,omitempty"` // the object is to have one
}

// A Part is a piece that is done.
type Part struct {
	Number int    `json:"part"` // from 0
	Size   int64  `json:"size"`
	CRC    uint64 `json:"crc"`
	ETag   string `json:"etag,omitempty"`

	Verified bool `json:"verified,omitempty"` // by a checksum of the store's
}

// A Journal is an open file. Add is safe for concurrent use.
type Journal struct {
	Head  Head         // zero: nothing is remembered
	Parts map[int]Part // by number, as they were when the file was opened

	path string
	mu   sync.Mutex
	file *os.File
}

// Bytes returns how many there are in Parts.
func (j *Journal) Bytes() (n int64) {
	for _, p := range j.Parts {
		n += p.Size
	}
	return n
}

// Open reads the journal of that path; that there is none is no error. A file
// that is something else is left alone, and an error.
func Open(path string) (*Journal, error) {
	j := &Journal{path: path, Parts: make(map[int]Part)}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return j, nil
	}
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	const begin = `{"format":"` + format + `"`
	if !whole(lines[0]) && string(text[:min(len(text), len(begin))]) == begin[:min(len(text), len(begin))] {
		return j, nil // killed at the very beginning
	}
	if json.Unmarshal(lines[0], &j.Head) != nil || j.Head.Format != format || j.Head.PartSize <= 0 {
		return nil, fmt.Errorf("state: %s is not the state of a transfer: it is left as it is", path)
	}
	for _, line := range lines[1:] {
		var p Part
		if whole(line) && json.Unmarshal(line, &p) == nil {
			j.Parts[p.Number] = p
		}
	}
	return j, nil
}

// Recall is Open for an upload or a download of the object that want names. A
// file of another transfer is left alone, and an error.
func Recall(path string, want Head, upload bool) (*Journal, error) {
	j, err := Open(path)
	if err != nil {
		return nil, err
	}
	h := j.Head
	if h.Format != "" && ((h.Upload != "") != upload || h.Bucket != want.Bucket || h.Key != want.Key || h.Endpoint != want.Endpoint) {
		return nil, fmt.Errorf("state: %s is of another transfer, of s3://%s/%s at %q: remove it, or give this one another", path, h.Bucket, h.Key, h.Endpoint)
	}
	return j, nil
}

func whole(line []byte) bool { return bytes.HasSuffix(line, []byte("\n")) }

// Begin forgets what was remembered and starts with head.
func (j *Journal) Begin(head Head) error {
	head.Format = format
	j.Head = head
	clear(j.Parts)
	return j.open(os.O_TRUNC, head)
}

// Resume goes on after what was remembered.
func (j *Journal) Resume() error {
	return j.open(os.O_APPEND, nil)
}

func (j *Journal) open(flag int, first any) error {
	f, err := os.OpenFile(j.path, os.O_CREATE|os.O_WRONLY|flag, 0o600)
	if err != nil {
		return err
	}
	j.Close()
	j.file = f
	if first == nil {
		_, err = f.WriteString("\n") // after a line that was cut off
		return err
	}
	if err := j.write(first); err != nil {
		return err
	}
	return f.Sync()
}

// Add remembers a part.
func (j *Journal) Add(p Part) error { return j.write(p) }

func (j *Journal) write(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	_, err = j.file.Write(append(line, '\n'))
	return err
}

// Close closes the file, which stays. It may be called more than once.
func (j *Journal) Close() {
	if j.file != nil {
		_ = j.file.Close() // each line is written through
		j.file = nil
	}
}

// Remove forgets the transfer: it is done.
func (j *Journal) Remove() {
	j.Close()
	_ = os.Remove(j.path) // what is left of it is found out at the next use
}
