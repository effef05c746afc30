// Package hostplaces limits the calls in flight of all processes of a host: each
// place is a lock of the kernel, which ends with the process that holds it, and
// not before.
package hostplaces

// FileName is that of the file with the locks, in the directory of the user's
// state. Its number is the version of the layout: another one is another file.
//
// The file is empty, and stays so: processes lock bytes of it. Each key has a range
// of its own, by its hash, so that one file does for all keys and none is ever
// given up: of the range, the bytes 1 to 10,000 are the places; beyond them each
// process that runs has a shared lock of the byte of its limit, by which all know
// the lowest; and one of byte 0 while its callers wait.
const FileName = "places.1"

// Usage is what the processes of a host do with one key.
type Usage struct {
	Taken int // places
	Limit int // the lowest of the processes that run; 0: none runs
}
