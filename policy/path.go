package policy

import (
	"os"
	"path/filepath"
)

// DefaultPath returns the default place of the user's policies:
// $XDG_CONFIG_HOME/perdure/policies.yaml, or ~/.config/perdure/policies.yaml. A relative
// XDG_CONFIG_HOME is ignored. It returns "" if the user has no home directory. A file at
// this place is read only if the user or root owns it and no other user may write to it. No
// file is read from the working directory unless it is named, because that directory may
// belong to others.
func DefaultPath() string {
	dir := os.Getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(dir) {
		home := os.Getenv("HOME")
		if home == "" {
			home, _ = os.UserHomeDir()
		}
		if !filepath.IsAbs(home) {
			return ""
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "perdure", "policies.yaml")
}
