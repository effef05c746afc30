//go:build integration && linux

package main

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/browsertest"
)

// TestSiteInABrowser opens pages of each kind in a browser, wide and narrow, light, dark and printed: they request nothing
// but files of the site, print nothing on the console, fit the width, and can be read. PERDURE_TEST_PAGES names a directory
// that keeps the pictures.
func TestSiteInABrowser(t *testing.T) {
	b := browsertest.Open(t)
	out := made(t)
	site := (&url.URL{Scheme: "file", Path: out + "/"}).String()
	for _, base := range []string{"index", "docs/tutorial", "docs/from-other-tools", "docs/copy", "docs/performance", "docs/policies", "docs/decisions/index", "commands/perdure-copy"} {
		name := filepath.Join(out, base+".html")
		if _, err := os.Stat(name); err != nil {
			t.Error(err)
			continue
		}
		address := (&url.URL{Scheme: "file", Path: name}).String()
		for _, wrong := range b.Look(address, strings.ReplaceAll(base, "/", "-"), func(request string) bool { return strings.HasPrefix(request, site) }) {
			t.Errorf("%s: %s", base, wrong)
		}
	}
}
