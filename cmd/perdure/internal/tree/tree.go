// Package tree copies the files of a directory to a store, or objects of a store
// to a directory: many at a time, and only those that are not there yet. It
// deletes nothing.
//
// One file's failure does not keep the others from being copied, unless it would
// be the same for all of them.
package tree

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/copying"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/place"
)

// A Job says what to copy where. It is used once.
type Job struct {
	place.Tree

	Link     *copying.Job // endpoint, policy, and who is told of retries; its Source and Destination are not used
	Parallel int          // files at a time; 0 is 16
	Manifest io.Writer    // gets an Entry a line, as JSON, in one Write each; its errors are not the job's. nil: nobody asks
	Reserved string       // a file that no object becomes, as the one of the manifest; "": there is none

	// Done is told of each file, and Progress how far it has come; nil: nobody asks.
	// Done is called by one goroutine at a time, Progress by several at once.
	Done     func(Entry)
	Progress func(Progress)
	Warn     func(text string)
}

// A Progress is how far a job has come.
type Progress struct {
	Bytes, TotalBytes int64 // those that need not be copied count as well
	Files, TotalFiles int
}

// An item is one file to be copied.
type item struct {
	path, key string
	size      int64
	etag      string // of the object, if there is one
	marker    bool   // it stands for a directory
	err       error  // why it can't be copied
}

// A run is a Job under way.
type run struct {
	*Job

	store *copying.Connection
	items []item
	bytes int64             // of all items
	there map[string]object // what the bucket has already, by key

	moved atomic.Int64
	files atomic.Int64

	mu        sync.Mutex
	summary   Summary  // guarded by mu, as what follows
	failures  []string // the first of them
	permanent bool     // one of them would fail again
}

// Run copies. It returns nil if all is there, and otherwise an error that package
// exit knows the code of.
func (j *Job) Run(ctx context.Context) (Summary, error) {
	begun := time.Now()
	r := &run{Job: j}
	if r.Parallel == 0 {
		r.Parallel = 16
	}
	err := r.run(ctx)
	if _, partly := errors.AsType[*stopped](err); err != nil && ctx.Err() != nil && !partly {
		err = context.Cause(ctx)
	}
	if r.store != nil {
		r.summary.Requests, r.summary.Retries = r.store.Requests()
	}
	r.summary.Elapsed = time.Since(begun)
	return r.summary, err
}

func (r *run) run(ctx context.Context) error {
	prepare, one := r.prepareDownload, r.download
	if r.Up {
		prepare, one = r.prepareUpload, r.upload
	}
	if err := prepare(ctx); err != nil {
		return err
	}
	if len(r.items) == 0 && r.Warn != nil {
		r.Warn("There is nothing to copy")
	}
	for _, i := range r.items {
		r.bytes += i.size
	}
	return r.all(ctx, one)
}

// all copies every item, some at a time, until there are no more or it is in
// vain.
func (r *run) all(ctx context.Context, one func(context.Context, item) (Entry, error)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan item)
	var workers sync.WaitGroup
	for range min(r.Parallel, len(r.items)) {
		workers.Go(func() {
			for i := range next {
				e, err := r.one(ctx, i, one)
				switch {
				case err != nil && ctx.Err() != nil:
					err = errUntried
				case stops(err):
					cancel(err)
				}
				r.record(e, err)
			}
		})
	}
	for n, i := range r.items {
		select {
		case next <- i:
			continue
		case <-ctx.Done():
		}
		r.untried(r.items[n:])
		break
	}
	close(next)
	workers.Wait()
	return r.end(context.Cause(ctx))
}

// one copies one item, if it can be.
func (r *run) one(ctx context.Context, i item, copyIt func(context.Context, item) (Entry, error)) (Entry, error) {
	if i.err != nil {
		return Entry{Path: i.path, Key: i.key, Bytes: i.size}, i.err
	}
	if ctx.Err() != nil {
		return Entry{Path: i.path, Key: i.key, Bytes: i.size}, errUntried
	}
	e, err := copyIt(ctx, i)
	e.Path, e.Key = i.path, i.key
	if err != nil {
		e.Bytes = i.size
	}
	return e, err
}

// meter returns a function that takes how many bytes of one item are there, as
// often as that changes.
func (r *run) meter() func(done, total int64) {
	last := int64(0)
	return func(done, _ int64) {
		r.moved.Add(done - last)
		last = done
		r.tell()
	}
}

func (r *run) tell() {
	if r.Progress != nil {
		r.Progress(Progress{r.moved.Load(), r.bytes, int(r.files.Load()), len(r.items)})
	}
}
