// Package journal records, in a file, the uploaded parts of a multipart upload, so that another process can resume
// it.
//
// The file has a record for the upload and one for each part. A truncated record, which a killed process was writing,
// and an altered one are ignored.
package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"

	"github.com/seed-0f2c7998/perdure/awsretry/internal/source"
	"github.com/seed-0f2c7998/perdure/internal/private"
	"github.com/seed-0f2c7998/perdure/internal/record"
)

// Format is the format's name in the first line. A file of another format is not used: raise the number with each
// change of the records, or of how a stream is cut into parts.
const Format = "perdure-upload-4"

// limit is the greatest size of a file in bytes: 10,000 parts need less than 2 MiB.
const limit = 16 << 20

// A Head identifies an upload.
type Head struct {
	Format   string `json:"format"`
	Endpoint string `json:"endpoint,omitempty"`
	Bucket   string `json:"bucket"`
	Key      string `json:"key"`
	Upload   string `json:"upload,omitempty"`   // the upload ID in the store
	WriteID  string `json:"write_id,omitempty"` // of a conditional put
	PartSize int64  `json:"part_size"`
	Size     int64  `json:"size,omitempty"` // of the object, in bytes; 0 or less: unknown

	CustomerKey bool   `json:"customer_key,omitempty"` // the object has a customer key
	Attributes  string `json:"attributes,omitempty"`   // a digest of those with which the upload was begun
}

// A Part is an uploaded part.
type Part struct {
	Number int    `json:"part"` // from 0
	Size   int64  `json:"size"`
	CRC    uint64 `json:"crc"`
	ETag   string `json:"etag,omitempty"`

	Verified bool `json:"verified,omitempty"` // the store confirmed its checksum
}

// A Journal is an open file. Add is safe for concurrent use.
type Journal struct {
	Head   Head         // zero if no upload is recorded
	Parts  map[int]Part // by number, as of Open
	Reason string       // why no upload is recorded although the file exists

	path string
	log  *record.Log // nil if the file does not exist
}

// Bytes returns the bytes in Parts.
func (j *Journal) Bytes() (n int64) {
	for _, p := range j.Parts {
		n += p.Size
	}
	return n
}

// Open reads the journal at path. A missing file is not an error. A file that is not a journal, or not a regular file
// of this user, stays unchanged and is an error. A journal of another version records no upload.
func Open(path string) (*Journal, error) {
	j := &Journal{path: path, Parts: make(map[int]Part)}
	err := j.open(0)
	if errors.Is(err, fs.ErrNotExist) {
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

// open opens the file, or creates it with os.O_CREATE in flags.
func (j *Journal) open(flags int) error {
	file, err := private.OpenPath(j.path, flags)
	if err == nil {
		j.log = record.NewLog(file, limit)
	}
	return err
}

// isOurs matches the first line of a file of any version, and captures the name of its format.
var isOurs = regexp.MustCompile(`^{"format":"(perdure-(?:transfer|upload)-[0-9]+)"`)

// read reads the file.
func (j *Journal) read() error {
	text, err := j.log.Load()
	if err != nil {
		return err
	}
	const begin = `{"format":"perdure-`
	end := bytes.IndexByte(text, '\n') + 1
	first, rest := text[:end], text[end:]
	if end == 0 && (strings.HasPrefix(string(text), begin) || strings.HasPrefix(begin, string(text))) {
		return nil // killed while writing the first record
	}
	var h Head
	valid := record.Decode(first, &h)
	name := isOurs.FindSubmatch(first)
	switch {
	case len(text) > limit || name == nil:
		return fmt.Errorf("%s is not the state file of an upload: it stays unchanged", j.path)
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

// Recall is Open for an upload of the object that want names. A file of an upload of another object stays unchanged,
// and is an error.
func Recall(path string, want Head) (*Journal, error) {
	j, err := Open(path)
	if err != nil {
		return nil, err
	}
	h := j.Head
	if h.Format != "" && (h.Bucket != want.Bucket || h.Key != want.Key || h.Endpoint != want.Endpoint) {
		j.Close()
		return nil, fmt.Errorf("state: %s belongs to the upload of s3://%s/%s at %q: remove the file, or use another path", path, h.Bucket, h.Key, h.Endpoint)
	}
	return j, nil
}

// Begin truncates the file and records a new upload.
func (j *Journal) Begin(head Head) error {
	head.Format = Format
	j.Head, j.Reason = head, ""
	clear(j.Parts)
	if j.log == nil {
		if err := j.open(os.O_CREATE); err != nil {
			return fmt.Errorf("state: %w", err)
		}
	}
	if err := j.log.Begin(head); err != nil {
		return err
	}
	return j.log.Sync()
}

// Add records a part.
func (j *Journal) Add(p Part) error { return j.log.Append(p) }

// Close closes the file. It may be called more than once.
func (j *Journal) Close() {
	if j.log != nil {
		_ = j.log.Close() // nothing is buffered
		j.log = nil
	}
}

// Remove closes and removes the file of a completed upload.
func (j *Journal) Remove() {
	j.Close()
	_ = os.Remove(j.path) // the next use finds out if that failed
}
