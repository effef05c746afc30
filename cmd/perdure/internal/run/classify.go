package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A Failure is an attempt that did not end well. Its text holds none of the
// command's arguments: they may be secrets.
type Failure struct {
	Code     int           // exit code, or 128 and the number of the signal that ended it
	Signal   os.Signal     // that ended it; nil if it exited by itself
	TimedOut time.Duration // that it was given, if it was stopped because that was over; else 0
	Start    error         // why it could not be started; nil if it was
	User     bool          // somebody at the terminal ended it
	Told     error         // what the attempt itself has told, see Command.Each; nil: nothing
}

// Error says how the attempt ended.
func (f *Failure) Error() string {
	switch {
	case f.Start != nil:
		return f.Start.Error()
	case f.TimedOut > 0:
		return fmt.Sprintf("timed out after %v", f.TimedOut)
	case f.Signal != nil:
		return "ended by signal: " + f.Signal.String()
	default:
		return fmt.Sprintf("exit status %d", f.Code)
	}
}

// Unwrap makes a timeout one for retry_on and ignore_on as well.
func (f *Failure) Unwrap() error {
	if f.TimedOut > 0 {
		return context.DeadlineExceeded
	}
	return cmp.Or(f.Start, f.Told)
}

// unstarted returns the failure of a command that could not be started, with
// the codes that shells use.
func unstarted(name string, err error) *Failure {
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return &Failure{Code: exit.NotFound, Start: fmt.Errorf("%s: command not found", name)}
	case errors.Is(err, fs.ErrPermission):
		return &Failure{Code: exit.NotExecutable, Start: fmt.Errorf("%s: permission denied", name)}
	}
	if e, ok := errors.AsType[*os.PathError](err); ok {
		err = e.Err
	}
	f := &Failure{Code: exit.NotExecutable, Start: fmt.Errorf("%s: %w", name, err)}
	if passing(err) {
		f.Code = exit.TryLater
	}
	return f
}

// timedOut returns the failure of an attempt that was stopped by its timeout.
// If it then said that all was well, it had not come to its end all the same.
func timedOut(f *Failure, limit time.Duration) *Failure {
	if f == nil {
		f = &Failure{Code: exit.TimedOut}
	}
	f.TimedOut = limit
	return f
}

// passing reports whether the system lacked what may be there again soon.
func passing(err error) bool {
	return errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.ENOMEM) ||
		errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// Classify returns the Policy.Classify of commands: a code of stop is not
// worth a retry, and if there is a list of codes to retry, no other code is.
// Whatever the lists, a timeout is, and what cannot be started is not.
func Classify(again, stop *Codes) func(error) retry.Class {
	return func(err error) retry.Class {
		f, ok := errors.AsType[*Failure](err)
		switch {
		case !ok:
			return retry.ClassUnknown
		case f.User:
			return retry.ClassIgnored
		case f.Start != nil && passing(f.Start), f.TimedOut > 0:
			return retry.ClassTransient
		case f.Start != nil, stop.has(f.Code), len(again.ranges) > 0 && !again.has(f.Code):
			return retry.ClassPermanent
		case f.Signal == syscall.SIGPIPE && !again.has(f.Code):
			return retry.ClassPermanent // nobody reads what it writes, nor would of another attempt
		default:
			return retry.ClassTransient
		}
	}
}

// Chosen returns the Command.Mark of a list of codes to retry: the policy's RetryOn chooses among the other failures,
// and does not take these back.
func Chosen(again, stop *Codes) func(error) error {
	return func(err error) error {
		f, ok := errors.AsType[*Failure](err)
		if ok && f.Start == nil && !f.User && f.TimedOut == 0 && again.has(f.Code) && !stop.has(f.Code) {
			return retry.Transient(err)
		}
		return err
	}
}

// Codes is a set of exit codes, as "1,2,64-78". Its zero value is empty. It is
// a flag's value.
type Codes struct{ ranges []codeRange }

type codeRange struct{ low, high int }

// wantCodes is what the text of a set may be.
const wantCodes = "exit codes from 1 to 255 and ranges of them, as 1,2,64-78"

// Set adds the codes that text says.
func (c *Codes) Set(text string) error {
	for part := range strings.SplitSeq(text, ",") {
		from, to, isRange := strings.Cut(part, "-")
		low, ok := code(from)
		high := low
		if ok && isRange {
			high, ok = code(to)
		}
		if !ok || low > high {
			return setting.Bad("exit codes", text, wantCodes)
		}
		c.ranges = append(c.ranges, codeRange{low, high})
	}
	return nil
}

func code(text string) (int, bool) {
	n, err := strconv.Atoi(strings.TrimSpace(text))
	return n, err == nil && n >= 1 && n <= 255
}

// String returns the set as Set reads it.
func (c *Codes) String() string {
	parts := make([]string, len(c.ranges))
	for i, r := range c.ranges {
		parts[i] = strconv.Itoa(r.low)
		if r.high > r.low {
			parts[i] = fmt.Sprintf("%d-%d", r.low, r.high)
		}
	}
	return strings.Join(parts, ",")
}

// Type is what a help text calls the value.
func (c *Codes) Type() string { return "codes" }

// has reports whether n is in the set.
func (c *Codes) has(n int) bool {
	for _, r := range c.ranges {
		if r.low <= n && n <= r.high {
			return true
		}
	}
	return false
}
