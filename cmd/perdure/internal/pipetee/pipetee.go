// Package pipetee gives the bytes of a pipe to the attempts of a command, and removes from
// the pipe only what an attempt has read. It works on Linux.
package pipetee

// A Record stores what attempts have read. It is used by one goroutine at a time.
type Record interface {
	// Keep appends p. After a failed Keep, Source.Attempt must not be called again.
	Keep(p []byte)
	// At fills p from offset at, and returns 0 at the end.
	At(p []byte, at int64) (int, error)
}
