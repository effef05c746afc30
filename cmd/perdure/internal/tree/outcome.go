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
	Skipped = "skipped" // it is there already
	Linked  = "link"    // it is a link, and links are left out
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

// A Summary is what has become of all.
type Summary struct {
	Copied, Skipped, Failed int
	Linked                  int   // links that were left out
	Untried                 int   // of those that failed: the job stopped before
	Bytes                   int64 // copied
	Requests, Retries       int
	Elapsed                 time.Duration
}

// Total returns how many files there were to copy, as far as that was found out.
func (s Summary) Total() int { return s.Copied + s.Skipped + s.Linked + s.Failed }

// errUntried is the error of a file that was not copied when the job stopped.
var errUntried = errors.New("the copy was stopped before")

// record tells what has become of an item.
func (r *run) record(e Entry, err error) {
	r.files.Add(1)
	r.tell()
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil && e.Action == Skipped:
		r.summary.Skipped++
	case err == nil && e.Action == Linked:
		r.summary.Linked++
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
			r.failed(name(e))
		}
	}
	if r.Manifest != nil {
		line, _ := json.Marshal(e)                  // it is strings and numbers
		_, _ = r.Manifest.Write(append(line, '\n')) // whoever gave it knows of its errors
	}
	if r.Done != nil && !errors.Is(err, errUntried) {
		r.Done(e)
	}
}

// failed keeps the first names in order.
func (r *run) failed(name string) {
	n, _ := slices.BinarySearch(r.failures, name)
	if r.failures = slices.Insert(r.failures, n, name); len(r.failures) > most {
		r.failures = r.failures[:most]
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

// errObject is the error of a source that is one place, with nothing below it.
var errObject = errors.New("is an object, and there is nothing below it: copy it without -r")

// errEmpty is the error of a source in which there is nothing.
var errEmpty = errors.New("there is nothing to copy: is it misspelt? --allow-empty says that this may be")

// end returns the error of the job; cause is why it stopped, and unlisted why not all was listed, if that is so.
func (r *run) end(cause, unlisted error) error {
	total, source := r.summary.Total(), r.Dir
	if !r.Up {
		source = r.Remote.String()
	}
	switch {
	case cause != nil:
		return r.stopped(cause, r.cut.Load() || unlisted != nil)
	case unlisted != nil:
		return unlisted
	case total == 0 && !r.AllowEmpty:
		return endpoint.Explain("read", source, errEmpty)
	case total == 0 && r.Warn != nil:
		r.Warn("There is nothing to copy")
	}
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
	return &exit.Error{Code: code, Err: fmt.Errorf("%d of %d files are not copied: %s", r.summary.Failed, total, names)}
}

// stopped returns cause, with what is left in words, if anything is. more says that not all was listed.
func (r *run) stopped(cause error, more bool) error {
	rest := fmt.Sprintf("%d of %d files are left", r.summary.Untried, r.summary.Total())
	switch {
	case r.summary.Untried == 0 && (!more || r.summary.Total() == 0):
		return cause
	case r.summary.Untried == 0:
		rest = "all files that were not listed yet are left"
	case more:
		rest += ", and all that were not listed yet"
	}
	return &stopped{cause, rest}
}

// A stopped job is one that did not get to its end.
type stopped struct {
	cause error
	rest  string // what was not tried, in words
}

func (e *stopped) Error() string { return e.cause.Error() + "; " + e.rest }
func (e *stopped) Unwrap() error { return e.cause }

// stops reports whether err would be every other file's as well: the bucket, the
// credentials, a breaker that admits no call, a server that wants to be asked later, a disk
// that is full.
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
