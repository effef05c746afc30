//go:build !unix

package idle

// readable is not known here.
func readable(uintptr) bool { return false }
