package outcome

import (
	"errors"
	"time"
)

// Grace is how long the reply to a COMMIT is awaited after the caller's context has ended.
const Grace = 5 * time.Second

// unsent reports whether nothing of the statement that failed with err reached the server, according to pgx.
func unsent(err error) bool {
	var e interface{ SafeToRetry() bool }
	return errors.As(err, &e) && e.SafeToRetry()
}

// FromServer reports whether err holds an SQLSTATE or an error number.
func FromServer(err error) bool {
	if _, ok := stateOf(err); ok {
		return true
	}
	_, _, ok := mysql(err)
	return ok
}

// RolledBack reports whether err, the error of a COMMIT, says that the transaction was not committed: the COMMIT was not
// sent, or the server has refused it. Errors of a server that shuts down or fails say nothing, since it may send them
// after it has committed.
func RolledBack(err error) bool {
	if unsent(err) {
		return true
	}
	if state, ok := stateOf(err); ok {
		return refused(state)
	}
	switch number, _, _ := mysql(err); number {
	case 1213, 1205, 1020, 3101, // conflicts
		1290, 1836, 1792: // read-only
		return true
	}
	return false
}

// refused reports whether a server that responds to COMMIT with state has rolled the transaction back.
func refused(state string) bool {
	if len(state) != 5 || state == "40003" { // statement completion unknown
		return false
	}
	switch state {
	case "57014", // cancelled, which is no longer possible once the commit is written
		"57P03", "53300": // responses to a connection: the server is starting, or has too many
		return true
	}
	switch state[:2] {
	case "08", "53", "57", "58", "F0", "HY", "XX":
		return false
	}
	return true
}
