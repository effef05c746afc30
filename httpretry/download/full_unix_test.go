//go:build unix

package download_test

import (
	"errors"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/seed-0f2c7998/perdure/httpretry/download"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
)

// A full disk ends a download with its error, and the next download fetches only the rest. A limit on the size of a
// process's files plays the full disk.
func TestFileOnAFullDisk(t *testing.T) {
	if url := os.Getenv("DOWNLOAD_URL"); url != "" {
		onAFullDisk(t, url, os.Getenv("DOWNLOAD_PATH"))
		return
	}
	want := content(40*part, 1)
	server := httptestfault.New(func(_ int, r *http.Request) httptestfault.Response { return resource(want, `"1"`).Respond(r) })
	defer server.Close()
	path := filepath.Join(t.TempDir(), "file")
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFileOnAFullDisk$")
	child.Env = append(os.Environ(), "DOWNLOAD_URL="+server.URL, "DOWNLOAD_PATH="+path)
	if out, err := child.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is there (%v)", err)
	}
	c := client(server)
	defer c.CloseIdleConnections()
	r, err := download.File(request(t, server), path, download.Options{Client: c})
	if err != nil || r.Resumed == 0 {
		t.Errorf("%+v, %v; want what was written before to be kept", r, err)
	}
	alone(t, path, want)
}

func onAFullDisk(t *testing.T, url, path string) {
	t.Helper()
	signal.Ignore(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 30 * part, Max: 30 * part}); err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r, err := download.File(req, path, download.Options{Piece: part, Parallel: -1})
	if !errors.Is(err, syscall.EFBIG) || r.Bytes == 0 || r.Bytes > 30*part {
		t.Errorf("%+v, %v; want %v", r, err, syscall.EFBIG)
	}
}
