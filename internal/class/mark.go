package class

import (
	"time"

	"github.com/seed-0f2c7998/perdure/internal/unwrap"
)

// A Mark is an error with a class that whoever returned it has given it, and perhaps the wait that the server asked
// for, or the word that no attempt may follow.
type Mark struct {
	Err   error
	Class Class         // Unknown: the mark says nothing of it
	Wait  time.Duration // 0: none
	Final bool          // no attempt follows, whatever the class is
}

// Error returns the text of Err.
func (m *Mark) Error() string { return m.Err.Error() }

// Unwrap returns Err.
func (m *Mark) Unwrap() error { return m.Err }

// RetryAfter returns Wait, and whether there is one.
func (m *Mark) RetryAfter() (time.Duration, bool) { return m.Wait, m.Wait > 0 }

// IsFinal reports whether a mark in err forbids another attempt.
func IsFinal(err error) bool {
	return unwrap.Any(err, func(err error) bool {
		m, ok := err.(*Mark) //nolint:errorlint // Any unwraps
		return ok && m.Final
	})
}

// NoCall is embedded by an error that says that no call was made. Such an error is Ignored.
type NoCall struct{}

func (NoCall) noCall() {}

// An End is embedded by the error with which a retry ends. It holds the class of the last attempt's error by the rules
// of the retry's own policy. The zero End holds none.
type End struct {
	class Class
	known bool
}

// EndOf returns the End of a retry whose last error is of class c.
func EndOf(c Class) End { return End{class: c, known: true} }

func (e End) end() (Class, bool) { return e.class, e.known }

// A Reason is why a retry ended. Its class is that of a retry that ended for this reason and whose last error says
// nothing else.
type Reason struct {
	Text  string
	Class Class
}

// Error returns Text.
func (r *Reason) Error() string { return r.Text }
