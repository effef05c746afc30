package dagster

import (
	"errors"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/pipes"
	"github.com/seed-0f2c7998/perdure/retry"
)

// final returns err as package pipes understands it: with the code that the
// process exits with, and the mark of its class if only the code tells that.
func final(err error) error {
	if _, panicked := errors.AsType[*pipes.PanicError](err); err == nil || panicked {
		return err
	}
	code, reason := exit.Code(err), err
	coded, ok := errors.AsType[*exit.Error](err)
	switch {
	case ok && coded.Told != nil:
		reason = coded.Told // the code is the child's
	case code == exit.Failed, code == exit.Usage:
		reason = retry.Permanent(err)
	case code == exit.Unavailable:
		reason = &givenUp{err}
	}
	return &exit.Error{Code: code, Err: reason}
}

// A givenUp error is one that another run of the command may get over.
type givenUp struct{ err error }

func (e *givenUp) Error() string   { return e.err.Error() }
func (e *givenUp) Unwrap() []error { return []error{e.err, retry.ErrExhausted} }
