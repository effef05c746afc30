package pipes

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/seed-0f2c7998/perdure/retry"
)

// A sink writes messages, one line at a time and in order. It is not safe for
// concurrent use.
type sink interface {
	write(line []byte) error // line ends with \n
	close() error
}

// A file appends messages to a file, with one write(2) for a message, because
// Dagster's reader takes a part of a line for the whole line.
//
// One write is not enough: a reader can see the part of a write that is on one page
// before the part that is on the next. Therefore spaces, which JSON ignores, fill the
// rest of a page after a message, and only a message longer than a page crosses the
// end of a page. Dagster's reader saw a part of one in a thousand messages of 60 KiB,
// so a long text is sent in parts, see part. In a large file the rest of a page is
// filled only if it is short.
type file struct {
	name string
	f    *os.File
	size int64 // bytes of the file
	torn error // set when the file ends with a part of a message: nothing may follow
}

const (
	page  = 4 << 10  // bytes; real pages are a multiple of it
	large = 16 << 20 // bytes of a large file
	room  = 1 << 10  // bytes of a page that a large file leaves to the next message
)

func (f *file) write(line []byte) error {
	if f.torn != nil {
		return f.torn
	}
	if err := f.open(); err != nil {
		return err
	}
	if left := page - (f.size+int64(len(line)))%page; left < page && (left < room || f.size < large) {
		line = append(line[:len(line)-1], strings.Repeat(" ", int(left))+"\n"...)
	}
	n, err := f.f.Write(line)
	if f.size += int64(n); err != nil && n > 0 && !f.takeBack(int64(n)) {
		f.torn = err
	}
	return err
}

// takeBack removes the n bytes of a message that was written in part, as on a full
// disk, and reports whether it did.
func (f *file) takeBack(n int64) bool {
	info, err := f.f.Stat()
	if err != nil || info.Size() != f.size || f.f.Truncate(f.size-n) != nil {
		return false // another process has written since
	}
	f.size -= n
	return true
}

func (f *file) open() error {
	if f.f != nil {
		return nil
	}
	opened, err := openRegular(f.name, os.O_WRONLY|os.O_APPEND|os.O_CREATE)
	if err != nil {
		return err
	}
	f.f = opened
	if info, err := opened.Stat(); err == nil {
		f.size = info.Size()
	}
	return nil
}

func (f *file) close() error {
	if f.f == nil {
		return nil
	}
	return f.f.Close()
}

// A standard stream takes messages and the program's own output.
type standard struct {
	name  string
	w     io.Writer
	pipes chan os.Signal // catches SIGPIPE, which would end a process that lost its reader
	torn  error          // set when a message was written in part: no message may follow

	mu  sync.Mutex // guards w and mid
	mid bool       // the program's output ends within a line
}

func newStandard(name string, w io.Writer) *standard {
	s := &standard{name: name, w: w, pipes: make(chan os.Signal, 1)}
	signal.Notify(s.pipes, syscall.SIGPIPE)
	return s
}

// write writes a message on a line of its own.
func (s *standard) write(line []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.torn != nil {
		return s.torn
	}
	if s.mid {
		line = append([]byte("\n"), line...)
	}
	n, err := s.w.Write(line)
	if s.mid = false; err != nil && n > 0 {
		s.torn = err
	}
	return err
}

// pass writes the program's own output.
func (s *standard) pass(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.w.Write(p)
	if n > 0 {
		s.mid = p[n-1] != '\n'
	}
	return n, err
}

func (s *standard) close() error {
	signal.Stop(s.pipes)
	return nil
}

// maxPending is the limit of unsent messages in memory, in bytes.
const maxPending = 16 << 20

var errFull = errors.New("too many messages are waiting to be sent")

// A buffered sink writes all messages at the end, for a stream of which Dagster reads
// only the end.
type buffered struct {
	to      *standard
	pending [][]byte
	size    int
}

func (b *buffered) write(line []byte) error {
	if b.size += len(line); b.size > maxPending {
		b.size -= len(line)
		return errFull
	}
	b.pending = append(b.pending, line)
	return nil
}

