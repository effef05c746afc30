// Package transfer is the engine that moves the bytes of one resource into a file: in parallel ranges if the resource is
// large, resumed by a later process if one was not enough, verified by checksum while the bytes come, and renamed only
// when all of it is on the disk. The resource comes from a [Getter], over HTTP, from S3 or from anywhere else.
//
//	result, err := transfer.ToFile(ctx, path, getter, transfer.Options{Source: url})
//
// # What is believed
//
// What is not complete lives in a staging directory beside the file, which only this user may enter and whose name nobody
// can guess: so no name of a user's file, of another process or of a key that comes out of a bucket can meet one of ours.
// What an earlier process has left there is resumed only if directory, part and state belong to this user, name the inode
// that they have (what was copied, unpacked or synced has another), and each range that is kept still has its checksum.
package transfer

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/seed-0f2c7998/perdure/internal/checksum"
	"github.com/seed-0f2c7998/perdure/internal/validator"
)

// ErrChanged is the error of a resource that was replaced during the transfer.
var ErrChanged = validator.ErrChanged

// A Range is the bytes from From up to, but not including, To.
type Range struct {
	From int64 `json:"from"`
	To   int64 `json:"to"` // in a request -1 means the end of the resource
}

// A Version is what a source says of the resource that it serves now.
type Version struct {
	ETag         string       `json:"etag,omitempty"`          // a strong one, or empty
	LastModified string       `json:"last_modified,omitempty"` // if it is a validator that will do; only where there is no ETag
	Encoding     string       `json:"encoding,omitempty"`      // of the bytes, as Content-Encoding has it; empty: none
	Size         int64        `json:"size"`                    // in bytes; -1 means unknown
	Checksum     checksum.Sum `json:"checksum,omitzero"`       // that the source has of all bytes, if it has one

	// Inconclusive says that a difference from Checksum proves nothing, as with the ETag of an object that is encrypted.
	Inconclusive bool `json:"inconclusive,omitempty"`
}

// Resumable reports whether a later request can be sure to get bytes of the same version.
func (v Version) Resumable() bool { return (v.ETag != "" || v.LastModified != "") && v.Size >= 0 }

// Same reports whether two resumable versions are the same one.
func (v Version) Same(w Version) bool {
	return v.Resumable() && v.ETag == w.ETag && v.LastModified == w.LastModified && v.Encoding == w.Encoding && v.Size == w.Size
}

// A Getter requests the bytes of one resource. It is used by several goroutines at once. It may make a request wait until
// another's body is closed: each goroutine closes the body of one response before it requests the next.
type Getter interface {
	// Get requests r. If of is not nil the bytes must be those of that version, or the error is [ErrChanged]: a
	// response that restarts at byte 0 because there is another version now may also be returned as that version's.
	// Retries and the resuming of a body that breaks are the Getter's.
	Get(ctx context.Context, r Range, of *Version) (*Response, error)
}

// A Response is the answer to one request of a [Getter].
type Response struct {
	Version Version       // of the whole resource
	From    int64         // where Body begins: what was requested, or 0 if the source sends the whole resource
	Ranges  bool          // the source is known to serve ranges
	Body    io.ReadCloser // up to the end of what was requested, or else an error
}

// Options configures a [File]. The zero Options are ready for use.
type Options struct {
	// Source identifies the resource to a later process, in a text without secrets. If empty, nothing is resumed.
	Source string
	// Parallel is the number of ranges that are requested at a time; 0 means 4, negative means 1.
	Parallel int
	// Piece is how many bytes one request asks for, after the first; 0 means 8 MiB.
	Piece int64
	// NoResume discards what an earlier process has left, and leaves nothing.
	NoResume bool
	// Want is the checksum that the bytes must have; the zero Sum allows any.
	Want checksum.Sum
	// Perm is the permissions of a file that is not there yet, less the umask; 0 means 0666.
	Perm fs.FileMode

	// Progress, if not nil, is called after each write with how many bytes there are, and of how many (-1: unknown). It
	// is called by one goroutine at a time.
	Progress func(done, total int64)
	// Resumed, if not nil, is called at most once, before the first write of a Fetch that finds bytes of an earlier process
	// or an earlier Fetch.
	Resumed func(Resumption)
}

// A Resumption says what a [File] found of an earlier run.
type Resumption struct {
	Bytes, Size int64  // that are kept, of how many; 0: it begins from scratch
	Reason      string // why it begins from scratch
}

// A Result is what a [File] has become.
type Result struct {
	Bytes    int64
	Checksum checksum.Sum // of all bytes
	Verified string       // the algorithm of the checksum that was compared, or "size" if there was none to compare with
	Resumed  int64        // bytes that an earlier process had left
	Version  Version      // of a Fetch
}

// ToFile fetches the resource of g into the file of that path. After an error the Bytes of the Result are those that are
// kept for a later call with the same path and Source, also in another process; the error is one of [Dir.Create], [File.Fetch]
// or [File.Commit].
func ToFile(ctx context.Context, path string, g Getter, o Options) (r Result, err error) {
	dir, err := OpenDir(filepath.Dir(path))
	if err != nil {
		return r, err
	}
	defer func() { _ = dir.Close() }()
	f, err := dir.Create(filepath.Base(path), o)
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

// A WriteError is an error of the destination rather than of the source.
type WriteError struct{ Err error }

func (e *WriteError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *WriteError) Unwrap() error { return e.Err }

// A SizeError is a size that the destination cannot have.
type SizeError struct{ Size, Limit int64 }

func (e *SizeError) Error() string {
	return fmt.Sprintf("the source announces %d bytes: the file system has only %d", e.Size, e.Limit)
}
