// Package lend gives a command what is in a pipe, and takes from the pipe only what the
// command has read. It can do so on Linux.
package lend

// A Record keeps what attempts have read. It is used by one goroutine at a time.
type Record interface {
	// Keep appends p. If that fails, Lend must not be called again.
	Keep(p []byte)
	// At fills p from offset at, and returns 0 at the end.
	At(p []byte, at int64) (int, error)
}
