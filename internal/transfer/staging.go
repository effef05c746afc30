package transfer

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/seed-0f2c7998/perdure/internal/private"
	"github.com/seed-0f2c7998/perdure/internal/record"
)

// What staging directories are called, and hold besides the parts and their states.
const (
	partSuffix    = ".part"
	stagingPrefix = ".perdure-" // and 26 random letters and digits
	ownerName     = "owner"
	ownerOf       = "perdure-staging-" // and the version
	ownerFormat   = ownerOf + "2"
)

// errForeign is the error of something in our place that is not ours.
var errForeign = errors.New("not made by this user's perdure")

// An owner is the file that makes a directory a staging directory of ours. Its lock says that a process uses it.
type owner struct {
	Format string `json:"format"`
	Inode  uint64 `json:"inode"` // of the directory: what was copied, unpacked or synced has another
	Tree   bool   `json:"tree"`  // of a copy of many files
}

// A staging is a directory in which files grow that are to be renamed into the directory above it.
type staging struct {
	name string   // in the directory above
	root *os.Root // of it
	lock *os.File // its owner file
}

// newStaging makes a staging directory in dir. Until it is locked another process may take it for a leftover, as may several
// one after the other: then there is another try.
func newStaging(dir *os.Root, tree bool) (s *staging, err error) {
	const tries = 100
	for range tries {
		name := stagingPrefix + rand.Text()
		if err = dir.Mkdir(name, 0o700); err != nil {
			return nil, err
		}
		if s, err = openStaging(dir, name, func(root *os.Root) (*os.File, error) { return claimNew(root, tree) }); err == nil {
			return s, nil
		}
		_ = dir.Remove(name) // unless another process has it
		if !errors.Is(err, errForeign) && !errors.Is(err, private.ErrReplaced) && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	return nil, err
}

// claimNew makes the owner file of a new staging directory.
func claimNew(root *os.Root, tree bool) (*os.File, error) {
	f, err := private.Make(root, ownerName)
	if err != nil {
		return nil, err
	}
	if !private.Lock(f) {
		return f, errForeign
	}
	if err := sign(f, root, tree); err != nil {
		return f, errors.Join(err, root.Remove(ownerName))
	}
	return f, nil
}

// sign writes an owner file, which is locked.
func sign(f *os.File, root *os.Root, tree bool) error {
	text, err := record.Encode(owner{ownerFormat, inodeOf(root), tree})
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt(text, 0)
	}
	return err
}

// repair signs a staging directory whose owner file is not whole, and removes the parts that a process has left in it.
func repair(f *os.File, root *os.Root, tree bool) error {
	names, err := list(root)
	for _, name := range names {
		if name != ownerName && err == nil {
			err = root.RemoveAll(name)
		}
	}
	return errors.Join(err, sign(f, root, tree))
}

// inodeOf returns the inode of a directory; 0 where there is none.
func inodeOf(root *os.Root) uint64 {
	f, err := root.Open(".")
	if err != nil {
		return 0
	}
	defer func() { _ = f.Close() }()
	n, _ := private.Inode(f)
	return n
}

