//go:build (!unix && !windows) || solaris || aix

package private

import (
	"errors"
	"io/fs"
	"os"
)

// AtOnce has no effect on this system.
const AtOnce = 0

// CanLock says whether Lock works on this system.
const CanLock = false

// Denies is always true.
func Denies(fs.FileInfo, fs.FileMode) bool { return true }

// Single is always true.
func Single(fs.FileInfo) bool { return true }

// Inode is not supported on this system.
func Inode(*os.File) (uint64, error) { return 0, errors.ErrUnsupported }

// Lock does nothing and returns true.
func Lock(*os.File) bool { return true }
