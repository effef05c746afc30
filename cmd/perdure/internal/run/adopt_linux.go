package run

import "golang.org/x/sys/unix"

// adopt makes this process the parent of orphaned descendants (a subreaper), so that it
// can reap them. Otherwise their parent is process 1, which in a container may not reap:
// they would remain as zombies, and their process group would never be empty.
func adopt() {
	if unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == nil {
		adopting.Store(true)
	}
}
