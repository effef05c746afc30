package endpoint

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/seed-0f2c7998/perdure/awsretry"
	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/pages"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/report"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/request"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/checksum"
	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A locatedError is an error with the operation and the address that it is of.
type locatedError struct {
	where string // operation and address, such as "read hour.csv"
	err   error
}

func (e *locatedError) Error() string { return e.where + ": " + reason(e.err) }
func (e *locatedError) Unwrap() error { return e.err }

// Explain returns err with the operation do, such as "read", and the address where. Its text is one line.
func Explain(do, where string, err error) error { return &locatedError{do + " " + where, err} }

// IsRead reports whether err is an error of Explain about reading a source.
func IsRead(err error) bool {
	at, ok := errors.AsType[*locatedError](err)
	return ok && strings.HasPrefix(at.where, "read ")
}

// Ended returns the error of several attempts, each with an error of Explain, so that its text begins with operation and
// address.
func Ended(err error) error {
	e, all := err.(*retry.Error) //nolint:errorlint // of the caller's own attempts
	last, ok := errors.AsType[*locatedError](err)
	switch {
	case !all || !ok:
		return err
	case errors.Is(e.Stop, retry.ErrPermanent):
		return e.Last
	}
	whole := *e
	whole.Last = last.err
	return &locatedError{last.where, &whole}
}

// ended returns the error of attempts that were not repeated, or else err.
func ended(err error) error {
	if e, ok := err.(*retry.Error); ok && errors.Is(e.Stop, retry.ErrPermanent) { //nolint:errorlint // of the caller's own attempts
		return e.Last
	}
	return err
}

