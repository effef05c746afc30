package transfer

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/seed-0f2c7998/perdure/internal/private"
	"github.com/seed-0f2c7998/perdure/internal/record"
)

// The names of staging directories, and of their files.
const (
	partSuffix    = ".part"
	stagingPrefix = ".perdure-" // followed by 26 random letters and digits
	ownerName     = "owner"
	ownerOf       = "perdure-staging-" // followed by the version
	ownerFormat   = ownerOf + "2"
)

// errForeign reports a directory or file under one of our names that this user's perdure has not made.
var errForeign = errors.New("not made by this user's perdure")

// An owner is the content of the file that makes a directory a staging directory. A lock on the file says that a
// process uses the directory.
type owner struct {
	Format string `json:"format"`
	Inode  uint64 `json:"inode"` // of the directory: what was copied, unpacked or synced has another
	Tree   bool   `json:"tree"`  // for many files
}

// A staging is a directory of incomplete files, which are renamed into the directory above it.
type staging struct {
	name string   // in the directory above
	root *os.Root // of it
	lock *os.File // its owner file
}

// newStaging makes a staging directory in dir. Until it is locked, another process may take it for a leftover: then
// newStaging makes another one.
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
		if !errors.Is(err, errForeign) && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	return nil, err
}

// claimNew makes and locks the owner file of a new staging directory.
func claimNew(root *os.Root, tree bool) (*os.File, error) {
	f, err := root.OpenFile(ownerName, os.O_RDWR|os.O_CREATE|os.O_EXCL|private.AtOnce, unsignedMode)
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

// unsignedMode is the mode of an owner file before sign. An empty file of the user's own is not executable.
const unsignedMode = 0o700

// sign writes a locked owner file.
func sign(f *os.File, root *os.Root, tree bool) error {
	return errors.Join(record.Rewrite(f, owner{ownerFormat, inodeOf(root), tree}), f.Chmod(0o600))
}

// repair replaces a damaged or truncated owner file, and removes the parts that a process has left in the directory.
func repair(f *os.File, root *os.Root, tree bool) error {
	names, err := list(root)
	for _, name := range names {
		if name != ownerName && err == nil {
			err = root.RemoveAll(name)
		}
	}
	return errors.Join(err, sign(f, root, tree))
}

// inodeOf returns the inode of a directory; 0 if it has none.
func inodeOf(root *os.Root) uint64 {
	f, err := root.Open(".")
	if err != nil {
		return 0
	}
	defer func() { _ = f.Close() }()
	n, _ := private.Inode(f)
	return n
}

// openStaging opens the directory of that name if only this user may enter it, and claims it by claim, which returns
// the locked owner file.
func openStaging(dir *os.Root, name string, claim func(*os.Root) (*os.File, error)) (*staging, error) {
	root, before, err := private.OpenDir(dir, name, checkPrivate)
	if err != nil {
		return nil, err
	}
	s := &staging{name: name, root: root}
	s.lock, err = claim(root)
	if now, gone := dir.Lstat(name); err == nil && (gone != nil || !os.SameFile(before, now)) { // its last owner has removed it
		err = errForeign
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// checkPrivate returns an error unless only this user may enter the directory.
func checkPrivate(info fs.FileInfo) error {
	if !info.IsDir() || !private.Denies(info, 0o077) {
		return errForeign
	}
	return nil
}

// readOwner opens and reads the owner file of root. The owner is zero if the file is damaged or truncated; the error
// is errForeign if it is the file of another directory.
func readOwner(root *os.Root) (*os.File, owner, error) {
	var o owner
	f, err := private.Open(root, ownerName, os.O_RDWR, private.File)
	if err != nil {
		return nil, o, err
	}
	text, err := io.ReadAll(io.LimitReader(f, 4<<10))
	if len(text) == 0 && err == nil && isUnsigned(f) && isEmpty(root) { // its process was killed while it made the directory
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

// ofOtherVersion parses text as the owner file, of another version of perdure, of the directory with this inode.
func ofOtherVersion(text []byte, inode uint64) (o owner, ok bool) {
	err := json.NewDecoder(bytes.NewReader(text)).Decode(&o) // what follows, such as a checksum, depends on the version
	return o, err == nil && inode != 0 && o.Inode == inode && o.Format != ownerFormat && strings.HasPrefix(o.Format, ownerOf)
}

// damaged reports whether text is the owner file of the directory with this inode with one byte altered, or
// truncated. The owner file of another directory, such as an unpacked one, differs in the inode and in the checksum,
// and so in two bytes or more.
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

// isEmpty reports whether a directory has no files but an owner file.
func isEmpty(root *os.Root) bool {
	names, err := list(root)
	return err == nil && (len(names) == 0 || len(names) == 1 && names[0] == ownerName)
}

// hasNoPart reports whether a directory has no part, as after a process was killed just after its rename.
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
		case o.Format == "": // its process was killed before sign, or the file is damaged
			return f, repair(f, root, tree)
		case o.Tree != tree:
			return f, errForeign
		case o.Format != ownerFormat: // the state files in it have their own version
			return f, sign(f, root, tree)
		}
		return f, nil
	}
}

// errUnowned reports an empty directory without an owner file: it was just made, is being removed, or was left by a
// process that was killed meanwhile. No process uses it.
var errUnowned = errors.New("an empty staging directory")

// close closes the directory, which stays.
func (s *staging) close() {
	if s.lock != nil {
		_ = s.lock.Close()
	}
	_ = s.root.Close()
}

// closeOrRemove closes the directory, and removes it if it is empty.
func (s *staging) closeOrRemove(dir *os.Root) {
	if isEmpty(s.root) {
		s.remove(dir)
	} else {
		s.close()
	}
}

// remove closes and removes the directory and its files, while it holds the lock if possible: another process could
// claim the directory otherwise.
func (s *staging) remove(dir *os.Root) {
	if renamesOpen {
		_ = dir.RemoveAll(s.name) // the next process clears what is left
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

// mayBeStaging reports whether a name has the form of a staging directory's.
func mayBeStaging(name string) bool {
	return strings.HasPrefix(name, stagingPrefix) && len(name) == len(stagingPrefix)+26
}

// entries yields the names in a directory, which may be large; none if it cannot be listed.
func entries(dir *os.Root) iter.Seq[string] {
	return func(yield func(string) bool) {
		d, err := dir.Open(".")
		if err != nil {
			return
		}
		defer func() { _ = d.Close() }()
		for err == nil {
			var names []string
			names, err = d.Readdirnames(1024)
			for _, name := range names {
				if !yield(name) {
					return
				}
			}
		}
	}
}

// partNames returns the names of the part and of its state, within a staging directory, for the file of that name.
func partNames(name string) (part, state string) {
	base := private.Name(name)
	return base + partSuffix, base + ".state"
}

// IsStaging reports whether the entry of that name in dir is a staging directory of this user. Such a directory does
// not belong to the tree that it is in.
func IsStaging(dir, name string) bool {
	if !mayBeStaging(name) {
		return false
	}
	root, err := private.OpenRoot(filepath.Join(dir, name))
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
