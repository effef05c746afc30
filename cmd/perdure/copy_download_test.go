//go:build unix

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/report"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// cut has the store break what it sends of the object after 9 MiB, for good, and
// runs the copy, which keeps a piece.
func (p *pairing) cut(t *testing.T, to string, args ...string) string {
	t.Helper()
	var gets atomic.Int32
	p.store.SetScript(func(r s3test.Request) s3test.Fault {
		if r.Method != "GET" {
			return s3test.Fault{}
		}
		if gets.Add(1) == 1 {
			return s3test.CutBody(9 << 20)
		}
		return s3test.SlowDown()
	})
	// A piece that waits lets another be asked for, so the refusals are not of one alone.
	log := p.run(t, 69, append([]string{"copy", "--parallel", "1", "--failure-threshold", "100", p.to, to}, args...)...)
	p.store.SetScript(nil)
	p.store.Reset()
	return log
}

// An object that has changed since is fetched from scratch, and that is told; one that is
// the same is resumed; a wrong checksum, or --no-resume, leaves nothing.
func TestDownloadResumes(t *testing.T) {
	other := bytes.Repeat([]byte("other"), 4<<20)
	const kept = "; %s of 20.0 MiB are kept in %s; run the same command to resume\n"
	for _, c := range []struct {
		name string
		now  []byte
		args []string
		code int
		says string // %s is the object
	}{
		{"same", mib20(), nil, 0, "INFO: Resuming %s: THERE of 20.0 MiB already transferred\n"},
		{"checked", mib20(), []string{"--checksum", "sha256:" + strings.Repeat("0", 64)}, 1, "perdure: read %s at "},
		{"changed", other, nil, 0, "INFO: %s is copied from scratch: the resource has changed since the earlier run\n"},
		{"from scratch", mib20(), []string{"--no-resume"}, 0, "INFO: Copied %s to "},
		{"small", []byte("small"), nil, 0, "INFO: %s is copied from scratch: the resource has changed since the earlier run\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPairing(t, nil)
			dir := t.TempDir()
			to := filepath.Join(dir, "large.bin")
			if err := p.store.Store("bikes", "large.bin", mib20()); err != nil {
				t.Fatal(err)
			}
			log := p.cut(t, to)
			_, there := written(strings.Join(staged(dir, ".state"), ""))
			if want := fmt.Sprintf(kept, report.Bytes(there), strings.Join(staged(dir, ".part"), "")); !strings.HasSuffix(log, want) {
				t.Fatalf("it says\n%swant at its end %q", log, want)
			}
			if err := p.store.Store("bikes", "large.bin", c.now); err != nil {
				t.Fatal(err)
			}
			log = p.run(t, c.code, append([]string{"copy", p.to, to}, c.args...)...)
			if want := strings.Replace(fmt.Sprintf(c.says, p.to), "THERE", report.Bytes(there), 1); !strings.Contains(log, want) {
				t.Errorf("it does not say %q:\n%s", want, log)
			}
			if got, _ := os.ReadFile(to); c.code == 0 && !bytes.Equal(got, c.now) || c.code != 0 && got != nil {
				t.Errorf("%d other bytes are there", len(got))
			}
			if left := staged(dir, ""); len(left) > 0 {
				t.Errorf("%v are left", left)
			}
		})
	}
}

// Nothing is put together from what different commands have left under one name.
func TestPartialFileOfAnotherSource(t *testing.T) {
	p := newPairing(t, nil)
	dir := t.TempDir()
	to := filepath.Join(dir, "large.bin")
	if err := errors.Join(p.store.Store("bikes", "large.bin", mib20()), p.store.Store("bikes", "twin.bin", mib20())); err != nil {
		t.Fatal(err)
	}
	p.cut(t, to)
	log := p.run(t, 0, "copy", "s3://bikes/twin.bin", to)
	if strings.Contains(log, "Resuming") {
		t.Errorf("it resumes another object:\n%s", log)
	}
	p.cut(t, to)
	p.run(t, 0, "copy", p.web.URL+"/whole.bin", to)
	if got, err := os.ReadFile(to); err != nil || !bytes.Equal(got, generated(1<<20+7)) {
		t.Errorf("%d other bytes (%v)", len(got), err)
	}
	onlyFile(t, dir, "large.bin")
}
