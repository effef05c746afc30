//go:build integration && linux

package dagster_test

import (
	"bytes"
	"context"
	"image/png"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// photographed opens the page of the run that survived faults in a browser.
// PERDURE_TEST_SCREENSHOT names a file for the picture.
func (w *world) photographed() {
	t := w.t
	chromium := os.Getenv("PERDURE_TEST_CHROMIUM")
	if chromium == "" {
		t.Skip("PERDURE_TEST_CHROMIUM does not name a chromium (`make integration` installs it)")
	}
	w.ask(&struct{}{}, `mutation{setNuxSeen}`, nil) // else the page asks for an e-mail address
	page := w.url + "/runs/" + w.survived + "?logs=" + url.QueryEscape("step:stations") + "&levels=" + url.QueryEscape("info|warning|error|event")
	var missing []string
	shown := func() bool { // on a busy machine the browser may end before the log has come
		text := string(browse(t, chromium, page, "--dump-dom"))
		missing = slices.DeleteFunc([]string{"Success", "Retrying fetch", "succeeded on attempt 3", "dagster/row_count", "crc32:"},
			func(want string) bool { return strings.Contains(text, want) })
		return len(missing) == 0
	}
	if !w.within(2*time.Minute, shown) {
		t.Errorf("the page of the run does not show %q", missing)
	}
	file := os.Getenv("PERDURE_TEST_SCREENSHOT")
	if file == "" {
		file = filepath.Join(t.TempDir(), "run.png")
	}
	browse(t, chromium, page, "--screenshot="+file)
	picture, err := os.ReadFile(file) //nolint:gosec // the file was just written
	if err != nil {
		t.Fatal(err)
	}
	if c, err := png.DecodeConfig(bytes.NewReader(picture)); err != nil || c.Width != 1500 || len(picture) > 300_000 {
		t.Errorf("the picture: %v, %+v, %d bytes", err, c, len(picture))
	}
}

// browse opens a page in a new headless browser until the page no longer changes, and
// returns the browser's output.
func browse(t *testing.T, chromium, page, do string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", //nolint:gosec // the program is chosen by the environment
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
		"--user-data-dir="+t.TempDir(), "--window-size=1500,1250", "--virtual-time-budget=15000", do, page).Output()
	if err != nil {
		t.Fatalf("chromium: %v", err)
	}
	return out
}
