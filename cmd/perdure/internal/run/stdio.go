package run

import (
	"fmt"
	"io"
	"math"
	"os"
	"sync"

	"github.com/vbauerster/mpb/v8/cwriter"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/lend"
	"github.com/seed-0f2c7998/perdure/internal/spool"
	"github.com/seed-0f2c7998/perdure/retry"
)

// An input is our standard input, for any number of attempts. A file is rewound for
// each. Of a pipe, what attempts read is kept, and given again to the next.
// All else is handed on.
type input struct {
	source *os.File
	seek   bool         // it is a file,
	start  int64        // which was at this place
	kept   *record      // what is given again; nil: nothing is
	lender *lend.Lender // of what is not kept yet; nil: kept reads by itself
}

// newInput returns the input of attempts that read from source. If there is
// only one of them, nothing needs to be kept. All is for what must be read to be
// kept, though the attempts may not read it.
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
		in.kept = &record{source: source, turn: make(chan struct{}, 1)}
	case pipe:
		in.kept = new(record)
		if in.lender = lend.New(source, in.kept); in.lender == nil {
			in.kept = nil
		}
	}
	return in
}

// open returns what an attempt reads from.
func (in *input) open() (*feed, error) {
	switch {
	case in.seek:
		_, err := in.source.Seek(in.start, io.SeekStart)
		return &feed{file: in.source}, err
	case in.kept == nil:
		return &feed{file: in.source}, nil
	case in.lender != nil:
		if err := in.kept.failed(); err != nil { // this attempt would lack what others have read
			return nil, retry.Permanent(fmt.Errorf("standard input: %w", err))
		}
		loan, err := in.lender.Lend()
		if err != nil {
			return nil, err
		}
		return &feed{file: loan.File(), start: loan.Begin, stop: loan.End}, nil
	}
	return in.kept.feed()
}

// lost says what is not given again to the next attempt: "" if that gets the same as
// the one before, or what there is in the null device.
func (in *input) lost() string {
	info, err := in.source.Stat()
	switch {
	case err != nil || in.seek || in.kept != nil:
		return ""
	case info.Mode()&os.ModeNamedPipe != 0:
		return "a pipe"
	case info.Mode()&os.ModeSocket != 0:
		return "a socket"
	case cwriter.IsTerminal(int(in.source.Fd())):
		return "a terminal"
	}
	return ""
}

func (in *input) close() {
	if in.kept != nil {
		in.kept.close()
	}
	if in.lender != nil {
		in.lender.Close()
	}
}

// A feed is the standard input of one attempt.
type feed struct {
	file  *os.File               // the attempt's end
	start func()                 // feeds it; nil: it needs nothing
	stop  func(begun bool) error // ends that; nil: there is nothing to end
	begun bool
}

// begin feeds the attempt, which has been started and has its end.
func (f *feed) begin() {
	f.begun = true
	if f.start != nil {
		f.start()
	}
}

// end ends the feed of an attempt that has ended, or has not begun. The error is that
// of an attempt that has not got all that there is.
func (f *feed) end() error {
	if f.stop == nil {
		return nil
	}
	return f.stop(f.begun)
}

// inMemory is how much of an input is kept in memory; the rest is in a file.
const inMemory = 1 << 20

// A record is what has been read of a source so far.
type record struct {
	source io.Reader
	turn   chan struct{} // holds a token while the source is read

	mu   sync.Mutex  // for all that follows; not held while the source is read
	data spool.Spool // what was read
	err  error       // that the source ended with; io.EOF at its end
	gone bool        // nobody will read any more
}

// readAt fills p from offset at, from what is kept or else from the source.
func (s *record) readAt(p []byte, at int64) (int, error) {
	if n, err := s.kept(p, at); n > 0 || err != nil {
		return n, err
	}
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if n, err := s.kept(p, at); n > 0 || err != nil { // another has read meanwhile
		return n, err
	}
	n, err := s.source.Read(p)
	return n, s.keep(p[:n], err)
}

// kept fills p from offset at with what is there. At the end of that it
// returns 0 and the error of the source, or nil if the source has more.
func (s *record) kept(p []byte, at int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.gone:
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
	if s.gone {
		return io.ErrClosedPipe
	}
	s.data.Memory, s.data.Limit = inMemory, math.MaxInt64
	if _, failed := s.data.Write(p); failed != nil {
		err = failed
	}
	s.err = err
	return err
}

// Keep is keep without a word on errors: see failed. After the first, nothing is kept.
func (s *record) Keep(p []byte) {
	if s.failed() == nil {
		_ = s.keep(p, nil)
	}
}

// At is kept.
func (s *record) At(p []byte, at int64) (int, error) { return s.kept(p, at) }

// failed returns why the source could not be read to its end, or be kept.
func (s *record) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == io.EOF { //nolint:errorlint // as Read has it
		return nil
	}
	return s.err
}

// feed returns the standard input of one attempt that gets all of the source.
func (s *record) feed() (*feed, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	start := func() {
		_ = r.Close()
		go func() {
			// An attempt that reads no further is no error of ours.
			_, _ = io.Copy(struct{ io.Writer }{w}, &cursor{record: s})
			_ = w.Close()
		}()
	}
	// The copy, should it be waiting for the source, ends with what it gets, which is
	// kept for the next attempt.
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
	s.gone = true
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

// An output is the standard output of the last attempt, where it is kept back.
// The zero output is that of none.
type output struct{ file *os.File }

// renew returns a file for the next attempt, in the place of that of the one
// before.
func (o *output) renew() (*os.File, error) {
	o.drop()
	f, err := spool.Temporary()
	if err != nil {
		return nil, fmt.Errorf("keeping the output back: %w", err)
	}
	o.file = f
	return f, nil
}

// flush writes what was kept back to w.
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
