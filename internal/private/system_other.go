//go:build (!unix && !windows) || solaris || aix

package private

import (
	"errors"
	"os"
)

// CanLock says whether Lock works on this system.
const CanLock = false

// Inode is not supported on this system.
func Inode(*os.File) (uint64, error) { return 0, errors.ErrUnsupported }

// Lock does nothing and returns true.
func Lock(*os.File) bool { return true }
