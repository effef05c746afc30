// Package tree copies the files of a directory to a store, or objects of a store
// to a directory: many at a time, and only those that are not there yet. It
// deletes nothing.
//
// One file's failure does not keep the others from being copied, unless it would
// be the same for all of them.
package tree

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/aws/smithy-go"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/copying"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A Job says what to copy where. It is used once.
type Job struct {
	copying.Tree

	Link     *copying.Job // endpoint, policy, and who is told of retries; its Source and Destination are not used
	Parallel int          // files at a time; 0 is 16
	Manifest io.Writer    // gets an Entry a line, as JSON; nil: nobody asks

	// Done is told of each file, and Progress how far it has come; nil: nobody asks.
	// Done is called by one goroutine at a time, Progress by several at once.
	Done     func(Entry)
	Progress func(Progress)
	Warn     func(text string)
}

// The actions of an Entry.
const (
	Copied  = "copied"
	Skipped = "skipped" // it is there already
	Failed  = "failed"
)

// An Entry is what has become of one file, and a line of the manifest.
type Entry struct {
	Path     string `json:"path"` // of the file; "" if there can be none
	Key      string `json:"key"`  // of the object; "" if there can be none
	Bytes    int64  `json:"bytes"`
	Checksum string `json:"checksum,omitempty"` // of all of it, as "crc32:...", by which it was verified or found to be there
	Action   string `json:"action"`
	Error    string `json:"error,omitempty"`
}

// A Progress is how far a job has come.
type Progress struct {
	Bytes, TotalBytes int64 // those that need not be copied count as well
	Files, TotalFiles int
}

// A Summary is what has become of all.
type Summary struct {
	Copied, Skipped, Failed int
	Untried                 int   // of those that failed: the job stopped before
	Bytes                   int64 // copied
	Requests, Retries       int
	Elapsed                 time.Duration
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
	unwritten error    // what is wrong with the manifest
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
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, cause) {
		err = cause
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

// errUntried is the error of a file that was not copied when the job stopped.
var errUntried = errors.New("the copy was stopped before")

func (r *run) untried(items []item) {
	for _, i := range items {
		r.record(Entry{Path: i.path, Key: i.key, Bytes: i.size}, errUntried)
	}
}

// record tells what has become of an item.
func (r *run) record(e Entry, err error) {
	r.files.Add(1)
	r.tell()
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil && e.Action == Skipped:
		r.summary.Skipped++
	case err == nil:
		r.summary.Copied++
		r.summary.Bytes += e.Bytes
	default:
		e.Action, e.Error = Failed, err.Error()
		r.summary.Failed++
		if errors.Is(err, errUntried) {
			r.summary.Untried++
		} else {
			r.permanent = r.permanent || exit.Code(err) == exit.Failed
			r.failures = append(r.failures, name(e))
		}
	}
	if r.Manifest != nil && r.unwritten == nil {
		line, _ := json.Marshal(e) // it is strings and numbers
		_, r.unwritten = r.Manifest.Write(append(line, '\n'))
	}
	if r.Done != nil && !errors.Is(err, errUntried) {
		r.Done(e)
	}
}

// name returns what a person calls a file.
func name(e Entry) string {
	if e.Path != "" {
		return e.Path
	}
	return e.Key
}

// most is how many failures the last line names.
const most = 10

// end returns the error of the job; cause is why it stopped, if it did.
func (r *run) end(cause error) error {
	total := len(r.items)
	switch {
	case cause != nil && r.summary.Untried > 0:
		return &stopped{cause, fmt.Sprintf("%d of %d files are left", r.summary.Untried, total)}
	case cause != nil:
		return cause
	case r.unwritten != nil:
		return copying.Explain("write", "the manifest", r.unwritten)
	case r.summary.Failed == 0:
		return nil
	}
	code := exit.Unavailable
	if r.permanent {
		code = exit.Failed
	}
	slices.Sort(r.failures)
	names := strings.Join(r.failures[:min(most, len(r.failures))], ", ")
	if more := len(r.failures) - most; more > 0 {
		names += fmt.Sprintf(" and %d more", more)
	}
	return &exit.Error{Code: code, Err: fmt.Errorf("%d of %d files are not copied: %s", r.summary.Failed, total, names)}
}

// A stopped job is one that did not get to its end.
type stopped struct {
	cause error
	rest  string // what was not tried, in words
}

func (e *stopped) Error() string { return e.cause.Error() + "; " + e.rest }
func (e *stopped) Unwrap() error { return e.cause }

// stops reports whether err would be every other file's as well: the bucket, the
// credentials, an open breaker, a server that wants to be asked later, a disk
// that is full.
func stops(err error) bool {
	if _, open := errors.AsType[*circuit.OpenError](err); open || errors.Is(err, retry.ErrRetryLater) || errors.Is(err, syscall.ENOSPC) {
		return true
	}
	api, ok := errors.AsType[smithy.APIError](err)
	return ok && slices.Contains([]string{
		"NoSuchBucket", "InvalidBucketName", "PermanentRedirect", "AllAccessDisabled",
		"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired",
		"AccountProblem", "NotSignedUp", "UnauthorizedAccess", "RequestTimeTooSkewed",
	}, api.ErrorCode())
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
