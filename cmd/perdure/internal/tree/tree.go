// Package tree copies the files of a directory to another place, as a store, or what is below such a place to a directory:
// many at a time, and only those that are not there yet. It deletes nothing, and holds neither listing.
//
// One file's failure does not keep the others from being copied, unless it would be the same for all of them.
package tree

import (
	"cmp"
	"context"
	"errors"
	"io"
	"iter"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

// Links says what becomes of the symbolic links below a directory.
type Links string

// The ways.
const (
	Fail   Links = "fail"   // a link is a failure
	Skip   Links = "skip"   // ... is left out
	Follow Links = "follow" // ... is what it leads to; not in a directory that is copied to
)

// DefaultParallel is how many files are copied at a time.
const DefaultParallel = 16

// A Job says what to copy where. It is used once.
type Job struct {
	endpoint.Tree

	Session    *endpoint.Session
	Parallel   int       // files at a time; 0 means DefaultParallel
	Links      Links     // "" is Fail
	AllowEmpty bool      // that there is nothing to copy is no failure
	Manifest   io.Writer // gets an Entry a line, as JSON, in one Write each; its errors are not the job's. nil: there is none
	Reserved   string    // a file that no other place becomes, as the one of the manifest; "": there is none

	// Done is called with each file, and Progress with how far it has come; nil: they are not called. Done is called by
	// one goroutine at a time, Progress by several at once.
	Done     func(Entry)
	Progress func(Progress)
	Warn     func(text string)
}

// A Progress is how far a job has come.
type Progress struct {
	Bytes, TotalBytes int64 // those that need not be copied count as well
	Files, TotalFiles int64
	Keys              int64 // that the other place has listed
	Listing           bool  // there may be more of all
}

// An item is one file to be copied.
type item struct {
	endpoint.Item

	there   endpoint.Item // what the destination has already, by its listing
	isThere bool
	unknown bool // the listing of the destination does not say
}

// ahead is how many items are listed before they are copied: so that there is always enough to do, and it is known how much
// there is unless there is very much.
const ahead = 4 << 10

// A run is a Job under way.
type run struct {
	*Job

	dir   *transfer.Tree // opened
	items chan item
	stop  context.CancelCauseFunc // ends the copies
	out   atomic.Bool             // what is the same for all has failed
	cut   atomic.Bool             // there may be more than was listed

	listed, listedBytes atomic.Int64
	keys                atomic.Int64
	listing             atomic.Bool
	moved, files        atomic.Int64

	mu        sync.Mutex
	summary   Summary  // guarded by mu, as what follows
	failures  []string // the first of them in order
	permanent bool     // one of them would fail again
}

// Run copies. It returns nil if all is there, and otherwise an error that package exit knows the code of.
func (j *Job) Run(ctx context.Context) (Summary, error) {
	begun := time.Now()
	r := &run{Job: j}
	r.Parallel = cmp.Or(r.Parallel, DefaultParallel)
	r.Session.Start()
	err := r.run(ctx)
	if _, partly := errors.AsType[*stopped](err); err != nil && ctx.Err() != nil && !partly {
		err = context.Cause(ctx)
	}
	r.summary.Requests, r.summary.Retries = r.Session.Requests()
	r.summary.Elapsed = time.Since(begun)
	return r.summary, err
}

// connect makes the place ready to be used as that.
func (r *run) connect(ctx context.Context, as endpoint.Role) error {
	if err := r.Remote.Connect(ctx, r.Session, as); err != nil {
		return err
	}
	return r.Session.Unused()
}

func (r *run) run(ctx context.Context) (err error) {
	open, list, one := r.openDown, r.listDown, r.down
	if r.Up {
		open, list, one = r.openUp, r.listUp, r.up
	}
	if err = open(ctx); err != nil {
		return err
	}
	defer func() {
		if r.dir != nil {
			err = errors.Join(err, r.dir.Close(err == nil))
		}
	}()
	return r.all(ctx, list, one)
}

// all copies what list sends, some at a time, until there is no more or it is in vain.
func (r *run) all(ctx context.Context, list func(context.Context) error, one func(context.Context, item) (Entry, error)) error {
	copies, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	r.stop, r.items = stop, make(chan item, ahead)
	unlisted := make(chan error, 1)
	r.listing.Store(true)
	go func() {
		err := list(ctx)
		r.listing.Store(false)
		close(r.items)
		unlisted <- err
	}()
	var workers sync.WaitGroup
	for range r.Parallel {
		workers.Go(func() {
			for i := range r.items {
				r.one(copies, i, one)
			}
		})
	}
	workers.Wait()
	return r.end(context.Cause(copies), <-unlisted)
}

// send hands an item to those who copy. It reports whether there is any use in listing more.
func (r *run) send(ctx context.Context, i item) bool {
	if i.Size > 0 {
		r.listedBytes.Add(i.Size)
	}
	if r.listed.Add(1)%1024 == 0 {
		r.tell()
	}
	select {
	case r.items <- i:
		if !r.out.Load() || r.Up {
			return true
		}
	case <-ctx.Done():
	}
	r.cut.Store(true)
	return false
}

// list lists the other place, and tells how far it has come: that may take long, though there is nothing to copy yet.
func (r *run) list(ctx context.Context) iter.Seq2[endpoint.Item, error] {
	return func(yield func(endpoint.Item, error) bool) {
		for i, err := range r.Remote.List(ctx) {
			if r.keys.Add(1)%1024 == 0 {
				r.tell()
			}
			if !yield(i, err) {
				return
			}
		}
	}
}

// outOfOrder warns of a listing that is.
func (r *run) outOfOrder(l *listing) {
	if l.disorder && r.Warn != nil {
		r.Warn(r.Remote.String() + " is listed out of order: that takes more memory or more requests")
	}
}

// one copies one item, if it can be, and records what has become of it.
func (r *run) one(ctx context.Context, i item, copyIt func(context.Context, item) (Entry, error)) {
	e := Entry{Path: filepath.Join(r.Dir, filepath.FromSlash(i.Rel)), Bytes: i.Size}
	to, err := r.Remote.Join(i.Rel)
	if to != nil {
		e.Key = to.Key()
	}
	switch {
	case ctx.Err() != nil:
		r.record(e, errUntried)
		return
	case i.Link:
		e.Action = Linked
		r.record(e, nil)
		return
	case i.Err != nil:
		if r.Up {
			err = endpoint.Explain("read", e.Path, i.Err)
		} else {
			e.Path, err = "", endpoint.Explain("refuse", to.Where(), i.Err)
		}
	case err != nil:
		err = endpoint.Explain("read", e.Path, err)
	default:
		var done Entry
		done, err = copyIt(ctx, i)
		if err == nil {
			e.Bytes, e.Checksum, e.Action = done.Bytes, done.Checksum, done.Action
		}
	}
	switch {
	case err != nil && ctx.Err() != nil:
		err = errUntried
	case stops(err):
		r.out.Store(true)
		r.stop(err)
	}
	r.record(e, err)
}

// meter returns a function that is called with how many bytes of one item are there, as often as that changes.
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
		r.Progress(Progress{r.moved.Load(), r.listedBytes.Load(), r.files.Load(), r.listed.Load(), r.keys.Load(), r.listing.Load()})
	}
}
