//go:build !linux && !darwin && !freebsd

package transfer

import (
	"math"
	"os"
)

// capacity is not known here.
func capacity(*os.File) int64 { return math.MaxInt64 }
