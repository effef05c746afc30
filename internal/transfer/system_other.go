//go:build (!unix && !windows) || solaris || aix

package transfer

import (
	"errors"
	"io/fs"
	"os"
)

const nonblock = 0

func owned(fs.FileInfo) bool   { return true }
func private(fs.FileInfo) bool { return true }
func lock(*os.File) bool       { return true }

func inode(*os.File) (uint64, error) { return 0, errors.ErrUnsupported }

// canResume says whether two processes can be kept apart here, without which nothing is left for a later one.
const canResume = false

const renamesOpen = false

func readOnly(error) bool { return false }
func mounted(error) bool  { return false }

// inherit returns the permissions of a file that takes the place of another.
func inherit(_ *os.File, old fs.FileInfo) fs.FileMode { return old.Mode().Perm() }
