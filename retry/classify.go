package retry

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
)

// A Class is what an error means for a retry and for a breaker.
type Class uint8

// The classes.
const (
	ClassUnknown   Class = iota // ask the next rule
	ClassTransient              // it may pass: try again; a failure for the breaker
	ClassThrottled              // the server asks for less: as transient, but cheaper for the budget and perhaps slower
	ClassPermanent              // it will not pass: stop; for the breaker the service has answered
	ClassIgnored                // it says nothing of the service: stop; nothing for the breaker
)

// String returns unknown, transient, throttled, permanent or ignored.
func (c Class) String() string {
	names := [...]string{"unknown", "transient", "throttled", "permanent", "ignored"}
	if int(c) < len(names) {
		return names[c]
	}
	return "Class(" + strconv.Itoa(int(c)) + ")"
}

// Always is a Policy.Classify for operations whose every error is worth a
// retry, such as a script of one's own.
func Always(error) Class { return ClassTransient }

// A mark carries a class, and perhaps a hint, with an error; or the word that
// it is final, whatever its class.
type mark struct {
	err   error
	class Class // ClassUnknown: the mark says nothing of it
	after time.Duration
	final bool
}

func (m *mark) Error() string { return m.err.Error() }
func (m *mark) Unwrap() error { return m.err }

// RetryAfter is the hint of a mark made by [After].
func (m *mark) RetryAfter() (time.Duration, bool) { return m.after, m.after > 0 }

// Transient marks err as worth a retry, whatever the policy would say of it.
// Transient(nil) is nil.
func Transient(err error) error { return marked(err, ClassTransient, 0) }

// Permanent marks err as not worth a retry, whatever the policy would say of
// it. Permanent(nil) is nil.
func Permanent(err error) error { return marked(err, ClassPermanent, 0) }

// After marks err as throttled, and not to be tried again before d has passed,
// as a Retry-After header asks. After(nil, d) is nil; a d that is not positive
// asks for no wait.
func After(err error, d time.Duration) error { return marked(err, ClassThrottled, d) }

// Final marks err as not to be followed by another attempt, although its class
// stays what it is: for an operation that must not be repeated, of which a
// breaker shall learn all the same that it failed. Final(nil) is nil.
func Final(err error) error {
	if err == nil {
		return nil
	}
	return &mark{err: err, final: true}
}

func marked(err error, c Class, after time.Duration) error {
	if err == nil {
		return nil
	}
	return &mark{err: err, class: c, after: max(after, 0)}
}

// An error may have these methods, at any depth, to be understood.
type (
	coder interface { // as the AWS SDK's errors
		error
		ErrorCode() string
	}
	statuser interface { // as its response errors
		error
		HTTPStatusCode() int
	}
	hinter interface {
		error
		RetryAfter() (wait time.Duration, ok bool)
	}
)

// ClassOf returns the class of err under p, and the wait that err asks for, or
// 0. The first of these rules that knows decides: a mark on the error; a
// [*circuit.OpenError] is ignored; IgnoreOn, RetryOn, Classify; and what is known
// of errors in general: timeouts, refused and reset connections, unexpected
// ends, temporary DNS failures, the usual HTTP statuses and S3 codes are
// transient or throttled, all else is permanent.
// Wrapped and joined errors are seen through; no rule looks at an error's text.
func (p *Policy) ClassOf(err error) (Class, time.Duration) {
	return p.classify(Outcome{Err: err})
}

// classify is ClassOf for an attempt.
func (p *Policy) classify(o Outcome) (Class, time.Duration) {
	return p.class(o), hintOf(o.Err)
}

// hintOf returns the wait that err asks for: what the outermost error that
// says anything says, and of errors that are joined the longest, since none of
// their servers shall be asked early.
func hintOf(err error) (longest time.Duration) {
	if h, ok := err.(hinter); ok { //nolint:errorlint // this one; its own errors are next
		if wait, ok := h.RetryAfter(); ok && wait > 0 {
			return wait
		}
	}
	switch e := err.(type) { //nolint:errorlint // as above
	case interface{ Unwrap() error }:
		return hintOf(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			longest = max(longest, hintOf(err))
		}
	}
	return longest
}

// within reports whether is holds for err or any error in it, outermost first.
// Unlike [errors.AsType] it does not end with the first of a type: of errors
// that are joined each may be the one that counts.
func within(err error, is func(error) bool) bool {
	if err == nil || is(err) {
		return err != nil
	}
	switch e := err.(type) { //nolint:errorlint // this is what unwraps
	case interface{ Unwrap() error }:
		return within(e.Unwrap(), is)
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			if within(err, is) {
				return true
			}
		}
	}
	return false
}

func (p *Policy) class(o Outcome) Class {
	if errors.Is(o.Ended, context.Canceled) {
		return ClassIgnored
	}
	if o.Ended != nil { // the caller's deadline is a timeout like any other
		o.TimedOut = true
	}
	marked := ClassUnknown
	within(o.Err, func(err error) bool {
		if m, ok := err.(*mark); ok { //nolint:errorlint // within unwraps
			marked = m.class
		}
		return marked != ClassUnknown
	})
	if marked != ClassUnknown {
		return marked
	}
	if _, ok := errors.AsType[*circuit.OpenError](o.Err); ok {
		return ClassIgnored // no policy makes a call that was not made worth a wait
	}
	if len(p.IgnoreOn)+len(p.RetryOn) > 0 {
		if c := p.listedClass(o); c != ClassUnknown {
			return c
		}
	}
	if p.Classify != nil {
		if c := p.Classify(o.Err); c != ClassUnknown {
			return c
		}
	}
	if c := generalClass(o); c != ClassUnknown {
		return c
	}
	return ClassPermanent
}

