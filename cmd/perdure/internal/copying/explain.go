package copying

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/httpretry"
)

// A cutError is an input that broke when some of it could not be taken back.
type cutError struct {
	err   error
	bytes int64
}

func (e *cutError) Error() string {
	return fmt.Sprintf("it broke after %d bytes, which are written and can't be taken back: %v", e.bytes, e.err)
}
func (e *cutError) Unwrap() error { return e.err }

// A placeError is an error that says what was done, and where.
type placeError struct {
	do    string // read, write
	place place
	err   error
}

func (e *placeError) Error() string { return fmt.Sprintf("%s %s: %v", e.do, e.place, e.err) }
func (e *placeError) Unwrap() error { return e.err }

// explain returns err with what was done to which place, unless it says so
// itself.
func explain(do string, p place, err error) error {
	if _, ok := errors.AsType[*objects.Error](err); ok {
		return err
	}
	if _, ok := errors.AsType[*fs.PathError](err); ok && p.kind == file {
		return err
	}
	if _, ok := errors.AsType[*httpretry.StatusError](err); ok {
		return err
	}
	return &placeError{do, p, err}
}
