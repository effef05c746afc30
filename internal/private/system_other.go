//go:build (!unix && !windows) || solaris || aix

package private

import (
	"errors"
	"io/fs"
	"os"
)

// AtOnce is nothing here.
const AtOnce = 0

// CanLock says whether two processes can be kept apart here.
const CanLock = false

// Denies takes every file for this user's.
func Denies(fs.FileInfo, fs.FileMode) bool { return true }

// Single is as Denies.
func Single(fs.FileInfo) bool { return true }

// Inode is not known here.
func Inode(*os.File) (uint64, error) { return 0, errors.ErrUnsupported }

// Lock locks nothing here.
func Lock(*os.File) bool { return true }
