package main

import (
	"bytes"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

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
var figures = regexp.MustCompile(`….*\(\d+ of 300 files\) [\d.]+ (KiB|bytes?) of [\d.]+ KiB `)

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

// onScreen returns the lines that a terminal of so many columns shows after text: also those that
// were not removed, because the cursor was elsewhere than a program believed.
func onScreen(text string, columns int) []string {
	lines, row, column := [][]rune{nil}, 0, 0
	move := func(down int) {
		for row += down; row >= len(lines); {
			lines = append(lines, nil)
		}
	}
	for rest := text; rest != ""; {
		if code := escape.FindStringSubmatch(rest); code != nil {
			switch n, _ := strconv.Atoi(code[1]); code[2] {
			case "A":
				row -= min(row, max(n, 1))
			case "J":
				lines = lines[:row+1]
				fallthrough
			case "K":
				lines[row] = lines[row][:min(column, len(lines[row]))]
			}
			rest = rest[len(code[0]):]
			continue
		}
		r, size := utf8.DecodeRuneInString(rest)
		rest = rest[size:]
		switch r {
		case '\r':
			column = 0
		case '\n':
			move(1)
		default:
			if column == columns {
				move(1)
				column = 0
			}
			for len(lines[row]) <= column {
				lines[row] = append(lines[row], ' ')
			}
			lines[row][column] = r
			column++
		}
	}
	var all []string
	for _, line := range lines {
		all = append(all, strings.TrimRight(string(line), " "))
	}
	return all
}

// escape is a control sequence of a terminal.
var escape = regexp.MustCompile("^\x1b\\[([0-9]*)([A-Za-z])")

// ctrl-C leaves no part of the bar on the screen: the terminal writes ^C where the cursor is.
// What is logged meanwhile stays.
func TestInterruptedBar(t *testing.T) {
	s := startTestServers(t)
	dir := t.TempDir()
	s.setenv(dir, t.Setenv)
	for _, key := range []string{"a-long-name-which-the-bar-truncates.bin", "later.bin"} {
		if err := s.store.Store("bikes", key, bytes.Repeat([]byte("bytes"), 200_000)); err != nil {
			t.Fatal(err)
		}
	}
	s.store.SetScript(func(r s3test.Request) s3test.Fault {
		switch {
		case r.Method == "GET" && strings.HasSuffix(r.Path, "later.bin"):
			return s3test.TooManyRequests(time.Hour)
		case r.Method == "GET" && strings.HasSuffix(r.Path, ".bin"):
			return s3test.StallBody(600_000, 0)
		}
		return s3test.Fault{}
	})
	to := filepath.Join(dir, "to")
	for _, row := range []struct{ name, copy, shows string }{
		{"one", "s3://bikes/a-long-name-which-the-bar-truncates.bin " + to, "perdure: stopped by signal: interrupt; "},
		{"many", "-r s3://bikes " + to + "-all --wait 7200", "INFO: Waiting: a server sent Retry-After, until "},
	} {
		term := onTerminal(t, "sh", "-c", "stty cols 60 rows 24 && exec perdure copy "+row.copy)
		eventually(t, "it shows what has arrived", func() bool { return strings.Contains(term.text(), "586 KiB of ") })
		if row.name == "many" {
			term.await("Waiting: ")
		}
		term.press(interrupt)
		if code := term.code(); code != 130 {
			t.Errorf("%s: exit code %d", row.name, code)
		}
		term.await("stopped by signal")
		lines := onScreen(term.text(), 60)
		if !strings.HasPrefix(lines[0], row.shows) || slices.ContainsFunc(lines, func(line string) bool {
			return strings.Contains(line, "^C") || strings.Contains(line, " KiB of ") && strings.Contains(line, "%")
		}) {
			t.Errorf("%s: the screen has\n%s", row.name, strings.Join(lines, "\n"))
		}
	}
}
