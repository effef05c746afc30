//go:build !unix || solaris || aix

package transfer

import (
	"io/fs"
	"os"
)

const renamesOpen = false

func isUnsigned(*os.File) bool { return true }

// inherit returns the permissions of a file that replaces old.
func inherit(_ *os.File, old fs.FileInfo) fs.FileMode { return old.Mode().Perm() }
