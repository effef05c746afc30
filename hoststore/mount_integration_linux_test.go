//go:build integration

package hoststore_test

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-0f2c7998/perdure/hoststore"
)

// On a full or read-only disk, the cells are in memory: one warning, and no file remains.
func TestFileSystemsWithoutRoom(t *testing.T) {
	for _, options := range []string{"size=1m", "ro"} { // a file takes 3 MiB
		why := map[string]string{"size=1m": "no space left on device", "ro": "read-only file system"}[options]
		t.Run(options, func(t *testing.T) {
			dir := t.TempDir()
			if out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", options, "tmpfs", dir).CombinedOutput(); err != nil {
				t.Skipf("SKIPPED: a small file system cannot be mounted: %v: %s", err, out)
			}
			defer func() {
				if err := syscall.Unmount(dir, 0); err != nil {
					t.Error(err)
				}
			}()
			log := logged(t)
			store := hoststore.Open(dir)
			defer store.Close()
			works(t, store)
			works(t, store)
			if lines := log.lines(); len(lines) != 1 || !strings.Contains(lines[0], "not shared") || !strings.Contains(lines[0], "make "+dir+"/cells.3: "+why) {
				t.Errorf("logged %q, want one line that says so, with the file", lines)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}
