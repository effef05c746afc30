// Package tree copies all files of a directory to a store, all objects below a prefix to a directory, or from store to store:
// many at a time, and only those that the destination does not have. It deletes nothing. It keeps neither listing in memory.
//
// When one file fails, the others are still copied, unless the failure concerns all of them.
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
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/sums"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

// Links says how symbolic links below a directory are handled.
type Links string

// The values of Links.
const (
	Fail   Links = "fail"   // a link is a failure
	Skip   Links = "skip"   // a link is skipped
	Follow Links = "follow" // the target of a link is copied; only if the directory is the source
)

// DefaultParallel is how many files are copied at a time.
const DefaultParallel = 16

// A Job describes a copy of many files. It is used once.
type Job struct {
	endpoint.Tree

	Several    bool // From has items of several places, which Join returns: the failure of one place is not that of all
	Session    *endpoint.Session
	Parallel   int       // files at a time; 0 means DefaultParallel
	Links      Links     // "" means Fail
	AllowEmpty bool      // an empty source is no failure
	Manifest   io.Writer // gets one Entry per Write, as a line of JSON; its errors are ignored. If nil, it is not used
	Reserved   string    // path of a file that no object is copied to, such as the manifest; "" means none

	Chosen    func(rel string) bool // the files that are meant, on both sides; nil means all
	Without   func(rel string) bool // Chosen chooses no file below that directory; set with Chosen
	AllowNone bool                  // it is no failure if Chosen chooses none of the files
	DryRun    bool                  // change nothing: the entries say what would be done, and why
	Delete    bool                  // if all files are copied, delete those that the destination has and the source has not
	MaxDelete int                   // delete nothing if there are more; -1 means MaxDelete, and at most half of the destination

	SizeOnly bool        // files of the same size are the same
	Sums     *sums.Cache // of the directory, saved at the end; nil means none

	// Done is called with the outcome of each file, by one goroutine at a time. Progress is called concurrently. Warn is
	// called with warnings. If nil, they are not called.
	Done     func(Entry)
	Progress func(Progress)
	Warn     func(text string)
}

// A Progress is the progress of a job.
type Progress struct {
	Bytes, TotalBytes int64 // skipped files count as well
	Earlier           int64 // part of Bytes: of skipped files, and of earlier runs
	Files, TotalFiles int64
	Keys              int64 // keys that the store has listed
	Listing           bool  // the totals may still grow
}

// An item is one file to be copied.
type item struct {
	endpoint.Item

	existing endpoint.Item // the item in the listing of the destination
	exists   bool          // existing is set
	unknown  bool          // the listing of the destination is incomplete
}

// ahead is how many items are listed ahead of the copies, so that copies do not wait for the listing and the totals are known
// early.
const ahead = 4 << 10

// A run is a running Job.
type run struct {
	*Job

	dir   *transfer.Tree      // nil if Dir does not exist
	fold  func(string) string // maps all names of one file to the same name; nil if each file has one
	items chan item
	stop  context.CancelCauseFunc // ends the copies
	out   atomic.Bool             // a failure concerns all files
	cut   atomic.Bool             // the listing is incomplete

	connected bool // the stores are

	listed, listedBytes atomic.Int64
	unchosen            atomic.Int64
	keys                atomic.Int64
	listing             atomic.Bool
	moved, files        atomic.Int64
	earlier             atomic.Int64 // part of moved that this run has not transferred
	unsummed            atomic.Int64

	unrecorded sync.Once // a record could not be written

	mu        sync.Mutex
	summary   Summary  // guarded by mu, like the fields below
	failures  []string // the first names in order
	permanent bool     // a failure is permanent
	pruning   bool     // the copies are complete
}

// Run copies. It returns nil if all files are copied or skipped. Its error has an exit code in package exit.
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
	r.summary.Unsummed = int(r.unsummed.Load())
	r.summary.Moved = max(0, r.moved.Load()-r.earlier.Load())
	if !r.DryRun {
		_ = r.Sums.Save() // without it, the next run reads the files
	}
	r.summary.Elapsed = time.Since(begun)
	return r.summary, err
}

// connect connects the stores.
func (r *run) connect(ctx context.Context) error {
	r.connected = true
	for as, e := range []endpoint.Endpoint{endpoint.Source: r.From, endpoint.Destination: r.To} {
		if e == nil {
			continue
		}
		if err := e.Connect(ctx, r.Session, endpoint.Role(as)); err != nil {
			return err
		}
	}
	return r.Session.Unused()
}

func (r *run) run(ctx context.Context) (err error) {
	open, list, one := r.connect, r.listTo, r.across
	switch {
	case r.From == nil:
		open, one = r.openUp, r.up
	case r.To == nil:
		open, list, one = r.openDown, r.listDown, r.down
	}
	if r.Several {
		defer func() { err = errors.Join(err, r.From.Close(err == nil)) }()
	}
	if err = open(ctx); err != nil {
		return err
	}
	defer func() {
		if r.dir != nil {
			err = errors.Join(err, r.dir.Close(err == nil))
		}
	}()
	if err = r.all(ctx, list, one); err == nil && r.Delete {
		err = r.prune(ctx)
	}
	return cmp.Or(err, r.failed())
}

