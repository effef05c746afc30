// Package endpoint reads from and writes to the sources and destinations of copies: files, standard input and output, URLs,
// objects.
//
// A scheme is one file, which implements [Endpoint], and one row of the table schemes in parse.go. No code outside this
// package names a scheme.
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

// A Role is the side of a copy that an endpoint is on.
type Role uint8

// The roles.
const (
	Source Role = iota
	Destination
)

// An Endpoint is one source or destination, or a directory of them. It is not safe for concurrent use. Different endpoints
// that Join returns may be used concurrently.
type Endpoint interface {
	// String returns the address, without secrets.
	String() string
	// Where returns the address for errors: quoted where it could be confused with the words around it, and with the
	// store's URL.
	Where() string
	// Key returns the name of the endpoint in a manifest.
	Key() string
	// Base returns the file name that a copy of the endpoint gets in a directory; "" if it has none.
	Base() string
	// Named returns the endpoint of that name in this one, if this one is a directory, or else nil.
	Named(name string) Endpoint
	// Check returns a usage error about field if the address cannot be one source or destination.
	Check(field string, as Role) error
	// Is reports whether both endpoints are the same file or object.
	Is(Endpoint) bool

	// Connect prepares a copy. It sends no request, except for credentials.
	Connect(ctx context.Context, s *Session, as Role) error
	// Close ends the copy. done says that all of it has succeeded.
	Close(done bool) error

	// Stat returns the metadata of the source.
	Stat(ctx context.Context) (Info, error)
	// Open opens the source, to be read once from its beginning to its end.
	Open(ctx context.Context) (*Input, error)
	// Getter returns the Getter that requests ranges of the source, and an identity of the source for a later process,
	// without secrets. A nil Getter means that the source can only be opened.
	Getter() (g transfer.Getter, identity string)

	// Create creates a temporary target for c, which becomes the destination.
	Create(ctx context.Context, c *Copy) (Target, error)
	// CopyFrom has the store copy from to this endpoint. The error is [errors.ErrUnsupported] if the store cannot.
	CopyFrom(ctx context.Context, from Endpoint) (Stored, error)

	// Settle removes what an earlier run has kept to resume a copy of from, which is complete by now.
	Settle(ctx context.Context, from Endpoint)

	// List yields the items below the endpoint, in the byte order of Rel if the store lists in that order.
	List(ctx context.Context) iter.Seq2[Item, error]
	// Remove deletes the items with these Rels, and yields each with its result. A missing one is no error.
	Remove(ctx context.Context, rels []string) iter.Seq2[string, error]
	// Join returns the endpoint of the Item with that Rel, or an error if there cannot be one.
	Join(rel string) (Endpoint, error)
}

// A Target is a destination that is not complete yet.
type Target interface {
	// File returns the file that ranges are fetched to; nil means that Put gets the bytes.
	File() *transfer.File
	// Put writes all bytes of a source. After an error of the source, a [*ReadError], Put may be called again, unless it
	// returned Bytes, which cannot be taken back.
	Put(ctx context.Context, in *Input) (Stored, error)
	// Commit replaces the destination with what was put.
	Commit() (Stored, error)
	// Close removes what was not committed, or keeps it for a later process. It returns a clause that says what it keeps.
	Close() (left string)
}

// Attributes are the content type and other attributes of a source. Destinations that have attributes get them.
type Attributes = objects.Attributes

// Info is the metadata of a source.
type Info struct {
	Attributes

	Size     int64        // in bytes; -1 if it is unknown before the end
	Checksum checksum.Sum // of all bytes; zero if it is unknown
	ETag     string       // of an object, only from Stat
	Modified time.Time    // of the file that an object was, only from Stat; zero if it is unknown

	Inconclusive bool // a mismatch of Checksum does not prove that the bytes differ
}

// An Input is a source that has been opened.
type Input struct {
	io.ReadCloser
	Info

	File     *os.File  // the source, if it can be read again and at any offset, or else nil
	Modified time.Time // modification time of File
}

// Stored describes what was written to a destination.
type Stored struct {
	Bytes    int64
	Checksum string // of all bytes, as package checksum writes it; "" if it is unknown
	Verified string // what has verified the bytes, such as "crc32c"
	ETag     string // of the object; "" if the destination is none
}

// An Item is one entry of a listing.
type Item struct {
	Rel  string       // path below the listed endpoint, with slashes
	Size int64        // in bytes; -1 if it is unknown
	Sum  checksum.Sum // of all bytes; zero if the listing has none
	ETag string       // of the object; "" for a file
	Want checksum.Sum // the copy must have it; zero allows any
	Dir  bool         // the item is a directory; its contents are other items. With Err, it may be one that cannot be listed
	Err  error        // why the item cannot be copied; nil if it can
	Link bool         // the item is a symbolic link, and links are skipped
}

// A Copy is the state that both sides of one copy share.
type Copy struct {
	Session *Session

	From     Endpoint
	Size     int64                            // of From in a listing; 0 if it is unknown
	Want     checksum.Sum                     // the bytes must have it; zero allows any
	Progress func(done, earlier, total int64) // earlier is Earlier; if nil, it is not called

	Tries   int   // attempts of this run to copy all bytes
	Earlier int64 // bytes that were resumed from an earlier run
}

// A ReadError is an error of the source rather than of the destination.
type ReadError struct{ Err error }

func (e *ReadError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *ReadError) Unwrap() error { return e.Err }

// open requests all bytes of g. attributes returns the attributes in the response.
func open(ctx context.Context, g transfer.Getter, attributes func() Attributes) (*Input, error) {
	res, err := g.Get(ctx, transfer.Range{To: -1}, nil)
	if err != nil {
		return nil, err
	}
	v := res.Version
	return &Input{ReadCloser: res.Body, Info: Info{Attributes: attributes(), Size: v.Size, Checksum: v.Checksum, Inconclusive: v.Inconclusive}}, nil
}

// errNone is the error of an operation that a scheme does not support. The table schemes prevents such calls.
var errNone = errors.New("unsupported for an address of this kind")

// A single implements the methods of an Endpoint that is one file, stream or URL: it has nothing below it, no store copies
// it, and every address is valid.
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
func (single) Remove(context.Context, []string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) { yield("", errNone) }
}

func (single) List(context.Context) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) { yield(Item{}, errNone) }
}