// MayRestart reports whether fetching a source that broke from scratch may help: err is transient, and not the error of
// retries.
func MayRestart(err error) bool {
	_, retried := errors.AsType[*retry.Error](err)
	_, paged := errors.AsType[*pages.Error](err) // each was retried
	if _, unwanted := errors.AsType[checksum.UnwantedError](err); unwanted || retried || paged || errors.Is(err, httpretry.ErrNotIdempotent) {
		return false
	}
	for _, known := range []error{
		io.ErrUnexpectedEOF, httpretry.ErrNoValidator, httpretry.ErrChanged, httpretry.ErrWrongRange,
		objects.ErrChanged, objects.ErrChecksum, objects.ErrStalled, transfer.ErrChanged,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	_, digest := errors.AsType[*httpretry.DigestError](err)
	p := retry.Policy{}
	class, _ := p.ClassOf(err)
	return digest || class == retry.ClassTransient
}

// reason returns Brief with the attempts, the reason to stop and the instant to retry at.
func reason(err error) string {
	if elsewhere, ok := errors.AsType[*objects.RegionError](err); ok {
		return fmt.Sprintf("bucket %s is in region %s: %s", elsewhere.Bucket, elsewhere.Region, reason(elsewhere.Err))
	}
	if page, ok := errors.AsType[*pages.Error](err); ok {
		return fmt.Sprintf("page %d (%s): %s", page.Number, page.URL, reason(page.Err))
	}
	if more, ok := errors.AsType[*request.StatusError](err); ok {
		return reason(more.Err) + ": " + more.Body
	}
	e, ok := errors.AsType[*retry.Error](err)
	if !ok {
		return Brief(err)
	}
	_, refused := breakers.Refusal(e.Stop)
	text, attempts := e.Stop.Error(), "1 attempt"
	if e.Attempts > 1 {
		attempts = fmt.Sprintf("%d attempts", e.Attempts)
	}
	switch {
	case e.Attempts == 0:
	case refused || errors.Is(e.Stop, retry.ErrRetryLater): // whose texts begin with their cause
		text = "after " + attempts + ", " + text
	default:
		text += " after " + attempts
	}
	if !refused && !e.RetryAt.IsZero() {
		text += " (retry at " + e.RetryAt.Format(time.RFC3339) + ")"
	}
	if e.Last != nil {
		text += ": " + Brief(e.Last)
	}
	return text
}

// Brief returns the text of an error without the texts that the clients prepend: the service's message, or what happened to
// the connection.
func Brief(err error) string {
	if text := awsretry.Brief(err); text != "" {
		return text
	}
	if within := unwrapped(err); within != nil {
		return Brief(within)
	}
	if status, ok := errors.AsType[*httpretry.StatusError](err); ok && errors.Is(err, httpretry.ErrNotIdempotent) {
		return Brief(status) + " (not repeated: " + httpretry.ErrNotIdempotent.Error() + ")"
	}
	switch e := err.(type) { //nolint:errorlint // layer by layer
	case *httpretry.StatusError:
		return strings.TrimSpace(strconv.Itoa(e.Status) + " " + http.StatusText(e.Status)) // some statuses have no text
	case *httpretry.BodyError:
		return fmt.Sprintf("body broke after %s: %s; not resumed: %s", report.Bytes(e.Delivered), Brief(e.Break), reason(e.Stop))
	case *fs.PathError:
		return e.Err.Error()
	case *net.OpError:
		if e.Op != "dial" { // the address of the server is known, and that of the client tells nothing
			return broken(e)
		}
	}
	if send, ok := errors.AsType[*smithyhttp.RequestSendError](err); ok {
		return Brief(send)
	}
	if res, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && res.Err != nil {
		return Brief(res.Err)
	}
	return oneLine(redact.String(err.Error()))
}

// broken returns what ended a connection.
func broken(e *net.OpError) string {
	if errors.Is(e, net.ErrClosed) {
		return "connection closed"
	}
	if errno, ok := errors.AsType[syscall.Errno](e); ok {
		return errno.Error()
	}
	return oneLine(redact.String(e.Err.Error()))
}

// unwrapped returns the error in a wrapper that only adds text, or nil if err is no such wrapper.
func unwrapped(err error) error {
	switch e := err.(type) { //nolint:errorlint // layer by layer
	case *objects.Error:
		return e.Err
	case *smithy.OperationError:
		return e.Err
	case *smithyhttp.RequestSendError:
		return e.Err
	case *url.Error:
		return e.Err
	case *ReadError:
		return e.Err
	case *transfer.WriteError:
		return e.Err
	case interface{ Unwrap() []error }:
		if all := e.Unwrap(); len(all) == 1 { // of errors.Join
			return all[0]
		}
	case interface{ Unwrap() error }:
		if within := e.Unwrap(); within != nil && within.Error() == err.Error() { // of retry.Permanent
			return within
		}
	}
	return nil
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// A briefError is the error of an attempt with a brief text, for an event.
type briefError struct{ err error }

func (e briefError) Error() string {
	if status, ok := errors.AsType[*httpretry.StatusError](e.err); ok {
		return Brief(status) // without the URL: an event has its Subject
	}
	return Brief(e.err)
}
func (e briefError) Unwrap() error { return e.err }

// noParent returns the error of a file whose directory does not exist. It names the directory: path may be a link to it.
func noParent(path string) error {
	return fmt.Errorf("directory %s does not exist", quoted(filepath.Dir(path)))
}

// inPlace returns the error of a file that cannot be replaced, with a command that writes to it.
func inPlace(c *Copy, path string, err error) error {
	if !errors.Is(err, transfer.ErrInPlace) {
		return err
	}
	if _, missing := os.Lstat(path); missing != nil {
		return Denied(err)
	}
	return &inPlaceError{err, fmt.Sprintf("perdure copy %s - > %s", quoted(c.From.String()), quoted(path))}
}

// Denied returns the error of the system about a directory in which no file can be created.
func Denied(err error) error {
	if denied, ok := errors.AsType[*fs.PathError](err); ok {
		return denied
	}
	return err
}

// An inPlaceError suggests a command.
type inPlaceError struct {
	err     error
	command string
}

// quoted returns text quoted for a shell.
func quoted(text string) string {
	if !strings.ContainsFunc(text, func(c rune) bool {
		return !strings.ContainsRune("%+-./:=@_,", c) && !unicode.IsLetter(c) && !unicode.IsDigit(c)
	}) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

func (e *inPlaceError) Error() string {
	return transfer.ErrInPlace.Error() + ": to do that, run: " + e.command
}
func (e *inPlaceError) Unwrap() error { return e.err }

// ErrSize is the error of a source or a destination with another size than expected.
var ErrSize = errors.New("unexpected size")

// A watched reader reads until its context ends, reports progress, and returns errors as [*ReadError]. It returns io.EOF only
// if size and checksums are as expected.
type watched struct {
	ctx      context.Context //nolint:containedctx // of one copy
	in       io.Reader
	size     int64 // -1 if it is unknown
	done     int64
	progress func(done, total int64)
	sums     []expected
	verified string // what has verified the bytes, at the end
}

// An expected is a checksum that the bytes must have.
type expected struct {
	checksum.Sum

	hash  hash.Hash
	loose bool // a mismatch does not prove that the bytes differ
	given bool // the user has given the checksum
}

// watch returns a reader of in that verifies the checksum of in and want.
func watch(ctx context.Context, in *Input, want checksum.Sum, progress func(done, total int64)) *watched {
	w := &watched{ctx: ctx, in: in, size: in.Size, progress: progress, verified: "size"}
	if in.File != nil { // a file may grow: read its original size
		w.in = io.LimitReader(in, in.Size)
	}
	for _, sum := range []expected{{Sum: in.Checksum, loose: in.Inconclusive}, {Sum: want, given: true}} {
		if !sum.IsZero() {
			sum.hash = sum.New()
			w.sums = append(w.sums, sum)
		}
	}
	return w
}

func (w *watched) Read(p []byte) (int, error) {
	if w.ctx.Err() != nil {
		return 0, context.Cause(w.ctx)
	}
	n, err := w.in.Read(p)
	w.done += int64(n)
	w.progress(w.done, w.size)
	for _, sum := range w.sums {
		_, _ = sum.hash.Write(p[:n])
	}
	if err == io.EOF { //nolint:errorlint // io.EOF is never wrapped
		err = w.end()
	}
	if err != nil && err != io.EOF { //nolint:errorlint // as above
		err = &ReadError{err}
	}
	return n, err
}

// end returns io.EOF if size and checksums are as expected.
func (w *watched) end() error {
	if w.size >= 0 && w.done != w.size {
		return fmt.Errorf("%w: %d bytes, want %d", ErrSize, w.done, w.size)
	}
	for _, sum := range w.sums {
		got := sum.hash.Sum(nil)
		by, err := sum.Verify(got, sum.loose)
		if sum.given {
			err = sum.Want(got)
		}
		if err != nil {
			return err
		}
		if by != "size" {
			w.verified = by
		}
	}
	w.sums = nil // each is compared once
	return io.EOF
}
