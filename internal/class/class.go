// Package class finds the class of an error: from marks, from the error's own methods, and by general rules. Package
// circuit and package retry use it, so that both count the same error the same way.
package class

import "strconv"

// A Class says what an error means for a retry and for a breaker. Package retry documents the classes.
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

// Retried reports whether errors of class c are retried.
func (c Class) Retried() bool { return c == Transient || c == Throttled || c == Conflict }
