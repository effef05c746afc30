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
	maxHeld    = 16 << 20 // bytes of what is held back until it ends
	maxRefused = 10       // messages that are refused with the reason; the others are counted
)

// look is how often a relay looks for new messages.
const look = 10 * time.Millisecond

// A relay takes the messages of one attempt, and passes on what holds: log lines
// at once, and the rest when the attempt has succeeded. Only its own goroutine
// uses it, and after that has ended whoever has waited for it.
//
// A message is taken apart and reported again by package pipes, so that nothing
// comes to Dagster's reader that would end it.
type relay struct {
	session *Session
	dir     string // where the messages are, for nobody else to read
	file    *os.File

	line    []byte // the beginning of one
	skip    bool   // up to its end: it is too long
	held    []outbound
	size    int            // of what is held, in bytes as it came
	full    bool           // something was refused for it
	refused int            // messages
	closed  bool           // the attempt has said that nothing follows
	late    bool           // and something did
	failure error          // that it closed with
	outcome map[string]any // of its own retries, if it has told
	counts  map[string]int // of what is held, by kind
	stop    chan struct{}  // the attempt has ended
	done    chan struct{}  // all that it wrote has been read
}

// relay returns what Command.BeforeAttempt asks for. If there is no place for messages,
// the child gets an environment without Dagster.
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

// follow reads what the attempt writes, until it has ended.
func (r *relay) follow() {
	defer close(r.done)
	tick := time.NewTicker(look)
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
		r.message(r.line) // whole, though it has no end, or refused
	}
}

// read takes all that is there.
func (r *relay) read() {
	chunk := make([]byte, 64<<10)
	for {
		n, err := r.file.Read(chunk)
		r.take(chunk[:n])
		if err != nil {
			if err != io.EOF {
				r.refuse(err)
			}
			return
		}
	}
}

// take takes a part of the file. A line that is not whole yet is kept, unless it
// has become too long.
func (r *relay) take(p []byte) {
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

// message takes one message.
func (r *relay) message(line []byte) {
	m, err := parse(line)
	if err != nil {
		r.refuse(err)
		return
	}
	switch {
	case m.method == "opened":
		r.closed = false // another program may speak after one that has ended
		return
	case m.method == "closed":
		r.closed = true
		r.failure = errors.Join(m.exception) // nil if there is none
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

// refuse tells why a message is not passed on.
func (r *relay) refuse(err error) {
	if r.refused++; r.refused <= maxRefused {
		r.session.warn("a message of the command is not relayed: " + strings.TrimPrefix(err.Error(), "pipes: "))
	}
}

// end is called when the attempt has ended. It passes on what was held back, or
// drops it, and returns what the attempt has told of its failure.
func (r *relay) end(failed bool) error {
	close(r.stop)
	<-r.done
	_ = r.file.Close() // it was only read
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

// told returns what the attempt has told of its failure, with what it knows of
// when it makes sense to try again.
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
