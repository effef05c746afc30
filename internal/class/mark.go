package class

import (
	"context"
	"errors"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/unwrap"
)

// A Mark wraps an error to which the operation has given a class, a wait, or the end of the operation.
type Mark struct {
	Err   error
	Class Class         // Unknown means that the mark gives no class
	Wait  time.Duration // that the server asked for; 0 means no wait
	Final bool          // no attempt follows, whatever the class is
}

// Error returns the text of Err.
func (m *Mark) Error() string { return m.Err.Error() }

// Unwrap returns Err.
func (m *Mark) Unwrap() error { return m.Err }

// RetryAfter returns Wait, and whether Wait is set.
func (m *Mark) RetryAfter() (time.Duration, bool) { return m.Wait, m.Wait > 0 }

// Marks are the facts about an error that take precedence over every policy.
type Marks struct {
	Class Class // of the outermost Mark, or Ignored if no call was made; otherwise Unknown
	Final bool  // a Mark forbids another attempt
	Retry bool  // the error may contain the error with which a retry has ended
}

// ReadMarks returns the marks in err.
func ReadMarks(err error) (m Marks) {
	noCall := false
	unwrap.Walk(err, func(err error) unwrap.Step {
		switch e := err.(type) { //nolint:errorlint // Walk unwraps
		case *Mark:
			first(&m.Class, e.Class)
			m.Final = m.Final || e.Final
		case interface{ noCall() }:
			noCall = true
		case interface{ end() (Class, bool) }:
			m.Retry = true
		}
		if _, ok := err.(interface{ As(target any) bool }); ok {
			m.Retry = true
		}
		return unwrap.Inward
	})
	if m.Class == Unknown && noCall {
		m.Class = Ignored
	}
	return m
}

// NoCall is embedded in an error that reports that no call was made. The class of such an error is Ignored.
type NoCall struct{}

func (NoCall) noCall() {}

// An End is embedded in the error with which a retry ends. It holds the class of the last attempt's error by the rules
// of the retry's own policy. The zero End holds no class.
type End struct {
	class Class
	known bool
	by    any
}

// EndOf returns the End of a retry whose last error is of class c, and whose attempts the *circuit.Breaker by has
// counted; by is nil without a breaker.
func EndOf(c Class, by any) End { return End{class: c, known: true, by: by} }

func (e End) end() (Class, bool) { return e.class, e.known }

func (e End) countedBy() any { return e.by }

// CountedBy returns the *circuit.Breaker that has counted the attempts of the retry that ended with err itself, or nil.
// A breaker around the retry does not count these attempts again.
func CountedBy(err error) any {
	if e, ok := err.(interface{ countedBy() any }); ok {
		return e.countedBy()
	}
	return nil
}

// A Stop is the error that says why a retry ended.
type Stop struct {
	Text  string
	Class Class // of a retry that ended so, if its last error has no class
	Like  error // a second error that Is reports true for; nil if there is no such error
}

// Error returns Text.
func (s *Stop) Error() string { return s.Text }

// Is reports whether target is Like.
func (s *Stop) Is(target error) bool { return s.Like != nil && target == s.Like }

// Ended returns the error of a call that ctx has ended, in which [errors.Is] finds both the cause of ctx and ctx.Err; nil
// while ctx is not done. If the cause is the result of another call, such as a sibling's, [errors.As] finds nothing in
// it: the *retry.Error in that cause is not about this call.
func Ended(ctx context.Context) error {
	err := ctx.Err()
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != err { //nolint:errorlint // without a cause of its own, ctx returns the same error
		return &ended{cause, err}
	}
	return err
}

// IsLate reports whether the context for which Ended returned err had reached its deadline. Otherwise the context was
// cancelled.
func IsLate(err error) bool {
	if e, ok := errors.AsType[*ended](err); ok {
		err = e.err
	}
	return errors.Is(err, context.DeadlineExceeded)
}

type ended struct{ cause, err error }

func (e *ended) Error() string { return e.cause.Error() }
func (e *ended) Unwrap() error { return e.err }

func (e *ended) Is(target error) bool { return errors.Is(e.cause, target) }

func (e *ended) As(target any) bool { return !isResult(e.cause) && errors.As(e.cause, target) }

// isResult reports whether err contains the result of an operation of this module.
func isResult(err error) bool {
	return unwrap.Any(err, func(err error) bool {
		switch err.(type) { //nolint:errorlint // Any unwraps
		case *Stop, interface{ noCall() }, interface{ end() (Class, bool) }:
			return true
		}
		return false
	})
}
