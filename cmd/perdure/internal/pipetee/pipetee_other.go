//go:build !linux

package pipetee

import "os"

// A Source does not exist here: only Linux can copy what is in a pipe without reading
// it.
type Source struct{}

// New returns nil.
func New(*os.File, Record) *Source { return nil }

// Attempt returns nil.
func (*Source) Attempt() (*Attempt, error) { return nil, nil } //nolint:nilnil // New returns no Source

// Close does nothing.
func (*Source) Close() {}

// An Attempt does not exist here.
type Attempt struct{}

// File returns nil.
func (*Attempt) File() *os.File { return nil }

// Begin does nothing.
func (*Attempt) Begin() {}

// End returns nil.
func (*Attempt) End(bool) error { return nil }
