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

// A sink takes messages, one line at a time and in order. Its caller sees to
// it that nothing is called at the same time.
type sink interface {
	write(line []byte) error // the line ends with \n
	close() error
}

// A file appends to a file, with one write(2) for a message: its reader takes
// whatever is there for a whole line.
//
// That alone is not enough. A write that goes from one page of the file to the
// next can be seen in part, at the page's end. So what is left of a page after
// a message is filled with spaces, which are nothing to JSON: only a message
// that is longer than a page ever lies on two. Of such messages, of 60 KiB, one
// in a thousand was seen in part by Dagster's reader; so texts that can be sent in
// parts are, see part. When the file has become large, that is done only where
// little is left.
type file struct {
	name string
	f    *os.File
	size int64 // of what is there
	torn error // a message is there in part, so that nothing may follow
}

const (
	page  = 4 << 10  // or a part of one, where they are larger
	large = 16 << 20 // four thousand messages
	room  = 1 << 10  // that is left for a message in a large file
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

// takeBack takes away the n bytes of a message that was written in part, as when
// the disk is full: the reader would take them for all of it.
func (f *file) takeBack(n int64) bool {
	info, err := f.f.Stat()
	if err != nil || info.Size() != f.size || f.f.Truncate(f.size-n) != nil {
		return false // another has written since, or may
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

// A standard stream is one that may have other lines between the messages.
type standard struct {
	name  string
	w     io.Writer
	pipes chan os.Signal // keeps a reader that has gone from ending the process
	torn  error

	mu  sync.Mutex // of the stream: others write to it, see pass
	mid bool       // what they have written last is no whole line
}

func newStandard(name string, w io.Writer) *standard {
	s := &standard{name: name, w: w, pipes: make(chan os.Signal, 1)}
	signal.Notify(s.pipes, syscall.SIGPIPE)
	return s
}

// write begins a new line for a message: at the end of another it would be taken
// for a part of that.
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

// pass writes what is no message.
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

// maxPending is how many bytes of messages wait in memory at most.
const maxPending = 16 << 20

var errFull = errors.New("too many messages are waiting to be sent")

// A buffered sink keeps all messages until the end, for streams of which only
// the last part is read.
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

// A BlobWriter writes messages as blobs to a store, such as S3. The bucket is
// "" if Dagster named none, but a path. A blob must appear as a whole, or the
// reader takes a part of it.
type BlobWriter interface {
	WriteBlob(ctx context.Context, bucket, key string, body []byte) error
}

const (
	chunkEvery = 10 * time.Second
	chunkSize  = 1 << 20          // bytes that are sent without waiting longer
	lastChunk  = 60 * time.Second // for what is left at the end
)

// blobs sends messages in numbered chunks, from 1 and without a gap: their
// reader waits for each number in turn.
type blobs struct {
	to     BlobWriter
	bucket string
	prefix string
	policy retry.Policy
	wake   chan struct{} // there is enough for a chunk
	ended  chan struct{} // nothing more comes
	done   chan error    // the last chunk is sent, or not

	mu      sync.Mutex
	pending []byte // not yet in a chunk
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

// run sends a chunk from time to time, until nothing more comes. One that
// fails is sent again as it is: it may be there all the same, and be read.
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
			failed = err // and no later chunk would be read
			break
		}
		n++
	}
	b.done <- failed
}

// take returns what is pending, without the end of the last line.
func (b *blobs) take() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	chunk := bytes.TrimSuffix(b.pending, []byte("\n"))
	b.pending = nil
	return chunk
}

// send writes the chunk of that number, for a minute at most.
func (b *blobs) send(ctx context.Context, n int, chunk []byte) error {
	key := path.Join(b.prefix, strconv.Itoa(n)+".json")
	return retry.Do(ctx, &b.policy, func(ctx context.Context) error {
		return b.to.WriteBlob(ctx, b.bucket, key, chunk)
	})
}

// Files is a store of blobs that is a directory, such as a mounted volume; a
// bucket is a directory in it. The zero Files is the whole file system.
type Files struct {
	Root string
}

// ReadBlob reads a file.
func (s Files) ReadBlob(_ context.Context, bucket, key string) ([]byte, error) {
	return os.ReadFile(s.name(bucket, key))
}

// WriteBlob writes a file, which appears as a whole. Until then it has a name that nobody can guess, so that no blob, link or
// FIFO is in its place.
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
