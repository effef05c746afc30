package dagster

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/pipes"
	"github.com/seed-0f2c7998/perdure/retry"
)

// The limits of what an attempt may report.
const (
	maxLine    = 1 << 20  // bytes of one message
	maxHeld    = 16 << 20 // bytes of the reports that are held until the attempt ends
	maxRefused = 10       // refused messages that are logged with the reason; further ones are counted
)

// pollInterval is how often a relay reads new messages.
const pollInterval = 10 * time.Millisecond

// A relay reads the messages of one attempt and reports them again: log lines at
// once, everything else when the attempt has succeeded. Only the relay's goroutine
// uses its fields, and end when that goroutine has ended.
//
// Package pipes makes the messages that Dagster gets, so that no message of a child
// ends Dagster's reader.
type relay struct {
	session *Session
	dir     string // private directory of file
	file    *os.File

	line    []byte // the beginning of an unfinished line
	skip    bool   // the rest of the line is dropped: the line is too long
	held    []outbound
	size    int            // bytes of held, as received
	full    bool           // reports beyond maxHeld were dropped
	refused int            // number of refused messages
	closed  bool           // the attempt has closed its session
	late    bool           // a message came after that
	failure error          // the exception that the attempt closed its session with; nil if none
	outcome map[string]any // the outcome that the attempt reported; nil if none
	counts  map[string]int // number of held reports, by kind
	stop    chan struct{}  // closed when the attempt has ended
	done    chan struct{}  // closed when the whole file was read
}

// relay starts a relay, and returns the environment for an attempt and the function
// to call when the attempt has ended, as Command.BeforeAttempt does. If the file
// can't be made, the attempt gets an environment without Dagster.
func (s *Session) relay(environ []string) ([]string, func(failed bool) error) {
	r, err := s.newRelay()
	if err != nil {
		s.warn("the reports of the command are not relayed: " + err.Error())
		return pipes.StripEnv(environ), func(bool) error { return nil }
	}
	go r.follow()
	return pipes.RelayEnv(environ, r.file.Name()), r.end
}

func (s *Session) newRelay() (*relay, error) {
	dir, err := os.MkdirTemp("", "perdure-dagster-")
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "messages"), os.O_RDONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &relay{
		session: s, dir: dir, file: f, counts: map[string]int{},
		stop: make(chan struct{}), done: make(chan struct{}),
	}, nil
}

// follow reads what the attempt writes, until the attempt has ended.
func (r *relay) follow() {
	defer close(r.done)
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for last := false; !last; {
		select {
		case <-tick.C:
		case <-r.stop:
			last = true
		}
		r.read()
	}
	if len(r.line) > 0 {
		r.message(r.line) // the last line may lack its newline
	}
}

// read reads to the end of the file.
func (r *relay) read() {
	chunk := make([]byte, 64<<10)
	for {
		n, err := r.file.Read(chunk)
		r.split(chunk[:n])
		if err != nil {
			if err != io.EOF {
				r.refuse(err)
			}
			return
		}
	}
}

// split handles the lines of the next part of the file. An unfinished line is kept,
// unless it is too long.
func (r *relay) split(p []byte) {
	for len(p) > 0 {
		part, rest, whole := bytes.Cut(p, []byte("\n"))
		p = rest
		if !r.skip {
			r.line = append(r.line, part...)
		}
		if !r.skip && len(r.line) > maxLine {
			r.skip, r.line = true, nil
			r.refuse(fmt.Errorf("longer than %d bytes", maxLine))
		}
		if !whole {
			return
		}
		if !r.skip {
			r.message(r.line)
		}
		r.skip, r.line = false, r.line[:0]
	}
}

// message handles one message.
func (r *relay) message(line []byte) {
	m, err := parse(line)
	if err != nil {
		r.refuse(err)
		return
	}
	switch {
	case m.method == "opened":
		r.closed = false // an attempt may run several programs, one after the other
		return
	case m.method == "closed":
		r.closed = true
		r.failure = m.exception
		return
	case r.closed && !r.late:
		r.late = true
		r.session.warn("the command sent a message after it closed its session")
	}
	switch {
	case m.outcome != nil:
		r.outcome = m.outcome
	case m.kind == "":
		if err := m.send(r.session.pipes); err != nil {
			r.refuse(err)
		}
	case r.size+len(line) > maxHeld:
		r.full = true
	default:
		r.size += len(line)
		r.counts[m.kind]++
		r.held = append(r.held, m.outbound)
	}
}

// refuse logs why a message is not relayed.
func (r *relay) refuse(err error) {
	if r.refused++; r.refused <= maxRefused {
		r.session.warn("a message of the command is not relayed: " + strings.TrimPrefix(err.Error(), "pipes: "))
	}
}

// end reports what was held, or drops it if the attempt failed, and returns the
// error that the attempt reported. Call end when the attempt has ended.
func (r *relay) end(failed bool) error {
	close(r.stop)
	<-r.done
	_ = r.file.Close() // only read
	_ = os.RemoveAll(r.dir)
	if failed {
		r.drop()
	} else {
		r.flush()
	}
	if more := r.refused - maxRefused; more > 0 {
		r.session.warn(fmt.Sprintf("%d more messages of the command are not relayed", more))
	}
	if r.full {
		r.session.warn(fmt.Sprintf("reports of the command beyond %d bytes are not relayed", maxHeld))
	}
	return r.result()
}

// flush reports what was held.
func (r *relay) flush() {
	for _, held := range r.held {
		if err := held.send(r.session.pipes); err != nil {
			r.refuse(err)
		}
	}
	if r.failure != nil {
		r.session.warn("the command closed its session with an exception, but exited with 0: " + describe(r.failure))
	}
}

// drop logs how many held reports are dropped.
func (r *relay) drop() {
	if len(r.held) == 0 {
		return
	}
	var parts []string
	for _, kind := range []string{materialization, check, custom} {
		switch n := r.counts[kind]; n {
		case 0:
		case 1:
			parts = append(parts, "1 "+kind)
		default:
			parts = append(parts, fmt.Sprintf("%d %ss", n, kind))
		}
	}
	r.session.warn("dropped, because the attempt failed: " + strings.Join(parts, ", "))
}

// result returns the error that the attempt reported, with the class and the
// Retry-After of the outcome that it reported; nil if it reported no error.
func (r *relay) result() error {
	err := r.failure
	again, known := r.outcome["retryable"].(bool)
	if !known {
		return err
	}
	if err == nil {
		err = errors.New("the command gave up after its own retries")
	}
	if !again {
		return retry.Permanent(err)
	}
	if wait, ok := seconds(r.outcome["retry_after_s"]); ok {
		return retry.After(err, wait)
	}
	return err
}