// listedClass returns the class that the policy's lists give an error.
func (p *Policy) listedClass(o Outcome) Class {
	general := generalClass(o)
	switch {
	case listed(p.IgnoreOn, o, general):
		return ClassPermanent
	case !listed(p.RetryOn, o, general):
		return ClassUnknown
	case general == ClassThrottled:
		return ClassThrottled
	default:
		return ClassTransient
	}
}

// listed reports whether one of list names the error: by its code, its HTTP
// status, or one of the words timeout, connection and throttled.
func listed(list []string, o Outcome, general Class) bool {
	err := o.Err
	for _, name := range list {
		switch name {
		case "timeout":
			if o.TimedOut && general == ClassTransient || isTimeout(err) {
				return true
			}
		case "connection":
			if isConnection(err) {
				return true
			}
		case "throttled":
			if general == ClassThrottled {
				return true
			}
		}
	}
	if c, ok := errors.AsType[coder](err); ok && slices.Contains(list, c.ErrorCode()) {
		return true
	}
	s, ok := errors.AsType[statuser](err)
	return ok && slices.Contains(list, strconv.Itoa(s.HTTPStatusCode()))
}

// generalClass returns what is known of an error without any policy.
func generalClass(o Outcome) Class {
	c := errorClass(o.Err)
	if o.TimedOut && (c == ClassUnknown || c == ClassIgnored) {
		return ClassTransient // whatever the operation made of it
	}
	return c
}

func errorClass(err error) Class {
	if e, ok := errors.AsType[*Error](err); ok {
		return nestedClass(e)
	}
	if c, ok := errors.AsType[coder](err); ok {
		if class := codeClass(c.ErrorCode()); class != ClassUnknown {
			return class
		}
	}
	if s, ok := errors.AsType[statuser](err); ok {
		if class := StatusClass(s.HTTPStatusCode()); class != ClassUnknown {
			return class
		}
	}
	switch {
	case errors.Is(err, context.Canceled):
		return ClassIgnored
	case isTimeout(err), isConnection(err):
		return ClassTransient
	}
	return ClassUnknown
}

// nestedClass returns what an inner retry's end says of the service.
func nestedClass(e *Error) Class {
	switch {
	case errors.Is(e.Stop, ErrPermanent):
		return ClassPermanent
	case errors.Is(e.Stop, ErrExhausted), errors.Is(e.Stop, ErrDeadline), errors.Is(e.Stop, ErrBudget):
		return ClassTransient
	default:
		return ClassIgnored
	}
}

// StatusClass returns the class of an HTTP status: 429 is throttled; 408, 425,
// 500, 502, 503 and 504 are transient; every other one from 400 is permanent;
// below that it is unknown.
func StatusClass(status int) Class {
	switch status {
	case 429:
		return ClassThrottled
	case 408, 425, 500, 502, 503, 504:
		return ClassTransient
	}
	if status >= 400 {
		return ClassPermanent
	}
	return ClassUnknown
}

// codeClass returns the class of an error code of AWS and of S3-compatible stores.
func codeClass(code string) Class {
	switch code {
	case "SlowDown", "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled",
		"RequestThrottledException", "RequestLimitExceeded", "TooManyRequests", "TooManyRequestsException",
		"BandwidthLimitExceeded", "LimitExceededException", "ProvisionedThroughputExceededException",
		"PriorRequestNotComplete", "TransactionInProgressException", "EC2ThrottledException":
		return ClassThrottled
	case "InternalError", "InternalFailure", "InternalServerError", "ServiceUnavailable", "Busy",
		"RequestTimeout", "RequestTimeoutException", "OperationAborted", "ConditionalRequestConflict",
		"IncompleteBody":
		return ClassTransient
	case "AccessDenied", "AccessDeniedException", "NoSuchKey", "NoSuchBucket", "NotFound",
		"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "BadDigest", "PreconditionFailed":
		return ClassPermanent
	}
	return ClassUnknown
}

// isTimeout reports whether err is a timeout. It asks each net.Error in it,
// since one such as *url.Error sees no further than the next.
func isTimeout(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || within(err, func(err error) bool {
		e, ok := err.(net.Error) //nolint:errorlint // within unwraps
		return ok && e.Timeout()
	})
}

// isConnection reports whether err is a connection that could not be made or
// that broke, and may well be there the next time.
func isConnection(err error) bool {
	return within(err, func(err error) bool {
		switch e := err.(type) { //nolint:errorlint // within unwraps
		case syscall.Errno:
			return slices.Contains([]syscall.Errno{
				syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE,
				10061, 10054, 10053, // refused, reset and aborted as Windows numbers them
			}, e)
		case *net.OpError:
			// Reset while it was written to; "accept" is a server that was shut down.
			return e.Op != "accept" && errors.Is(e, net.ErrClosed)
		case *net.DNSError:
			return e.IsTemporary && !e.IsNotFound
		}
		return err == io.ErrUnexpectedEOF //nolint:errorlint // within unwraps
	})
}
