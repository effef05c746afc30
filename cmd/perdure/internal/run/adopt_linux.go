package run

import (
	"errors"

	"golang.org/x/sys/unix"
)

// adopt makes this process the parent of orphaned descendants (a subreaper), so that it
// can reap them. Otherwise their parent is process 1, which in a container may not reap:
// they would remain as zombies, and their process group would never be empty.
func adopt() {
	if unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == nil {
		adopting.Store(true)
	}
}

// exited reports whether the process has ended, though it may not have been reaped yet.
func (c *child) exited() bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, c.pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return info.Signo != 0 || errors.Is(err, unix.ECHILD)
}
