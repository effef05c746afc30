//go:build !unix

package endpoint

import "os"

// WasClosed reports whether a standard descriptor was closed when this process began.
func WasClosed(f *os.File) bool {
	_, err := f.Stat()
	return err != nil
}

// inherited reports false: paths lead to no descriptors here.
func inherited(string) (fd uintptr, ok bool, err error) { return 0, false, nil }

// descriptor reports false: paths lead to no descriptors here.
func descriptor(string) (f *os.File, ok bool, err error) { return nil, false, nil }
