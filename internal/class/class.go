// Package class says what an error means, by what the error says of itself and by what is known of errors in general.
// Package circuit and package retry classify by it, so that both count the same error the same way.
package class

import "strconv"

// A Class is what an error means for a retry and for a breaker. See the classes of package retry, which are the same.
type Class uint8

// The classes.
const (
	Unknown Class = iota
	Transient
	Throttled
	Conflict
	Permanent
	Ignored
)

// String returns unknown, transient, throttled, conflict, permanent or ignored.
func (c Class) String() string {
	names := [...]string{"unknown", "transient", "throttled", "conflict", "permanent", "ignored"}
	if int(c) < len(names) {
		return names[c]
	}
	return "Class(" + strconv.Itoa(int(c)) + ")"
}

// Retried reports whether an error of this class is worth another attempt.
func (c Class) Retried() bool { return c == Transient || c == Throttled || c == Conflict }
