package neterr

import "syscall"

const hostDown = syscall.Errno(1 << 15) // as Windows numbers it; WASI has none
