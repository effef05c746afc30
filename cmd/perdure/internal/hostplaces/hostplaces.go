// Package hostplaces limits the calls in flight of all processes of a user on a host. Each
// place is a kernel lock, which ends when its process ends.
package hostplaces

// FileName is the name of the file with the locks, in the user's state directory. The
// number is the version of the layout.
//
// The file stays empty: processes lock bytes beyond its end. Each key has a range of bytes,
// given by its hash. In a range, bytes 1 to 10,000 are the places. Above them, each process
// holds a shared lock on the byte of its limit, from which all processes read the lowest
// limit. A process whose callers wait holds a shared lock on byte 0.
const FileName = "places.1"

// Usage is the usage of one key by all processes.
type Usage struct {
	Taken int // places in use
	Limit int // lowest limit of the running processes; 0 if none runs
}