func (b *buffered) close() error {
	var failed error
	for _, line := range b.pending {
		if err := b.to.write(line); err != nil && failed == nil {
			failed = err
		}
	}
	return errors.Join(failed, b.to.close())
}

// A BlobWriter writes messages to a store of blobs, such as S3.
type BlobWriter interface {
	// WriteBlob writes a blob, which must appear as a whole. If Dagster named a path,
	// bucket is "" and key begins with the path.
	WriteBlob(ctx context.Context, bucket, key string, body []byte) error
}

const (
	chunkEvery = 10 * time.Second
	chunkSize  = 1 << 20          // bytes that are sent at once
	lastChunk  = 60 * time.Second // time limit of one chunk, and so of Close
)

// blobs writes messages in chunks, numbered from 1 without a gap: the reader waits for
// each number in turn.
type blobs struct {
	to     BlobWriter
	bucket string
	prefix string
	policy retry.Policy
	wake   chan struct{} // receives when pending has reached chunkSize
	ended  chan struct{} // closed at the end of the session
	done   chan error    // receives the error of the last chunk, nil if it was written

	mu      sync.Mutex
	pending []byte // lines that are not in a chunk yet
}

func newBlobs(ctx context.Context, to BlobWriter, bucket, prefix string) *blobs {
	b := &blobs{
		to: to, bucket: bucket, prefix: prefix,
		wake: make(chan struct{}, 1), ended: make(chan struct{}), done: make(chan error, 1),
		policy: retry.Policy{
			Name: "pipes", MaxAttempts: retry.Unlimited, MaxElapsed: lastChunk, AttemptTimeout: lastChunk / 2,
			MaxDelay: 5 * time.Second, Classify: retry.Always, Observe: func(context.Context, retry.Event) {},
		},
	}
	go b.run(context.WithoutCancel(ctx))
	return b
}

func (b *blobs) write(line []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.pending)+len(line) > maxPending {
		return errFull
	}
	if b.pending = append(b.pending, line...); len(b.pending) >= chunkSize {
		select {
		case b.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

func (b *blobs) close() error {
	close(b.ended)
	return <-b.done
}

// run writes a chunk every chunkEvery until the session ends. A chunk that failed is
// written again unchanged, because the store may have it and the reader may have read
// it.
func (b *blobs) run(ctx context.Context) {
	tick := time.NewTicker(chunkEvery)
	defer tick.Stop()
	var failed error
	for n, last := 1, false; !last; {
		select {
		case <-tick.C:
		case <-b.wake:
		case <-b.ended:
			last = true
		}
		chunk := b.take()
		if len(chunk) == 0 {
			continue
		}
		if err := b.send(ctx, n, chunk); err != nil {
			failed = err // the reader waits for this number: it would read no later chunk
			break
		}
		n++
	}
	b.done <- failed
}

// take takes out the pending lines, without the last newline.
func (b *blobs) take() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	chunk := bytes.TrimSuffix(b.pending, []byte("\n"))
	b.pending = nil
	return chunk
}

// send writes chunk n, with retries for up to lastChunk.
func (b *blobs) send(ctx context.Context, n int, chunk []byte) error {
	key := path.Join(b.prefix, strconv.Itoa(n)+".json")
	return retry.Do(ctx, &b.policy, func(ctx context.Context) error {
		return b.to.WriteBlob(ctx, b.bucket, key, chunk)
	})
}

// Files is a directory, such as a mounted volume, that serves as a store of blobs. It
// implements [BlobReader] and [BlobWriter].
type Files struct {
	Root string // directory of the buckets; "" means paths as they are
}

// ReadBlob reads the file key in the directory bucket.
func (s Files) ReadBlob(_ context.Context, bucket, key string) ([]byte, error) {
	return os.ReadFile(s.name(bucket, key))
}

// WriteBlob writes the file key in the directory bucket, and makes the directory. The
// file is written under a random temporary name, so that it appears as a whole and no
// link or FIFO is written through.
func (s Files) WriteBlob(_ context.Context, bucket, key string, body []byte) error {
	name := s.name(bucket, key)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".perdure-*")
	if err != nil {
		return err
	}
	_, err = f.Write(body)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

func (s Files) name(bucket, key string) string {
	return filepath.Join(s.Root, bucket, filepath.FromSlash(key))
}
