// Package journal remembers, in a file, the parts of an upload that are done,
// so that another process can resume it.
//
// The file has a record for the upload and one for each part. A record is written
// at once and whole, or it is the last one and a process was killed while it wrote
// it: that one counts for nothing, as does one that was altered.
package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"sync"

	"github.com/seed-0f2c7998/perdure/awsretry/internal/source"
	"github.com/seed-0f2c7998/perdure/internal/private"
	"github.com/seed-0f2c7998/perdure/internal/record"
)

// Format is what the first line calls itself. A file of another format is not
// read: raise its number with each change of what is written, or of how a stream
// is cut into parts.
const Format = "perdure-upload-3"

// limit is how many bytes a file may have: 10,000 parts need less than 2 MiB.
const limit = 16 << 20

// A Head says which upload it is.
type Head struct {
	Format   string `json:"format"`
	Endpoint string `json:"endpoint,omitempty"`
	Bucket   string `json:"bucket"`
	Key      string `json:"key"`
	Upload   string `json:"upload,omitempty"`   // its ID in the store
	WriteID  string `json:"write_id,omitempty"` // of a conditional put
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
	Head   Head         // zero: nothing is remembered
	Parts  map[int]Part // by number, as they were when the file was opened
	Reason string       // why nothing is remembered, though there is a file of an earlier upload

	path string
	mu   sync.Mutex
	file *os.File // nil: there is none
	size int64    // bytes in it
}

// Bytes returns how many there are in Parts.
func (j *Journal) Bytes() (n int64) {
	for _, p := range j.Parts {
		n += p.Size
	}
	return n
}

// Open opens and reads the journal of that path; that there is none is no error.
// A file that is something else is left alone, and an error: so is what is not
// a regular file of this user's. One of another version remembers nothing.
func Open(path string) (*Journal, error) {
	j := &Journal{path: path, Parts: make(map[int]Part)}
	var err error
	if j.file, err = private.OpenPath(path, false); errors.Is(err, fs.ErrNotExist) {
		return j, nil
	}
	if err == nil {
		err = j.read()
	}
	if err != nil {
		j.Close()
		return nil, fmt.Errorf("state: %w", err)
	}
	return j, nil
}

// isOurs matches the first line of a file of any version, and captures the name of the format.
var isOurs = regexp.MustCompile(`^{"format":"(perdure-(?:transfer|upload)-[0-9]+)"`)

// read reads the file.
func (j *Journal) read() error {
	text, err := io.ReadAll(io.LimitReader(j.file, limit+1))
	if err != nil {
		return err
	}
	j.size = int64(bytes.LastIndexByte(text, '\n') + 1) // what was cut off is written over
	const begin = `{"format":"perdure-`
	end := bytes.IndexByte(text, '\n') + 1
	first, rest := text[:end], text[end:]
	if end == 0 && (strings.HasPrefix(string(text), begin) || strings.HasPrefix(begin, string(text))) {
		return nil // killed at the very beginning
	}
	var h Head
	valid := record.Decode(first, &h)
	name := isOurs.FindSubmatch(first)
	switch {
	case len(text) > limit || name == nil:
		return fmt.Errorf("%s is not the state of an upload: it is left as it is", j.path)
	case string(name[1]) != Format:
		j.Reason = "the state of the earlier run is of another version of perdure"
		return nil
	case !valid || h.PartSize < source.MinPart || h.PartSize > source.MaxPart:
		j.Reason = "the state of the earlier run is damaged"
		return nil
	}
	j.Head = h
	for line := range bytes.Lines(rest) {
		var p Part
		if record.Decode(line, &p) {
			j.Parts[p.Number] = p
		}
	}
	return nil
}

// Recall is Open for an upload of the object that want names. A file of another
// upload is left alone, and an error.
func Recall(path string, want Head) (*Journal, error) {
	j, err := Open(path)
	if err != nil {
		return nil, err
	}
	h := j.Head
	if h.Format != "" && (h.Bucket != want.Bucket || h.Key != want.Key || h.Endpoint != want.Endpoint) {
		j.Close()
		return nil, fmt.Errorf("state: %s is of another upload, of s3://%s/%s at %q: remove it, or give this one another", path, h.Bucket, h.Key, h.Endpoint)
	}
	return j, nil
}

// Begin forgets what was remembered and starts with head.
func (j *Journal) Begin(head Head) (err error) {
	head.Format = Format
	j.Head, j.Reason = head, ""
	clear(j.Parts)
	if j.file == nil {
		if j.file, err = private.OpenPath(j.path, true); err != nil {
			return fmt.Errorf("state: %w", err)
		}
	}
	if err := j.file.Truncate(0); err != nil {
		return err
	}
	j.size = 0
	if err := j.write(head); err != nil {
		return err
	}
	return j.file.Sync()
}

// Add remembers a part, after what was remembered.
func (j *Journal) Add(p Part) error { return j.write(p) }

// write writes a line. Beyond what is read again nothing is written.
func (j *Journal) write(v any) error {
	line, err := record.Encode(v)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.size+int64(len(line)) > limit {
		return nil
	}
	n, err := j.file.WriteAt(line, j.size)
	j.size += int64(n)
	return err
}

// Close closes the file, which stays. It may be called more than once.
func (j *Journal) Close() {
	if j.file != nil {
		_ = j.file.Close() // each line is written through
		j.file = nil
	}
}

// Remove forgets the upload: it is done.
func (j *Journal) Remove() {
	j.Close()
	_ = os.Remove(j.path) // what is left of it is found out at the next use
}
