//go:build integration

package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// manyKeys is how many keys the listing has; make long has a million.
func manyKeys(t *testing.T) int {
	t.Helper()
	if os.Getenv("PERDURE_TEST_LONG") != "" {
		return 1_000_000
	}
	return 50_000
}

// startManyKeys starts a store that lists so many keys below many/, which can be no files.
func startManyKeys(t *testing.T, n int) *httptest.Server {
	t.Helper()
	type object struct {
		Key  string
		Size int
		ETag string
	}
	type page struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		Name                  string
		IsTruncated           bool
		NextContinuationToken string `xml:",omitempty"`
		Contents              []object
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !r.URL.Query().Has("list-type") { // an upload
			_, _ = bytes.NewBuffer(nil).ReadFrom(r.Body)
			w.Header().Set("ETag", `"x"`)
			w.Header().Set("X-Amz-Checksum-Crc32", r.Header.Get("X-Amz-Checksum-Crc32"))
			return
		}
		from := 0
		_, _ = fmt.Sscan(r.URL.Query().Get("continuation-token"), &from) // the first page has none
		p := page{Name: "bikes"}
		for i := from; i < min(from+1000, n); i++ {
			p.Contents = append(p.Contents, object{fmt.Sprintf("many/%s//%09d", strings.Repeat("k", 100), i), 5, fmt.Sprintf(`"%032x"`, i)})
		}
		if p.IsTruncated = from+1000 < n; p.IsTruncated {
			p.NextContinuationToken = fmt.Sprint(from + 1000)
		}
		_ = xml.NewEncoder(w).Encode(p)
	}))
	t.Cleanup(s.Close)
	return s
}

// Not even a million keys are held: neither those that come down, nor those that may be there already.
func TestMemoryOfManyKeys(t *testing.T) {
	n := manyKeys(t)
	s := startManyKeys(t, n)
	up := t.TempDir()
	for _, name := range []string{"a", "z"} {
		if err := os.WriteFile(filepath.Join(up, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"s3://bikes/many", t.TempDir()}, 1, fmt.Sprintf("%d of %d files were not copied: ", n, n)},
		{[]string{up, "s3://bikes/many"}, 0, "INFO: Copied 2 files "},
	} {
		environ := []string{"AWS_ACCESS_KEY_ID=k", "AWS_SECRET_ACCESS_KEY=s", "AWS_ENDPOINT_URL=" + s.URL, "PERDURE_STATE=" + t.TempDir(), "PERDURE_LOG_LEVEL=info"}
		log, err := os.Create(filepath.Join(t.TempDir(), "log"))
		if err != nil {
			t.Fatal(err)
		}
		c := command(t, environ, append([]string{"copy", "-r", "--json"}, row.args...)...)
		c.Stderr = log
		most := peak(t, start(t, c))
		text, err := os.ReadFile(log.Name())
		if code := c.ProcessState.ExitCode(); err != nil || code != row.code || !bytes.Contains(text, []byte(strings.TrimPrefix(row.says, "INFO: "))) {
			t.Errorf("%v: exit code %d, want %d and %q at the end of\n%s", row.args, code, row.code, row.says, text[max(len(text)-2000, 0):])
		}
		t.Logf("%v: %d keys, %.1f MiB", row.args, n, float64(most)/(1<<20))
		if most > 64<<20 {
			t.Errorf("%v: %d MiB for %d keys, want at most 64", row.args, most>>20, n)
		}
	}
}
