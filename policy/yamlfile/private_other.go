//go:build !unix

package yamlfile

import "os"

// private returns nil: the directory of the user's configuration belongs to the user.
func private(*os.File) error { return nil }