// chosen reports whether a file is meant, or may be below a directory that cannot be listed.
func (r *run) chosen(i endpoint.Item) bool {
	switch {
	case r.Chosen == nil:
		return true
	case i.Dir && i.Err != nil:
		return !r.Without(i.Rel)
	case r.Chosen(i.Rel):
		return true
	}
	r.unchosen.Add(1)
	return false
}

// all copies the items that list sends, several at a time, until there are no more or a failure concerns all of them.
func (r *run) all(ctx context.Context, list func(context.Context) error, one func(context.Context, item) (Entry, error)) error {
	copies, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	r.stop, r.items = stop, make(chan item, ahead)
	unlisted := make(chan error, 1)
	r.listing.Store(true)
	go func() {
		listed := r.reportUntil()
		err := list(ctx)
		listed()
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

// reportUntil reports progress every second until the returned function is called: a listing may have many pages without
// a key.
func (r *run) reportUntil() (stop func()) {
	ended, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				r.report()
			case <-ended:
				return
			}
		}
	}()
	return func() { close(ended); <-stopped }
}

// send sends an item to the copies. It reports whether to continue the listing.
func (r *run) send(ctx context.Context, i item) bool {
	if i.Size > 0 {
		r.listedBytes.Add(i.Size)
	}
	if r.listed.Add(1)%1024 == 0 {
		r.report()
	}
	select {
	case r.items <- i:
		if !r.out.Load() || r.From == nil {
			return true
		}
	case <-ctx.Done():
	}
	r.cut.Store(true)
	return false
}

// list lists a store, and reports progress: a listing may take long before the first copy.
func (r *run) list(ctx context.Context, store endpoint.Endpoint) iter.Seq2[endpoint.Item, error] {
	return func(yield func(endpoint.Item, error) bool) {
		for i, err := range store.List(ctx) {
			if r.keys.Add(1)%1024 == 0 {
				r.report()
			}
			if !yield(i, err) {
				return
			}
		}
	}
}

// outOfOrder warns if the listing of a store is out of order.
func (r *run) outOfOrder(store endpoint.Endpoint, l *listing) {
	if l.disorder && r.Warn != nil {
		r.Warn(store.String() + " is listed out of order: this takes more memory or more requests")
	}
}

// one copies one item and records its outcome.
func (r *run) one(ctx context.Context, i item, copyIt func(context.Context, item) (Entry, error)) {
	e, source := r.entry(i)
	at, err := cmp.Or(r.To, r.From).Join(i.Rel)
	if at != nil {
		e.Key = at.Key()
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
		e.Path, err = r.refused(e.Path, source, at, i.Err)
	case err != nil:
		err = endpoint.Explain("read", cmp.Or(e.Path, at.Where()), err)
	default:
		var done Entry
		done, err = copyIt(endpoint.WithSubject(ctx, i.Rel), i)
		if err == nil {
			e.Bytes, e.Checksum, e.Action, e.Reason = done.Bytes, done.Checksum, done.Action, done.Reason
		}
	}
	switch {
	case err != nil && ctx.Err() != nil:
		err = errUntried
	case r.stops(source, err):
		r.out.Store(true)
		r.stop(err)
	}
	r.record(e, err)
}

// entry returns the Entry of an item before its copy, and the address of its source if the sources are several.
func (r *run) entry(i item) (e Entry, source endpoint.Endpoint) {
	e.Bytes = max(i.Size, 0)
	if r.Dir != "" {
		e.Path = filepath.Join(r.Dir, filepath.FromSlash(i.Rel))
	}
	if r.Several {
		if source, _ = r.From.Join(i.Rel); source != nil {
			e.Source = source.String()
		}
	}
	return e, source
}

// refused returns the path for the Entry of an item that cannot be copied, and the error.
func (r *run) refused(path string, source, at endpoint.Endpoint, err error) (string, error) {
	switch {
	case r.From == nil:
		return path, endpoint.Explain("read", path, err)
	case source != nil:
		return path, endpoint.Explain("read", source.Where(), err)
	}
	return "", endpoint.Explain("refuse", at.Where(), err)
}

// meter returns the Progress of the copy of one item.
func (r *run) meter(i item) func(done, earlier, total int64) {
	last, before, unknown := int64(0), int64(0), i.Size < 0
	return func(done, earlier, total int64) {
		if unknown && total > 0 {
			r.listedBytes.Add(total)
			unknown = false
		}
		r.moved.Add(done - last)
		r.earlier.Add(earlier - before)
		last, before = done, earlier
		r.report()
	}
}

func (r *run) report() {
	if r.Progress != nil {
		r.Progress(Progress{r.moved.Load(), r.listedBytes.Load(), r.earlier.Load(), r.files.Load(), r.listed.Load(), r.keys.Load(), r.listing.Load()})
	}
}
