//go:build !linux || !(amd64 || arm64)

package transfer

import "os"

// flush does nothing here: all is written when it has to be there.
func flush(*os.File, int64, int64) {}
