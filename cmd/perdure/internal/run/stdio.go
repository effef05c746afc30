package run

import (
	"fmt"
	"io"
	"math"
	"os"
	"sync"

	"golang.org/x/term"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/pipetee"
	"github.com/seed-0f2c7998/perdure/internal/spool"
	"github.com/seed-0f2c7998/perdure/retry"
)

// An input is the standard input of this process, for any number of attempts. A file is
// rewound for each attempt. What attempts read from a pipe is recorded and replayed to
// the next attempt. Every other source is inherited as it is.
type input struct {
	source *os.File
	seek   bool            // source is a file
	start  int64           // offset of that file at the beginning
	record *record         // what is replayed; nil if nothing is
	pipe   *pipetee.Source // what is not recorded yet; nil if record reads source itself
}

// newInput returns the input of attempts that read from source. again says that there
// may be more than one attempt, all that all of a pipe or a socket is to be read and
// replayed, even what no attempt reads.
func newInput(source *os.File, again, all bool) *input {
	in := &input{source: source}
	info, err := source.Stat()
	if err != nil || !again {
		return in
	}
	pipe, socket := info.Mode()&os.ModeNamedPipe != 0, info.Mode()&os.ModeSocket != 0
	switch {
	case info.Mode().IsRegular():
		in.start, err = source.Seek(0, io.SeekCurrent)
		in.seek = err == nil
	case all && (pipe || socket):
		in.record = &record{source: source, turn: make(chan struct{}, 1)}
	case pipe:
		in.record = new(record)
		if in.pipe = pipetee.New(source, in.record); in.pipe == nil {
			in.record = nil
		}
	}
	return in
}

// open returns the standard input of the next attempt.
func (in *input) open() (*feed, error) {
	switch {
	case in.seek:
		_, err := in.source.Seek(in.start, io.SeekStart)
		return &feed{file: in.source}, err
	case in.record == nil:
		return &feed{file: in.source}, nil
	case in.pipe != nil:
		if err := in.record.failed(); err != nil { // this attempt would lack what others have read
			return nil, retry.Permanent(fmt.Errorf("standard input: %w", err))
		}
		attempt, err := in.pipe.Attempt()
		if err != nil {
			return nil, err
		}
		return &feed{file: attempt.File(), start: attempt.Begin, stop: attempt.End}, nil
	}
	return in.record.feed()
}

// notReplayed returns the kind of a source that is not replayed to the next attempt, or
// "" if the next attempt reads the same as the one before.
func (in *input) notReplayed() string {
	info, err := in.source.Stat()
	switch {
	case err != nil || in.seek || in.record != nil:
		return ""
	case info.Mode()&os.ModeNamedPipe != 0:
		return "a pipe"
	case info.Mode()&os.ModeSocket != 0:
		return "a socket"
	case term.IsTerminal(int(in.source.Fd())):
		return "a terminal"
	}
	return ""
}

func (in *input) close() {
	if in.record != nil {
		in.record.close()
	}
	if in.pipe != nil {
		in.pipe.Close()
	}
}

// A feed is the standard input of one attempt.
type feed struct {
	file  *os.File               // the attempt reads from it
	start func()                 // begins to write to file; nil if there is nothing to write
	stop  func(begun bool) error // ends what start began; nil if there is nothing to end
	begun bool
}

// begin feeds the attempt, which has been started with file.
func (f *feed) begin() {
	f.begun = true
	if f.start != nil {
		f.start()
	}
}

// end ends the feed, after the attempt has ended or could not be started. The error says
// why the attempt did not get all of the input.
func (f *feed) end() error {
	if f.stop == nil {
		return nil
	}
	return f.stop(f.begun)
}

// inMemory is how many bytes of an input are kept in memory; the rest is in a file.
const inMemory = 1 << 20

// A record holds what has been read of a source so far.
type record struct {
	source io.Reader
	turn   chan struct{} // holds a token while the source is read

	mu     sync.Mutex  // guards the fields below; not held while the source is read
	data   spool.Spool // what was read
	err    error       // error of the source; io.EOF at its end
	closed bool
}

// readAt fills p from offset at, from data or else from the source.
func (s *record) readAt(p []byte, at int64) (int, error) {
	if n, err := s.kept(p, at); n > 0 || err != nil {
		return n, err
	}
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if n, err := s.kept(p, at); n > 0 || err != nil { // another goroutine has read meanwhile
		return n, err
	}
	n, err := s.source.Read(p)
	return n, s.keep(p[:n], err)
}

// kept fills p from offset at of data. At the end of data it returns 0 and the error of
// the source, or nil if the source may have more.
func (s *record) kept(p []byte, at int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return 0, io.ErrClosedPipe
	case at < s.data.Len():
		return s.data.ReadAt(p, at)
	default:
		return 0, s.err
	}
}

// keep appends p, which the source returned with err.
func (s *record) keep(p []byte, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return io.ErrClosedPipe
	}
	s.data.Memory, s.data.Limit = inMemory, math.MaxInt64
	if _, failed := s.data.Write(p); failed != nil {
		err = failed
	}
	s.err = err
	return err
}

// Keep appends p, unless an earlier Keep has failed. failed returns the error.
func (s *record) Keep(p []byte) {
	if s.failed() == nil {
		_ = s.keep(p, nil)
	}
}

// At fills p from offset at, and returns 0 at the end.
func (s *record) At(p []byte, at int64) (int, error) { return s.kept(p, at) }

// failed returns why the source could not be read to its end, or could not be recorded.
func (s *record) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == io.EOF { //nolint:errorlint // as Read has it
		return nil
	}
	return s.err
}

// feed returns the standard input of an attempt that gets all of the source.
func (s *record) feed() (*feed, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	start := func() {
		_ = r.Close()
		go func() {
			// An attempt need not read all of its input.
			_, _ = io.Copy(struct{ io.Writer }{w}, &cursor{record: s})
			_ = w.Close()
		}()
	}
	// A copy that waits for the source ends after its next read, which is recorded for
	// the next attempt.
	stop := func(bool) error {
		_ = w.Close()
		_ = r.Close()
		return s.failed()
	}
	return &feed{file: r, start: start, stop: stop}, nil
}

func (s *record) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	_ = s.data.Close()
}

// A cursor reads a record from its beginning.
type cursor struct {
	record *record
	at     int64
}

func (c *cursor) Read(p []byte) (int, error) {
	n, err := c.record.readAt(p, c.at)
	c.at += int64(n)
	return n, err
}

// An output is the buffered standard output of the last attempt. The zero output holds
// nothing.
type output struct{ file *os.File }

// renew drops the output of the attempt before, and returns a file for the next one.
func (o *output) renew() (*os.File, error) {
	o.drop()
	f, err := spool.Temporary()
	if err != nil {
		return nil, fmt.Errorf("buffering the output: %w", err)
	}
	o.file = f
	return f, nil
}

// flush writes the output of the last attempt to w.
func (o *output) flush(w io.Writer) error {
	if o.file == nil {
		return nil
	}
	defer o.drop()
	if _, err := o.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err := io.Copy(w, o.file)
	return err
}

func (o *output) drop() {
	if o.file != nil {
		_ = spool.Discard(o.file)
		o.file = nil
	}
}
