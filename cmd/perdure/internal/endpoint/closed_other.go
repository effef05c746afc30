//go:build !unix

package endpoint

import "os"

// wasClosed reports whether a standard descriptor was closed when this process began.
func wasClosed(f *os.File) bool {
	_, err := f.Stat()
	return err != nil
}
