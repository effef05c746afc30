// Package tail passes the output of a process on, and keeps the last lines of it.
package tail

import (
	"bytes"
	"cmp"
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// Lines is how many lines at the end of an output are compared with patterns; Bytes is
// how many bytes they may have.
const (
	Lines = 100
	Bytes = 64 << 10
)

// Patterns are regular expressions, in RE2's syntax, for lines, and the value of a flag.
// The zero Patterns matches nothing.
type Patterns struct{ all []*regexp.Regexp }

// Set adds a pattern.
func (p *Patterns) Set(text string) error {
	if text == "" {
		return setting.Bad("pattern", text, "a regular expression in RE2 syntax, not empty")
	}
	re, err := regexp.Compile(text)
	if err != nil {
		reason := strings.TrimPrefix(err.Error(), "error parsing regexp: ")
		return setting.Bad("pattern", text, "a regular expression in RE2 syntax ("+reason+")")
	}
	p.all = append(p.all, re)
	return nil
}

// String returns the patterns, for help texts.
func (p *Patterns) String() string {
	texts := make([]string, len(p.all))
	for i, re := range p.all {
		texts[i] = re.String()
	}
	return strings.Join(texts, " ")
}

// Type returns the placeholder of the value in help texts.
func (p *Patterns) Type() string { return "regex" }

// Any reports whether there is a pattern.
func (p *Patterns) Any() bool { return len(p.all) > 0 }

// Match reports whether a pattern matches one of the lines.
func (p *Patterns) Match(lines [][]byte) bool {
	return slices.ContainsFunc(p.all, func(re *regexp.Regexp) bool { return slices.ContainsFunc(lines, re.Match) })
}

// An Output is the standard output and the standard error of one process.
type Output struct {
	Stdout, Stderr *os.File // for the process

	streams []*stream // two, or one if both go to the same file
}

// Open returns an Output that passes on to these files. If a file is a terminal, the
// process gets a terminal as well, on Linux; else it gets a pipe. Each Open needs a
// Started.
func Open(stdout, stderr *os.File) (*Output, error) {
	out, err := open(stdout)
	if err != nil {
		return nil, err
	}
	o := &Output{Stdout: out.in, Stderr: out.in, streams: []*stream{out}}
	if same(stdout, stderr) { // one stream keeps the order of what is written
		return o, nil
	}
	other, err := open(stderr)
	if err != nil {
		o.Started()
		return nil, err
	}
	o.Stderr, o.streams = other.in, append(o.streams, other)
	return o, nil
}

func same(a, b *os.File) bool {
	first, err := a.Stat()
	second, failed := b.Stat()
	return err == nil && failed == nil && os.SameFile(first, second)
}

// Started begins to pass on. It is called when the process has inherited its files, or
// could not be started.
func (o *Output) Started() {
	for _, s := range o.streams {
		_ = s.in.Close()
		go s.pass()
	}
}

// Lines returns the last lines of each stream. It is called when the process has ended,
// and returns once all that the process has written is passed on; processes that it has
// left behind may still write.
func (o *Output) Lines() (lines [][]byte) {
	for _, s := range o.streams {
		s.settle()
		lines = append(lines, s.lines()...)
	}
	return lines
}

// Err returns why output of the process was not passed on; nil if all was. It is called after Lines. A reader that has left
// is no error: the process has one if it writes more.
func (o *Output) Err() error {
	for _, s := range o.streams {
		s.mu.Lock()
		err := s.err
		s.mu.Unlock()
		if err != nil && !errors.Is(err, syscall.EPIPE) {
			return err
		}
	}
	return nil
}

// A stream passes on what is written to in.
type stream struct {
	in  *os.File // for the process
	out *os.File // the other end of in
	to  *os.File

	mu    sync.Mutex // held while bytes are read and passed on
	last  []byte     // the last bytes, at most twice Bytes
	err   error      // why bytes are lost
	ended chan struct{}
}

// add passes p on and keeps it. s.mu is held.
func (s *stream) add(p []byte) error {
	if s.last = append(s.last, p...); len(s.last) > 2*Bytes {
		s.last = append(s.last[:0], s.last[len(s.last)-Bytes:]...)
	}
	_, err := s.to.Write(p)
	s.err = cmp.Or(s.err, err)
	return err
}

// lines returns the last lines.
func (s *stream) lines() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := s.last[max(0, len(s.last)-Bytes):]
	lines := bytes.Split(bytes.TrimSuffix(bytes.Clone(text), []byte("\n")), []byte("\n"))
	lines = lines[max(0, len(lines)-Lines):]
	for i, line := range lines {
		lines[i] = bytes.TrimRight(line, "\r")
	}
	return lines
}
