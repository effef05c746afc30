package run

import "golang.org/x/sys/unix"

// adopt makes the processes whose parents end before them our children, so
// that we can tell when they are gone. Otherwise they are those of the
// system's first process, which in a container may not look after them: they
// would seem to be there for as long as that runs.
func adopt() {
	if unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == nil {
		adopting.Store(true)
	}
}
