//go:build !unix

package yamlfile

import "io/fs"

// Private returns an error unless the file is a regular one: the directory of the user's
// configuration belongs to the user.
func Private(info fs.FileInfo) error { return Regular(info) }
