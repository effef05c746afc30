//go:build !unix

package redisstore_test

import "syscall"

// Where no process can be held, there is no redis-server either.
const (
	stop   = syscall.SIGKILL
	resume = syscall.SIGKILL
)
