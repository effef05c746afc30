package endpoint

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/seed-0f2c7998/perdure/internal/checksum"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

// A stream is standard input or standard output.
type stream struct {
	single

	session *Session
}

func parseStream(string, string) (Endpoint, error) { return &stream{}, nil }

func (s *stream) String() string { return "-" }
func (s *stream) Where() string  { return "-" }
func (s *stream) Base() string   { return "" }

// Connect returns an error if the descriptor was closed when this process began.
func (s *stream) Connect(_ context.Context, session *Session, as Role) error {
	s.session = session
	f, do := session.Stdin, "read"
	if as == Destination {
		f, do = session.Stdout, "write"
	}
	if f == nil || WasClosed(f) {
		return Explain(do, s.Where(), ErrClosed)
	}
	return nil
}

// ErrClosed is the error of a standard descriptor for which [WasClosed] reports true.
var ErrClosed = fmt.Errorf("%w: it is closed, or is the null device opened for both reading and writing, which looks the same: open it for one of the two", syscall.EBADF)

func (s *stream) Stat(context.Context) (Info, error) { return Info{Size: -1}, nil }

func (s *stream) Open(ctx context.Context) (*Input, error) {
	return &Input{ReadCloser: interruptible(ctx, s.session.Stdin), Info: Info{Size: -1}}, nil
}

func (s *stream) Create(_ context.Context, c *Copy) (Target, error) {
	return &sink{copy: c, file: s.session.Stdout}, nil
}

// A sink is a target that gets the bytes as they arrive: standard output, a pipe, a device.
type sink struct {
	copy *Copy
	file *os.File
	ours bool // Commit and Close close file
	got  Stored
}

func (s *sink) File() *transfer.File { return nil }

func (s *sink) Put(ctx context.Context, in *Input) (Stored, error) {
	crc := checksum.New(ownSum)
	from := watch(ctx, in, s.copy.Want, s.copy.progress)
	n, err := io.CopyBuffer(io.MultiWriter(interruptibleWriter{ctx, s.file}, crc), from, make([]byte, chunk))
	s.got = Stored{Bytes: n, Checksum: cmp.Or(s.copy.Want.String(), checksum.Of(ownSum, crc).String()), Verified: from.verified}
	if err == nil {
		s.copy.moved(in, "read")
	}
	return s.got, err
}

// ownSum is the algorithm for sources without a checksum.
const ownSum = "crc32c"

// Commit closes the file if this process has opened it.
func (s *sink) Commit() (Stored, error) {
	if !s.ours {
		return s.got, nil
	}
	s.ours = false
	return s.got, s.file.Close()
}

func (s *sink) Close() string {
	if s.ours {
		_ = s.file.Close()
	}
	return ""
}

// An interruptibleWriter is a writer whose Write returns when its context ends.
type interruptibleWriter struct {
	ctx context.Context //nolint:containedctx // of one copy
	w   io.Writer
}

func (w interruptibleWriter) Write(p []byte) (int, error) {
	return Await(w.ctx, func() (int, error) { return w.w.Write(p) })
}
