package transfer

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// OpenPrivate opens the regular file of that path, which must be this user's, for reading and writing: without waiting for
// the other end of a FIFO, and not if it is a link. If create is set and there is none, it is made, for this user alone.
func OpenPrivate(path string, create bool) (*os.File, error) {
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	name := filepath.Base(path)
	f, err := openPrivate(root, name)
	if create && errors.Is(err, fs.ErrNotExist) {
		f, err = root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if errors.Is(err, errForeign) {
		err = &fs.PathError{Op: "open", Path: path, Err: errors.New("is not a regular file of this user")}
	}
	return f, err
}
