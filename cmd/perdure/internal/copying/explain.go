package copying

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/seed-0f2c7998/perdure/awsretry"
	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/place"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A cutError is an input that broke when some of it could not be taken back.
type cutError struct {
	err   error
	bytes int64
}

func (e *cutError) Error() string {
	return fmt.Sprintf("it broke after %d bytes, which are written and can't be taken back: %s", e.bytes, brief(e.err))
}
func (e *cutError) Unwrap() error { return e.err }

// A keptError is an error after which another run has something to go on with.
type keptError struct {
	err  error
	left string // in words
}

func (e *keptError) Error() string { return e.err.Error() + "; " + e.left }
func (e *keptError) Unwrap() error { return e.err }

// A placeError is an error with one line about what failed, and where.
type placeError struct {
	where string // and what was done
	err   error
}

func (e *placeError) Error() string { return e.where + ": " + reason(e.err) }
func (e *placeError) Unwrap() error { return e.err }

// explain returns err with what was done to which place.
func (c *copier) explain(do string, p place.Place, err error) error {
	where := do + " " + p.String()
	switch {
	case p.Kind == place.Web:
		where = fmt.Sprintf("%s %q", do, p) // a URL does not tell where it ends
	case p.Kind == place.Object && c.endpoint != "":
		where += " at " + redact.String(c.endpoint)
	case p.Kind == place.File && do == "write" && homeless(p.Path, err):
		err = errHomeless
	}
	return &placeError{where, err}
}

// errHomeless is the error of a file for which there is no directory.
var errHomeless = errors.New("there is no such directory: make it first")

// homeless reports whether err is the lack of the directory for path.
func homeless(path string, err error) bool {
	if !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	_, missing := os.Stat(filepath.Dir(path))
	return errors.Is(missing, fs.ErrNotExist)
}

// ended returns the error of all attempts, so that it begins with the place.
func ended(err error) error {
	e, all := err.(*retry.Error) //nolint:errorlint // of this package's own attempts
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

// reason is brief with what a retry has to say.
func reason(err error) string {
	e, ok := errors.AsType[*retry.Error](err)
	if !ok {
		return brief(err)
	}
	_, open := errors.AsType[*circuit.OpenError](e.Stop)
	text, attempts := e.Stop.Error(), "1 attempt"
	if e.Attempts > 1 {
		attempts = fmt.Sprintf("%d attempts", e.Attempts)
	}
	switch {
	case e.Attempts == 0:
	case open || errors.Is(e.Stop, retry.ErrRetryLater): // which say themselves after what
		text = "after " + attempts + ", " + text
	default:
		text += " after " + attempts
	}
	if !open && !e.RetryAt.IsZero() {
		text += " (retry at " + e.RetryAt.Format(time.RFC3339) + ")"
	}
	if e.Last != nil {
		text += ": " + brief(e.Last)
	}
	return text
}

// brief is the text of an error without the words that the clients put around
// it: what the service said, or what happened to the connection.
func brief(err error) string {
	if text := awsretry.Brief(err); text != "" {
		return text
	}
	if within := unwrapped(err); within != nil {
		return brief(within)
	}
	switch e := err.(type) { //nolint:errorlint // layer by layer
	case *httpretry.StatusError:
		return fmt.Sprintf("%d %s", e.Status, http.StatusText(e.Status))
	case *fs.PathError:
		return e.Err.Error()
	}
	if send, ok := errors.AsType[*smithyhttp.RequestSendError](err); ok {
		return brief(send)
	}
	return oneLine(redact.String(err.Error()))
}

// unwrapped returns the error in one that only puts words around it; nil: it is
// none of those.
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
	case *readError:
		return e.err
	case *writeError:
		return e.err
	case interface{ Unwrap() []error }:
		if all := e.Unwrap(); len(all) == 1 { // as errors.Join has it
			return all[0]
		}
	}
	return nil
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// A told error is an attempt's, for an event, in brief.
type told struct{ err error }

func (e told) Error() string { return brief(e.err) }
func (e told) Unwrap() error { return e.err }
