//go:build (!unix && !windows) || solaris || aix

package uploads

import (
	"io/fs"
	"os"
)

// own, lock and guarded: where nothing keeps two processes apart, nothing is kept.
func own(fs.FileInfo) bool    { return false }
func single(fs.FileInfo) bool { return false }
func lock(*os.File) bool      { return false }

func guarded(fs.FileInfo) bool { return false }

const nonblock = 0
