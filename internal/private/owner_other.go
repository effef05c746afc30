//go:build !unix || solaris || aix

package private

import "io/fs"

// AtOnce has no effect on this system.
const AtOnce = 0

// Denies is always true: directories that all users may write to are unusual here.
func Denies(fs.FileInfo, fs.FileMode) bool { return true }

// Single is always true.
func Single(fs.FileInfo) bool { return true }
