//go:build !wasip1

package neterr

import "syscall"

const hostDown = syscall.EHOSTDOWN
