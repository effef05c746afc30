package endpoint

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/seed-0f2c7998/perdure/awsretry"
	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/checksum"
	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A placeError is an error with one line about what failed, and where.
type placeError struct {
	where string // and what was done
	err   error
}

func (e *placeError) Error() string { return e.where + ": " + reason(e.err) }
func (e *placeError) Unwrap() error { return e.err }

// Explain returns err with what was done, as "read", and where, in one line.
func Explain(do, where string, err error) error { return &placeError{do + " " + where, err} }

// Ended returns the error of several attempts of which each has an error of Explain, so that it begins with the place.
func Ended(err error) error {
	e, all := err.(*retry.Error) //nolint:errorlint // of the caller's own attempts
	last, ok := errors.AsType[*placeError](err)
	switch {
	case !all || !ok:
		return err
	case errors.Is(e.Stop, retry.ErrPermanent):
		return e.Last
	}
	whole := *e
	whole.Last = last.err
	return &placeError{last.where, &whole}
}

// MayRestart reports whether a source that broke may come whole the next time: if it has not been retried already.
func MayRestart(err error) bool {
	_, retried := errors.AsType[*retry.Error](err)
	if _, unwanted := errors.AsType[checksum.UnwantedError](err); unwanted || retried {
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

// reason is Brief with what a retry has to say.
func reason(err error) string {
	if elsewhere, ok := errors.AsType[*objects.RegionError](err); ok {
		return fmt.Sprintf("bucket %s is in region %s: %s", elsewhere.Bucket, elsewhere.Region, reason(elsewhere.Err))
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
	case refused || errors.Is(e.Stop, retry.ErrRetryLater): // which say themselves after what
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

// Brief is the text of an error without the words that the clients put around it: what the service said, or what happened
// to the connection.
func Brief(err error) string {
	if text := awsretry.Brief(err); text != "" {
		return text
	}
	if within := unwrapped(err); within != nil {
		return Brief(within)
	}
	switch e := err.(type) { //nolint:errorlint // layer by layer
	case *httpretry.StatusError:
		return strings.TrimSpace(strconv.Itoa(e.Status) + " " + http.StatusText(e.Status)) // a CDN has statuses without a text
	case *fs.PathError:
		return e.Err.Error()
	}
	if send, ok := errors.AsType[*smithyhttp.RequestSendError](err); ok {
		return Brief(send)
	}
	if res, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && res.Err != nil {
		return Brief(res.Err)
	}
	return oneLine(redact.String(err.Error()))
}

// unwrapped returns the error in one that only puts words around it; nil: it is none of those.
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
		if all := e.Unwrap(); len(all) == 1 { // as errors.Join has it
			return all[0]
		}
	}
	return nil
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// A told error is an attempt's, for an event, in brief; located, with the object that it is of.
type told struct {
	err     error
	located bool
}

func (e told) Error() string {
	if bucket, key := awsretry.Object(e.err); e.located && bucket != "" {
		return "s3://" + bucket + "/" + key + ": " + Brief(e.err)
	}
	return Brief(e.err)
}
func (e told) Unwrap() error { return e.err }

// ExplainWrite is Explain for writing the file of that path.
func ExplainWrite(path string, err error) error {
	if _, missing := os.Stat(filepath.Dir(path)); errors.Is(err, fs.ErrNotExist) && errors.Is(missing, fs.ErrNotExist) {
		err = noParent(path)
	}
	return Explain("write", path, err)
}

// noParent is the error of a file whose directory does not exist. It names that, since a link may lead there.
func noParent(path string) error {
	return fmt.Errorf("the directory %s does not exist: make it first", quoted(filepath.Dir(path)))
}

// inPlace returns err with the way that is left for a file that can't be replaced.
func inPlace(c *Copy, path string, err error) error {
	if !errors.Is(err, transfer.ErrInPlace) {
		return err
	}
	if _, missing := os.Lstat(path); missing != nil {
		return Denied(err)
	}
	return &inPlaceError{err, fmt.Sprintf("perdure copy %s - > %s", quoted(c.From.String()), quoted(path))}
}

// Denied returns what the system has said of a directory that takes no file.
func Denied(err error) error {
	if denied, ok := errors.AsType[*fs.PathError](err); ok {
		return denied
	}
	return err
}

// An inPlaceError says what to do instead.
type inPlaceError struct {
	err error
	way string
}

// quoted returns text as a word of a shell.
func quoted(text string) string {
	if !strings.ContainsFunc(text, func(c rune) bool {
		return !strings.ContainsRune("%+-./:=@_,", c) && !unicode.IsLetter(c) && !unicode.IsDigit(c)
	}) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

func (e *inPlaceError) Error() string {
	return transfer.ErrInPlace.Error() + ": to do that, run: " + e.way
}
func (e *inPlaceError) Unwrap() error { return e.err }

// ErrSize is the error of a source that ended too early, or of a destination that got less.
var ErrSize = errors.New("the size is not what it was said to be")

// A watched reader reads for as long as its context lasts, tells how far it has come, and marks its errors as those of the
// source. It ends well only where the source was said to end, with the bytes that are wanted.
type watched struct {
	ctx      context.Context //nolint:containedctx // of one copy
	in       io.Reader
	size     int64 // -1: not known
	done     int64
	progress func(done, total int64)
	sums     []expected
	verified string // by what, once all has come
}

// An expected is a checksum that the bytes must have.
type expected struct {
	checksum.Sum

	hash  hash.Hash
	loose bool // a difference proves nothing
	given bool // it is what the user has given
}

// watch returns what reads in, which must have its own checksum and the one that is wanted.
func watch(ctx context.Context, in *Input, want checksum.Sum, progress func(done, total int64)) *watched {
	w := &watched{ctx: ctx, in: in, size: in.Size, progress: progress, verified: "size"}
	if in.File != nil { // a file that grows is as long as it was
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
	if err == io.EOF { //nolint:errorlint // the end itself, as readers give it
		err = w.end()
	}
	if err != nil && err != io.EOF { //nolint:errorlint // as above
		err = &ReadError{err}
	}
	return n, err
}

// end returns io.EOF if all has come as it was to come.
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
