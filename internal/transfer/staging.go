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

// A claim opens and locks the owner file of a staging directory, for a tree or not. It may return an open file with its error.
type claim func(root *os.Root, tree bool) (*os.File, error)

// newStaging makes a staging directory in dir. Until it is locked, another process may take it for a leftover: then
// newStaging makes another one.
func newStaging(dir *os.Root, tree bool) (s *staging, err error) {
	const tries = 100
	for range tries {
		name := stagingPrefix + rand.Text()
		if err = dir.Mkdir(name, 0o700); err != nil {
			return nil, err
		}
		if s, err = openStaging(dir, name, tree, claimNew); err == nil {
			return s, nil
		}
		_ = dir.Remove(name) // unless another process has it
		if !errors.Is(err, errForeign) && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	return nil, err
}

// claimNew is the claim of a new staging directory.
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
	all, err := list(root)
	for _, e := range all {
		if e.Name() != ownerName && err == nil {
			err = root.RemoveAll(e.Name())
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

// openStaging opens the directory of that name if only this user may enter it, and claims it.
func openStaging(dir *os.Root, name string, tree bool, claim claim) (*staging, error) {
	root, before, err := private.OpenDir(dir, name, checkPrivate)
	if err != nil {
		return nil, err
	}
	s := &staging{name: name, root: root}
	s.lock, err = claim(root, tree)
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

// readOwner opens with flags, and reads, the owner file of root. The owner is zero if the file is damaged or truncated.
// The error is errForeign if it is the file of another directory, and errUnowned if an empty directory has none.
func readOwner(root *os.Root, flags int) (f *os.File, o owner, err error) {
	f, err = private.Open(root, ownerName, flags, private.File)
	if errors.Is(err, fs.ErrNotExist) && isEmpty(root) {
		return nil, o, errUnowned
	}
	if err != nil {
		return nil, o, err
	}
	text, err := io.ReadAll(io.LimitReader(f, 4<<10))
	inode := inodeOf(root)
	switch {
	case err != nil:
		return f, o, errForeign
	case record.Decode(text, &o) && o.Format == ownerFormat && o.Inode == inode:
		return f, o, nil
	case damaged(text, inode),
		len(text) == 0 && isUnsigned(f) && isEmpty(root): // its process was killed while it made the directory
		return f, owner{}, nil
	}
	o, err = ofOtherVersion(text, inode)
	return f, o, err
}

// errUnowned reports an empty directory without an owner file: it was just made, is being removed, or was left by a
// process that was killed meanwhile. No process uses it.
var errUnowned = errors.New("an empty staging directory")

// ofOtherVersion parses text as the owner file, of another version of perdure, of the directory with this inode.
func ofOtherVersion(text []byte, inode uint64) (o owner, err error) {
	err = json.NewDecoder(bytes.NewReader(text)).Decode(&o) // what follows, such as a checksum, depends on the version
	if err != nil || inode == 0 || o.Inode != inode || o.Format == ownerFormat || !strings.HasPrefix(o.Format, ownerOf) {
		return owner{}, errForeign
	}
	return o, nil
}

// damaged reports whether text is the owner file of the directory with this inode with one byte altered, or
// truncated. The owner file of another directory, such as an unpacked one, differs in the inode and in the checksum,
// and so in two bytes or more.
func damaged(text []byte, inode uint64) bool {
	for _, tree := range []bool{false, true} {
		want, err := record.Encode(owner{ownerFormat, inode, tree})
		if err != nil || inode == 0 { // not supported on this system
			return false
		}
		same := 0 // bytes at the beginning
		for same < min(len(text), len(want)) && text[same] == want[same] {
			same++
		}
		truncated := same == len(text) && bytes.Contains(text, []byte(`,"tree"`))
		if truncated || len(text) == len(want) && bytes.Equal(text[same+1:], want[same+1:]) {
			return true
		}
	}
	return false
}

// isEmpty reports whether a directory has no files but an owner file.
func isEmpty(root *os.Root) bool {
	all, err := list(root)
	return err == nil && (len(all) == 0 || len(all) == 1 && all[0].Name() == ownerName)
}

// hasNoPart reports whether a directory has no part, as after a process was killed just after its rename.
func hasNoPart(root *os.Root) bool {
	all, err := list(root)
	return err == nil && !slices.ContainsFunc(all, func(e fs.DirEntry) bool { return strings.HasSuffix(e.Name(), partSuffix) })
}

func list(root *os.Root) ([]fs.DirEntry, error) { return fs.ReadDir(root.FS(), ".") }

// claimLeftover is the claim of what an earlier process has left.
func claimLeftover(root *os.Root, tree bool) (*os.File, error) {
	f, o, err := readOwner(root, os.O_RDWR)
	switch {
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

// close closes the directory, which stays.
func (s *staging) close() {
	if s.lock != nil {
		_ = s.lock.Close()
	}
	_ = s.root.Close()
}

// remove closes and removes the directory and its files, while it holds the lock if possible: another process could
// claim the directory otherwise. The next process clears what cannot be removed.
func (s *staging) remove(dir *os.Root) {
	if !renamesOpen {
		s.close()
	}
	_ = dir.RemoveAll(s.name)
	s.close()
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
func IsStaging(dir, name string) (is bool) {
	if !mayBeStaging(name) {
		return false
	}
	root, err := private.OpenRoot(dir)
	if err != nil {
		return false
	}
	defer func() { _ = root.Close() }()
	s, err := openStaging(root, name, false, func(root *os.Root, _ bool) (*os.File, error) {
		f, _, err := readOwner(root, os.O_RDONLY) // which is allowed on a read-only file system
		is = err == nil || errors.Is(err, errUnowned)
		return f, err
	})
	if err == nil {
		s.close()
	}
	return is
}