// openStaging opens the directory of that name, if it is one that only this user may enter, and what claim returns of it.
func openStaging(dir *os.Root, name string, claim func(*os.Root) (*os.File, error)) (*staging, error) {
	root, before, err := private.OpenDir(dir, name, checkPrivate)
	if err != nil {
		return nil, err
	}
	s := &staging{name: name, root: root}
	s.lock, err = claim(root)
	if now, gone := dir.Lstat(name); err == nil && (gone != nil || !os.SameFile(before, now)) { // removed by its last owner
		err = errForeign
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// checkPrivate returns nil for a directory that only this user may enter.
func checkPrivate(info fs.FileInfo) error {
	if !info.IsDir() || !private.Denies(info, 0o077) {
		return errForeign
	}
	return nil
}

// readOwner returns the owner file, opened, and what it says; nothing if it is root's, but not whole. It is an error if it is not
// that of root.
func readOwner(root *os.Root) (*os.File, owner, error) {
	var o owner
	f, err := private.Open(root, ownerName, os.O_RDWR, private.File)
	if err != nil {
		return nil, o, err
	}
	text, err := io.ReadAll(io.LimitReader(f, 4<<10))
	if len(text) == 0 && err == nil && isEmpty(root) { // a process was killed while it made the directory
		return f, owner{}, nil
	}
	if err == nil && damaged(text, inodeOf(root)) {
		return f, owner{}, nil
	}
	if other, ok := ofOtherVersion(text, inodeOf(root)); err == nil && ok {
		return f, other, nil
	}
	if err != nil || !record.Decode(text, &o) || o.Format != ownerFormat || o.Inode != inodeOf(root) {
		return f, o, errForeign
	}
	return f, o, nil
}

// ofOtherVersion returns what text says, if it is that of the owner file which another version of perdure has made for the
// directory with this inode.
func ofOtherVersion(text []byte, inode uint64) (o owner, ok bool) {
	err := json.NewDecoder(bytes.NewReader(text)).Decode(&o) // what follows, as a checksum, is that version's matter
	return o, err == nil && inode != 0 && o.Inode == inode && o.Format != ownerFormat && strings.HasPrefix(o.Format, ownerOf)
}

// damaged reports whether a text is that of the owner file of the directory with this inode, but for one byte that was
// altered, or for an end that is missing. It must not be that of another directory, such as one that a user has unpacked:
// that differs in the inode, and in the checksum, so in two bytes or more.
func damaged(text []byte, inode uint64) bool {
	for _, tree := range []bool{false, true} {
		want, err := record.Encode(owner{ownerFormat, inode, tree})
		if err != nil || inode == 0 {
			return false
		}
		if len(text) == len(want) {
			altered := 0
			for i := range want {
				if text[i] != want[i] {
					altered++
				}
			}
			if altered == 1 {
				return true
			}
		} else if bytes.HasPrefix(want, text) && bytes.Contains(text, []byte(`,"tree"`)) {
			return true
		}
	}
	return false
}

// isEmpty reports whether there is nothing in a directory but an owner file.
func isEmpty(root *os.Root) bool {
	names, err := list(root)
	return err == nil && (len(names) == 0 || len(names) == 1 && names[0] == ownerName)
}

// hasNoPart reports whether there is no part in a directory, as where a process was killed when the file had its name.
func hasNoPart(root *os.Root) bool {
	names, err := list(root)
	return err == nil && !slices.ContainsFunc(names, func(name string) bool { return strings.HasSuffix(name, partSuffix) })
}

// claimLeftover returns a function for openStaging that claims what an earlier process has left.
func claimLeftover(tree bool) func(*os.Root) (*os.File, error) {
	return func(root *os.Root) (*os.File, error) {
		f, o, err := readOwner(root)
		switch {
		case errors.Is(err, fs.ErrNotExist) && isEmpty(root):
			return nil, errUnowned
		case err != nil:
			return f, err
		case !private.Lock(f):
			return f, errForeign
		case o.Format == "": // its process was killed before it had signed, or the file was damaged since
			return f, repair(f, root, tree)
		case o.Tree != tree:
			return f, errForeign
		case o.Format != ownerFormat: // the states in it say the same of themselves
			return f, sign(f, root, tree)
		}
		return f, nil
	}
}

// errUnowned is the error of a directory that was just made, is just being removed, or is left by a process that was
// killed while it did so. It is empty, and no process uses it.
var errUnowned = errors.New("an empty staging directory")

// close lets go of the directory, which stays.
func (s *staging) close() {
	if s.lock != nil {
		_ = s.lock.Close()
	}
	_ = s.root.Close()
}

// closeOrRemove closes the directory, and removes it if there is nothing in it.
func (s *staging) closeOrRemove(dir *os.Root) {
	if isEmpty(s.root) {
		s.remove(dir)
	} else {
		s.close()
	}
}

// remove closes and removes the directory with all that is in it: under its lock, or another process could take it for a
// leftover meanwhile.
func (s *staging) remove(dir *os.Root) {
	if renamesOpen {
		_ = dir.RemoveAll(s.name) // what is left is cleared by the next process
		s.close()
		return
	}
	s.close()
	_ = dir.RemoveAll(s.name)
}

// list returns the names in a directory.
func list(root *os.Root) ([]string, error) {
	f, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return f.Readdirnames(-1)
}

// mayBeStaging reports whether a name is like those of staging directories.
func mayBeStaging(name string) bool {
	return strings.HasPrefix(name, stagingPrefix) && len(name) == len(stagingPrefix)+26
}

// candidates calls f with the name of each entry of dir that may be a staging directory, until f returns false. The entries
// of a large directory are not held.
func candidates(dir *os.Root, f func(name string) bool) {
	d, err := dir.Open(".")
	if err != nil {
		return // it may be entered, but not listed
	}
	defer func() { _ = d.Close() }()
	for {
		names, err := d.Readdirnames(1024)
		for _, name := range names {
			if mayBeStaging(name) && !f(name) {
				return
			}
		}
		if err != nil || len(names) == 0 {
			return
		}
	}
}

// partNames returns the names, within a staging directory, of the part that becomes the file of that name and of its state.
func partNames(name string) (part, state string) {
	sum := sha256.Sum256([]byte(name))
	base := hex.EncodeToString(sum[:16])
	return base + partSuffix, base + ".state"
}

// IsStaging reports whether the entry of that name in dir is a staging directory of this user's: such a directory is no
// part of the tree that it lies in.
func IsStaging(dir, name string) bool {
	if !mayBeStaging(name) {
		return false
	}
	root, err := os.OpenRoot(filepath.Join(dir, name))
	if err != nil {
		return false
	}
	defer func() { _ = root.Close() }()
	if self, err := root.Lstat("."); err != nil || checkPrivate(self) != nil {
		return false
	}
	f, _, err := readOwner(root)
	if f != nil {
		_ = f.Close()
	}
	return err == nil || errors.Is(err, fs.ErrNotExist) && isEmpty(root)
}
