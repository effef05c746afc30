//go:build unix && !integration

package hoststore_test

// kills is how many processes die at work in TestKilledProcessesLeaveTheCellsWell.
const kills = 60
