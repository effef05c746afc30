package tree

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/aws/smithy-go"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/retry"
)

// The actions of an Entry.
const (
	Copied  = "copied"
	Skipped = "skipped" // the destination has the file
	Linked  = "link"    // a link was skipped
	Failed  = "failed"
	Deleted = "deleted" // the source has not the file

	WouldCopy   = "would copy" // of a dry run
	WouldSkip   = "would skip"
	WouldDelete = "would delete"
)

// An Entry is the outcome of one file, and a line of the manifest.
type Entry struct {
	Path     string `json:"path"`             // of the file; "" if there cannot be one, or both sides are stores
	Key      string `json:"key"`              // of the object, that of the destination if both sides are stores; "" if there cannot be one
	Source   string `json:"source,omitempty"` // address of the source, if the sources are several
	Bytes    int64  `json:"bytes"`
	Checksum string `json:"checksum,omitempty"` // that has verified the copy or the existing file, such as "crc32:..."
	Action   string `json:"action"`
	Reason   string `json:"reason,omitempty"` // of the action of a dry run, such as "other size"
	Error    string `json:"error,omitempty"`

	RetryAt time.Time `json:"-"` // of Error, as package exit returns it
}

// A Summary is the outcome of all files.
type Summary struct {
	Copied, Skipped, Failed int
	Deleted                 int
	Linked                  int   // skipped links
	Unsummed                int   // part of Copied: there was a file, and no checksum to compare
	Untried                 int   // part of Failed: the job stopped before
	Bytes                   int64 // copied
	Moved                   int64 // bytes that this run has transferred: also of failed files, and not what an earlier run has
	Requests, Retries       int
	Elapsed                 time.Duration
}

// Total returns how many files were found.
func (s Summary) Total() int { return s.Copied + s.Skipped + s.Deleted + s.Linked + s.Failed }

// errUntried is the error of a file that was not copied when the job stopped.
var errUntried = errors.New("not tried: the copy was stopped before")

// record records the outcome of an item.
func (r *run) record(e Entry, err error) {
	r.files.Add(1)
	r.report()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.summary.count(e)
	} else {
		e.Action, e.Error, e.RetryAt = Failed, err.Error(), exit.RetryAt(err)
		r.summary.Failed++
		if errors.Is(err, errUntried) {
			r.summary.Untried++
		} else {
			r.permanent = r.permanent || exit.Code(err) == exit.Failed
			r.keep(name(e))
		}
	}
	if r.Manifest != nil {
		line, _ := json.Marshal(e)                  // strings and numbers cannot fail
		_, _ = r.Manifest.Write(append(line, '\n')) // the manifest returns its errors from End
	}
	if r.Done != nil && !errors.Is(err, errUntried) {
		r.Done(e)
	}
}

// count counts an Entry that is no failure.
func (s *Summary) count(e Entry) {
	switch e.Action {
	case Skipped, WouldSkip:
		s.Skipped++
	case Deleted, WouldDelete:
		s.Deleted++
	case Linked:
		s.Linked++
	default:
		s.Copied++
		s.Bytes += e.Bytes
	}
}

// keep keeps the first names of failures in order.
func (r *run) keep(name string) {
	n, _ := slices.BinarySearch(r.failures, name)
	if r.failures = slices.Insert(r.failures, n, name); len(r.failures) > most {
		r.failures = r.failures[:most]
	}
}

// name returns the path of a file, or its key.
func name(e Entry) string {
	if e.Path != "" {
		return e.Path
	}
	return e.Key
}

// most is how many failures the last line names.
const most = 10

// errObject is the error of a source that is one object, with nothing below it.
var errObject = errors.New("is one object: copy it without -r")

// errEmpty is the error of an empty source.
var errEmpty = errors.New("nothing to copy: check the spelling, or use --allow-empty")

// errUnchosen is the error of a source of which no file is chosen.
var errUnchosen = errors.New("--include and --exclude leave nothing to copy: check the patterns, or use --allow-empty")

// source returns the source for errors.
func (r *run) source() string {
	if r.From != nil {
		return r.From.String()
	}
	return r.Dir
}

// end returns the error of the job. cause is why the job stopped, unlisted why the listing is incomplete, or nil.
func (r *run) end(cause, unlisted error) error {
	total, source := r.summary.Total(), r.source()
	switch {
	case cause != nil:
		return r.stopped(cause, r.cut.Load() || unlisted != nil)
	case unlisted != nil:
		return unlisted
	case total == 0 && r.unchosen.Load() > 0:
		if !r.AllowNone && !r.AllowEmpty {
			return endpoint.Explain("read", source, errUnchosen)
		}
	case total == 0 && !r.AllowEmpty:
		return endpoint.Explain("read", source, errEmpty)
	case total == 0 && r.Warn != nil:
		r.Warn("Nothing to copy")
	}
	return r.failed()
}

// failed returns the error of the files that failed, or nil.
func (r *run) failed() error {
	if r.summary.Failed == 0 {
		return nil
	}
	code := exit.Unavailable
	if r.permanent {
		code = exit.Failed
	}
	names := strings.Join(r.failures, ", ")
	if more := r.summary.Failed - r.summary.Untried - len(r.failures); more > 0 {
		names += fmt.Sprintf(" and %d more", more)
	}
	what := "copied"
	if r.pruning {
		what = "deleted"
	}
	return &exit.Error{Code: code, Err: fmt.Errorf("%d of %d files were not %s: %s", r.summary.Failed, r.summary.Total(), what, names)}
}

// stopped returns cause with the number of files that were not tried. more says that the listing is incomplete.
func (r *run) stopped(cause error, more bool) error {
	rest := fmt.Sprintf("%d of %d files were not tried", r.summary.Untried, r.summary.Total())
	switch {
	case r.summary.Untried == 0 && (!more || r.summary.Total() == 0):
		return cause
	case r.summary.Untried == 0:
		rest = "files that were not listed yet were not tried"
	case more:
		rest += ", nor those that were not listed yet"
	}
	return &stopped{cause, rest}
}

// A stopped error is that of a job that has not tried all files.
type stopped struct {
	cause error
	rest  string // what was not tried, as a clause
}

func (e *stopped) Error() string { return e.cause.Error() + "; " + e.rest }
func (e *stopped) Unwrap() error { return e.cause }

// stops reports whether err ends the job. The breaker, or the Retry-After, of one of several sources does not.
func (r *run) stops(source endpoint.Endpoint, err error) bool {
	if _, refused := breakers.Refusal(err); source != nil && (refused || errors.Is(err, retry.ErrRetryLater)) && endpoint.IsRead(err) {
		return false
	}
	return stops(err)
}

// stops reports whether err concerns all files: the bucket, the credentials, an open
// breaker, a Retry-After, a full disk.
func stops(err error) bool {
	if _, refused := breakers.Refusal(err); refused || errors.Is(err, retry.ErrRetryLater) || errors.Is(err, syscall.ENOSPC) {
		return true
	}
	api, ok := errors.AsType[smithy.APIError](err)
	return ok && slices.Contains([]string{
		"NoSuchBucket", "InvalidBucketName", "PermanentRedirect", "AllAccessDisabled",
		"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired",
		"AccountProblem", "NotSignedUp", "UnauthorizedAccess", "RequestTimeTooSkewed",
	}, api.ErrorCode())
}
