//go:build !linux && !darwin

package sums

import "io/fs"

// identity returns zeros: size and modification time identify a file here.
func identity(fs.FileInfo) (changed int64, inode uint64) { return 0, 0 }
