//go:build !unix

package idle

// readable returns false: the state of the socket is unknown on this system.
func readable(uintptr) bool { return false }
