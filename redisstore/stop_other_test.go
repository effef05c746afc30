//go:build !unix

package redisstore_test

import "syscall"

// Where no process can be stopped, there is no redis-server either.
const (
	stop   = syscall.SIGKILL
	resume = syscall.SIGKILL
)
