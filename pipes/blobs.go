package pipes

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/seed-0f2c7998/perdure/retry"
)

// A BlobReader reads the context from a store of blobs, such as S3.
type BlobReader interface {
	// ReadBlob returns a blob. If Dagster named a path, bucket is "" and key is the
	// path.
	ReadBlob(ctx context.Context, bucket, key string) ([]byte, error)
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
