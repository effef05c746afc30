package main

import (
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-0f2c7998/perdure/s3test"
)

// Data that is shown on a terminal is not drawn over.
func TestDataOnTerminal(t *testing.T) {
	s := startTestServers(t)
	s.setenv(t.TempDir(), t.Setenv)
	if err := s.store.Store("bikes", "stations", []byte("1,Mill\n2,Quay\n")); err != nil {
		t.Fatal(err)
	}
	s.store.SetScript(func(s3test.Request) s3test.Fault { return s3test.StallBody(9, 300*time.Millisecond) }) // more than a bar waits for
	term := onTerminal(t, "sh", "-c", "stty cols 80 rows 24 && exec perdure copy s3://bikes/stations -")
	term.await("INFO: Copied ")
	if code := term.code(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if text := term.text(); !strings.HasPrefix(text, "1,Mill\r\n2,Quay\r\nINFO: Copied s3://bikes/stations to -: 14 bytes ") {
		t.Errorf("the screen has %q", text)
	}
}

// figures are those of a bar whose name is cut.
var figures = regexp.MustCompile(`….*\(\d+ of 300 files\) [\d.]+ (KiB|b) / [\d.]+ KiB `)

// On a terminal a copy of many files has one bar, with how many are done; it
// goes away at the end, and lines about failures stand above it. A long name
// leaves room for the figures.
func TestTreeOnTerminal(t *testing.T) {
	s := startTestServers(t)
	s.setenv(t.TempDir(), t.Setenv)
	from := t.TempDir()
	fill(t, from, 300)
	var puts atomic.Int32 // several requests ask at once
	s.store.SetScript(func(r s3test.Request) s3test.Fault {
		if r.Method != "PUT" {
			return s3test.Fault{}
		}
		if puts.Add(1) <= 3 {
			return s3test.AccessDenied()
		}
		return s3test.SlowResponse(5 * time.Millisecond) // so that there is something to see
	})
	term := onTerminal(t, "perdure", "copy", "-r", from, "s3://bikes/raw", "--parallel", "2")
	control(t, term.master, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 80})
	})
	term.await("of 300 files)")
	term.await("3 of 300 files were not copied: ")
	if code := term.code(); code != 1 {
		t.Errorf("exit code %d", code)
	}
	if text := term.text(); !figures.MatchString(text) {
		t.Errorf("no figures on the screen:\n%s", text)
	}
	if text := term.text(); strings.Count(text, "ERROR: Failed: write s3://bikes/raw/") != 3 || !strings.Contains(text, "Copied 297 files ") {
		t.Errorf("the screen has\n%s", text)
	}
}
