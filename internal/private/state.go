package private

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
)

// StateDir returns the directory of what the user's processes keep: PERDURE_STATE, or perdure in XDG_STATE_HOME or in
// ~/.local/state. hoststore.Path documents it.
func StateDir() (string, error) {
	const instead = "set PERDURE_STATE to a directory"
	if dir := os.Getenv("PERDURE_STATE"); dir != "" {
		if !filepath.IsAbs(dir) {
			return "", fmt.Errorf("no directory for shared state: invalid value %q for PERDURE_STATE: must be an absolute path", dir)
		}
		return dir, nil
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "perdure"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("no directory for shared state: %w; %s", err, instead)
	}
	if !filepath.IsAbs(home) {
		return "", fmt.Errorf("no directory for shared state: invalid value %q for HOME: must be an absolute path; or %s", home, instead)
	}
	return filepath.Join(home, ".local", "state", "perdure"), nil
}

// StatePath returns the path of that name in [StateDir].
func StatePath(name string) (string, error) {
	dir, err := StateDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, name), nil
}

// Name returns the name, without a suffix, of a file about a subject, such as a path: a hash, which is valid on every
// system.
func Name(subject string) string {
	sum := sha256.Sum256([]byte(subject))
	return hex.EncodeToString(sum[:16])
}
