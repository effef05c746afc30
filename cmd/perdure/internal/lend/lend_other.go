//go:build !linux

package lend

import "os"

// A Lender does not exist here: only Linux can copy what is in a pipe without reading
// it.
type Lender struct{}

// New returns nil.
func New(*os.File, Record) *Lender { return nil }

// Lend returns nil.
func (*Lender) Lend() (*Loan, error) { return nil, nil } //nolint:nilnil // there is no Lender

// Close does nothing.
func (*Lender) Close() {}

// A Loan does not exist here.
type Loan struct{}

// File returns nil.
func (*Loan) File() *os.File { return nil }

// Begin does nothing.
func (*Loan) Begin() {}

// End returns nil.
func (*Loan) End(bool) error { return nil }
