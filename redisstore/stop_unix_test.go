//go:build unix

package redisstore_test

import "syscall"

// stop stops a process, and resume continues it.
const (
	stop   = syscall.SIGSTOP
	resume = syscall.SIGCONT
)
