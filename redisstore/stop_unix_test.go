//go:build unix

package redisstore_test

import "syscall"

// stop and resume hold a process and let it go on.
const (
	stop   = syscall.SIGSTOP
	resume = syscall.SIGCONT
)
