// Package transfer is the engine that downloads one resource into a file: in parallel ranges if the resource is
// large, resumed by a later process after a failure, verified by checksum while the bytes arrive, and renamed only
// when it is complete and flushed to disk. The resource comes from a [Getter], over HTTP, from S3 or from anywhere
// else.
//
//	result, err := transfer.ToFile(ctx, path, getter, transfer.Options{Source: url})
//
// # Trust
//
// An incomplete file is in a staging directory beside its path. Only this user may enter that directory, and its name
// cannot be guessed: so it cannot collide with a name of another process, or with a key in a bucket. What an earlier
// process has left is resumed only if the directory, the part and the state file belong to this user and record their
// own inodes (what was copied, unpacked or synced has others), and only ranges whose checksums still match are kept.
package transfer

import (
	"context"
	"fmt"
	"io"
	"io/fs"

	"github.com/seed-0f2c7998/perdure/internal/checksum"
	"github.com/seed-0f2c7998/perdure/internal/validator"
)

// ErrChanged reports that the resource was replaced during the transfer.
var ErrChanged = validator.ErrChanged

// A Range is the bytes from From up to, but not including, To.
type Range struct {
	From int64 `json:"from"`
	To   int64 `json:"to"` // in a request -1 means the end of the resource
}

// A Version describes the resource that a source serves now.
type Version struct {
	ETag         string       `json:"etag,omitempty"`          // strong, or empty
	LastModified string       `json:"last_modified,omitempty"` // if it is a strong validator; only without an ETag
	Encoding     string       `json:"encoding,omitempty"`      // as in Content-Encoding; empty means none
	Size         int64        `json:"size"`                    // in bytes; -1 means unknown
	Checksum     checksum.Sum `json:"checksum,omitzero"`       // the source's checksum of all bytes, if it has one

	// Inconclusive means that a difference from Checksum proves nothing, as with the ETag of an encrypted object.
	Inconclusive bool `json:"inconclusive,omitempty"`
}

// Resumable reports whether a later request can be restricted to the same version.
func (v Version) Resumable() bool { return (v.ETag != "" || v.LastModified != "") && v.Size >= 0 }

// Same reports whether v and w are the same resumable version.
func (v Version) Same(w Version) bool {
	return v.Resumable() && v.ETag == w.ETag && v.LastModified == w.LastModified && v.Encoding == w.Encoding && v.Size == w.Size
}

// A Getter requests the bytes of one resource. Several goroutines call it at once. A request may wait until the body
// of another is closed: each goroutine closes the body of one response before it makes the next request.
type Getter interface {
	// Get requests r. If of is not nil, the bytes must be those of that version, or the error is [ErrChanged]; a
	// response that restarts at byte 0 with another version may also be returned, as that version's. The Getter
	// retries, and resumes broken bodies.
	Get(ctx context.Context, r Range, of *Version) (*Response, error)
}

// A Response is the response to one request of a [Getter].
type Response struct {
	Version Version       // of the whole resource
	From    int64         // the offset of Body: as requested, or 0 if the source sends the whole resource
	Ranges  bool          // the source supports ranges
	Body    io.ReadCloser // ends at the end of the requested range, or with an error
}

// Options configures a [File]. The zero Options is ready for use.
type Options struct {
	// Source identifies the resource to a later process, without secrets. If empty, nothing is resumed.
	Source string
	// Parallel is the number of ranges that are requested at a time. 0 means 4; 1 and negative values mean one after
	// the other.
	Parallel int
	// Piece is the size of each request after the first in bytes. 0 means 8 MiB.
	Piece int64
	// NoResume discards what an earlier process has left, and leaves nothing.
	NoResume bool
	// Want is the checksum that the bytes must have. The zero Sum allows any bytes.
	Want checksum.Sum
	// Perm is the permissions of a new file, less the umask. 0 means 0666.
	Perm fs.FileMode

	// Progress, if not nil, is called after each write with the bytes so far and the total (-1: unknown). It is
	// called by one goroutine at a time.
	Progress func(done, total int64)
	// Resumed, if not nil, is called at most once, before the first write of a Fetch that finds bytes of an earlier
	// process or Fetch.
	Resumed func(Resumption)
}

// A Resumption describes what a [File] found of an earlier run.
type Resumption struct {
	Bytes, Size int64  // kept, and in total; Bytes 0 means that the transfer begins from scratch
	Reason      string // why the transfer begins from scratch
}

// A Result describes a completed [File].
type Result struct {
	Bytes    int64
	Checksum checksum.Sum // of all bytes
	Verified string       // the algorithm of the compared checksum, or "size" without one
	Resumed  int64        // bytes kept from an earlier process
}

// ToFile fetches the resource of g into the file at path. After an error, Result.Bytes is the number of bytes that
// are kept for a later call with the same path and Source, also in another process; the error is one of [Create],
// [File.Fetch] or [File.Commit].
func ToFile(ctx context.Context, path string, g Getter, o Options) (r Result, err error) {
	f, err := Create(path, o)
	if err != nil {
		return r, err
	}
	defer f.Close()
	if err = f.Fetch(ctx, g); err == nil {
		r, err = f.Commit()
	}
	if err != nil {
		_, r.Bytes = f.Kept()
	}
	return r, err
}

// A WriteError reports an error of the destination, not of the source.
type WriteError struct{ Err error }

func (e *WriteError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *WriteError) Unwrap() error { return e.Err }

// A SizeError reports a size that exceeds the capacity of the destination.
type SizeError struct {
	Size, Limit int64
	What        string // the destination, such as "the file system"
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("the source has %d bytes, %s only %d", e.Size, e.What, e.Limit)
}
