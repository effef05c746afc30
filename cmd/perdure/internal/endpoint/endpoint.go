// Package endpoint knows where bytes come from and where they go: files, standard input and output, URLs, objects.
//
// A scheme is one file, which implements [Endpoint], and one row of the table that begins [Parse]. Nothing outside of
// this package knows which schemes there are.
package endpoint

import (
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"time"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/internal/checksum"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

// A Role is what an endpoint is in a copy.
type Role uint8

// The roles.
const (
	Source Role = iota
	Destination
)

// An Endpoint is one place, or what is below it. It is not safe for concurrent use, but those that Join returns may be used
// at the same time.
type Endpoint interface {
	// String returns the address without the secrets that may be in it.
	String() string
	// Where returns the address as errors have it: so that it can be told from the words around it, and found.
	Where() string
	// Key returns what a manifest calls the place.
	Key() string
	// Base returns the name that the place gives to a directory that it is copied to; "" means none.
	Base() string
	// Named returns the place of that name in this one, if this one is a directory, which can't be used without a name; or
	// else nil.
	Named(name string) Endpoint
	// Check returns what is wrong with the address as one place in that role, as the usage error about field.
	Check(field string, as Role) error
	// Is reports whether another endpoint is the same place.
	Is(Endpoint) bool

	// Connect makes ready for a copy. Nothing is requested but what the credentials need.
	Connect(ctx context.Context, s *Session, as Role) error
	// Close ends it. done says that all of it has succeeded.
	Close(done bool) error

	// Stat returns what is known of the source without reading it.
	Stat(ctx context.Context) (Info, error)
	// Open opens the source, to be read once from its beginning to its end.
	Open(ctx context.Context) (*Input, error)
	// Getter returns what requests ranges of the source, and what identifies it to a later process, without secrets.
	// A nil Getter means that the source can only be opened.
	Getter() (g transfer.Getter, identity string)

	// Create makes ready what becomes the destination of c.
	Create(ctx context.Context, c *Copy) (Target, error)
	// CopyFrom makes the destination a copy of an endpoint of the same store, without moving its bytes through here. The
	// error is [errors.ErrUnsupported] if that can't be done.
	CopyFrom(ctx context.Context, from Endpoint) (Stored, error)

	// Settle drops what an earlier run has left of a copy from an endpoint, as that copy is there by now.
	Settle(ctx context.Context, from Endpoint)

	// List yields what is below the place, in the byte order of Rel if the place can do that.
	List(ctx context.Context) iter.Seq2[Item, error]
	// Join returns the place of an Item of that Rel, or why there can't be one.
	Join(rel string) (Endpoint, error)
}

// A Target is a destination in the making.
type Target interface {
	// File returns the file that ranges are fetched to; nil means that the bytes are given to Put.
	File() *transfer.File
	// Put takes all bytes of a source. An error of the source is a [*ReadError], after which it is called again, unless
	// there are Bytes: those can't be taken back.
	Put(ctx context.Context, in *Input) (Stored, error)
	// Commit makes the destination what was put.
	Commit() (Stored, error)
	// Close drops what was not committed, or leaves it to a later process. It returns what it leaves, in words.
	Close() (left string)
}

// Attributes are what a place says of its bytes. They go along to where there is a place for them.
type Attributes = objects.Attributes

// Info is what is known of a source.
type Info struct {
	Attributes

	Size     int64        // in bytes; -1: not known before the end
	Checksum checksum.Sum // of all bytes; zero: not known

	Inconclusive bool // that the bytes have another Checksum proves nothing
}

// An Input is a source that has been opened.
type Input struct {
	io.ReadCloser
	Info

	File     *os.File  // the source, if it can be read again and at any place; nil: it can't
	Modified time.Time // of File
}

// Stored is what a destination has got.
type Stored struct {
	Bytes    int64
	Checksum string // of all bytes, as package checksum writes it; "" is not known
	Verified string // by what, as "crc32c"
}

// An Item is what a listing has of one place.
type Item struct {
	Rel  string       // the path below the listed place, with slashes
	Size int64        // in bytes
	Sum  checksum.Sum // of all bytes; zero: the listing does not have it
	Dir  bool         // a directory, without what is in it
	Err  error        // why it can't be copied
	Link bool         // it is a link, and links are skipped
}

// A Copy is what the two sides of one copy share.
type Copy struct {
	*Session

	From     Endpoint
	Size     int64        // of From, if a listing has said; 0: not known
	Want     checksum.Sum // that the bytes must have; zero: any
	Progress func(done, total int64)

	Tries   int   // of all of it, in this run
	Earlier int64 // bytes of an earlier run that were of use
}

// A ReadError is an error of the source rather than of the destination.
type ReadError struct{ Err error }

func (e *ReadError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *ReadError) Unwrap() error { return e.Err }

// open opens what a Getter requests. attributes returns those of the present version, once there was a response.
func open(ctx context.Context, g transfer.Getter, attributes func() Attributes) (*Input, error) {
	res, err := g.Get(ctx, transfer.Range{To: -1}, nil)
	if err != nil {
		return nil, err
	}
	v := res.Version
	return &Input{ReadCloser: res.Body, Info: Info{attributes(), v.Size, v.Checksum, v.Inconclusive}}, nil
}

// errNone is the error of what a scheme has no way to do. The table keeps it from being tried.
var errNone = errors.New("this can't be done with an address of this kind")

// A single is what places have in common that are one place alone: nothing is below them, no store copies them, and their
// address can't be wrong.
type single struct{}

func (single) Key() string                       { return "" }
func (single) Named(string) Endpoint             { return nil }
func (single) Check(string, Role) error          { return nil }
func (single) Is(Endpoint) bool                  { return false }
func (single) Close(bool) error                  { return nil }
func (single) Getter() (transfer.Getter, string) { return nil, "" }
func (single) CopyFrom(context.Context, Endpoint) (Stored, error) {
	return Stored{}, errors.ErrUnsupported
}
func (single) Settle(context.Context, Endpoint) {}
func (single) Join(string) (Endpoint, error)    { return nil, errNone }
func (single) List(context.Context) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) { yield(Item{}, errNone) }
}
