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

// A Failure is the error of an attempt. Its text holds no argument of the command:
// arguments may be secrets.
type Failure struct {
	Code     int           // exit code, or 128 plus the number of Signal
	Signal   os.Signal     // signal that ended the attempt; nil if it exited
	TimedOut time.Duration // timeout that stopped the attempt; 0 if none did
	Start    error         // why the command could not be started; nil if it was
	User     bool          // the user ended the attempt from the terminal
	Output   Match         // what the last lines of its output match
	Reported error         // error that the attempt has reported, see Command.BeforeAttempt; nil if none
}

// Error returns how the attempt ended, and which flag its output matches.
func (f *Failure) Error() string {
	switch f.Output {
	case Retry:
		return f.ending() + " (output matches --retry-on-output)"
	case Stop:
		return f.ending() + " (output matches --stop-on-output)"
	default:
		return f.ending()
	}
}

func (f *Failure) ending() string {
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

// Unwrap returns context.DeadlineExceeded after a timeout, so that retry_on and ignore_on match it.
func (f *Failure) Unwrap() error {
	if f.TimedOut > 0 {
		return context.DeadlineExceeded
	}
	return cmp.Or(f.Start, f.Reported)
}

// unstarted returns the failure of a command that could not be started, with the exit
// codes of shells.
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

// timedOut returns the failure of an attempt that was stopped by its timeout, however it
// then ended.
func timedOut(f *Failure, limit time.Duration) *Failure {
	if f == nil {
		f = new(Failure)
	}
	f.Code, f.TimedOut = exit.TimedOut, limit
	return f
}

// passing reports whether the system lacked a resource that may soon be available again.
func passing(err error) bool {
	return errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.ENOMEM) ||
		errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// Classify returns the Policy.Classify of commands. An exit code in stop, or an output that
// matches outputs.Stop, is not retried. If again or outputs.Retry is not empty, only exit
// codes in again and outputs that match are retried. A timeout is retried, unless its
// output matches outputs.Stop; a command that cannot be started is never.
func Classify(again, stop *Codes, outputs *Outputs) func(error) retry.Class {
	chosen := len(again.ranges) > 0 || outputs.Retry.Any()
	return func(err error) retry.Class {
		f, ok := errors.AsType[*Failure](err)
		switch {
		case !ok:
			return retry.ClassUnknown
		case f.User:
			return retry.ClassIgnored
		case f.Output == Stop:
			return retry.ClassPermanent
		case f.Start != nil && passing(f.Start), f.TimedOut > 0:
			return retry.ClassTransient
		case f.Start != nil, stop.has(f.Code):
			return retry.ClassPermanent
		case f.Output == Retry:
			return retry.ClassTransient
		case chosen && !again.has(f.Code):
			return retry.ClassPermanent
		case f.Signal == syscall.SIGPIPE && !again.has(f.Code):
			return retry.ClassPermanent // the reader of its output is gone, for the next attempt too
		default:
			return retry.ClassTransient
		}
	}
}

// Chosen returns the Command.Mark that marks exit codes in again, and outputs that match,
// as transient: the policy's RetryOn does not exclude them.
func Chosen(again, stop *Codes) func(error) error {
	return func(err error) error {
		f, ok := errors.AsType[*Failure](err)
		if ok && f.Start == nil && !f.User && f.TimedOut == 0 && f.Output != Stop && !stop.has(f.Code) && (again.has(f.Code) || f.Output == Retry) {
			return retry.Transient(err)
		}
		return err
	}
}

// Codes is a set of exit codes, such as "1,2,64-78", and the value of a flag. The zero
// Codes is empty.
type Codes struct{ ranges []codeRange }

type codeRange struct{ low, high int }

// wantCodes describes the text that Set accepts.
const wantCodes = "exit codes from 1 to 255 and ranges of them, such as 1,2,64-78"

// Set adds the codes in text.
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

// String returns the set in the form that Set reads.
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

// Type returns the placeholder of the value in help texts.
func (c *Codes) Type() string { return "codes" }

// has reports whether n is in c.
func (c *Codes) has(n int) bool {
	for _, r := range c.ranges {
		if r.low <= n && n <= r.high {
			return true
		}
	}
	return false
}
