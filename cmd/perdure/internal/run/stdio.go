package run

import (
	"fmt"
	"io"
	"os"
	"sync"
)

// An input is our standard input, for any number of attempts. A file is
// rewound for each. What comes from a pipe is kept, as far as an attempt has
// asked for it, and given again to the next. A terminal, or another device,
// is simply handed on.
type input struct {
	source *os.File
	seek   bool  // it is a file,
	start  int64 // which was at this place
	spool  *spool
}

// newInput returns the input of attempts that read from source. If there is
// only one of them, nothing needs to be kept.
func newInput(source *os.File, again bool) *input {
	in := &input{source: source}
	info, err := source.Stat()
	switch {
	case err != nil || !again:
	case info.Mode().IsRegular():
		in.start, err = source.Seek(0, io.SeekCurrent)
		in.seek = err == nil
	case info.Mode()&(os.ModeNamedPipe|os.ModeSocket) != 0:
		in.spool = &spool{source: source, turn: make(chan struct{}, 1)}
	}
	return in
}

// open returns what an attempt reads from.
func (in *input) open() (*feed, error) {
	if in.seek {
		_, err := in.source.Seek(in.start, io.SeekStart)
		return &feed{file: in.source}, err
	}
	if in.spool == nil {
		return &feed{file: in.source}, nil
	}
	r, w, err := os.Pipe()
	return &feed{file: r, to: w, from: in.spool}, err
}

// err returns why the input could not be read to its end, or be kept.
func (in *input) err() error {
	if in.spool == nil {
		return nil
	}
	in.spool.mu.Lock()
	defer in.spool.mu.Unlock()
	if in.spool.err == io.EOF { //nolint:errorlint // as Read has it
		return nil
	}
	return in.spool.err
}

func (in *input) close() {
	if in.spool != nil {
		in.spool.close()
	}
}

// A feed is the standard input of one attempt.
type feed struct {
	file *os.File // the attempt's end
	to   *os.File // our end, if it is a pipe
	from *spool
}

// begin feeds the attempt, which has been started and has its end.
func (f *feed) begin() {
	if f.to == nil {
		return
	}
	_ = f.file.Close()
	go func() {
		// An attempt that reads no further is no error of ours.
		_, _ = io.Copy(struct{ io.Writer }{f.to}, &cursor{spool: f.from})
		_ = f.to.Close()
	}()
}

// close ends the feed. The copy, should it be waiting for our standard input,
// ends with what it gets, which is kept for the next attempt.
func (f *feed) close() {
	if f.to != nil {
		_ = f.to.Close()
		_ = f.file.Close()
	}
}

// inMemory is how much of an input is kept in memory; the rest is in a file.
const inMemory = 1 << 20

// A spool is what has been read of a source so far.
type spool struct {
	source io.Reader
	turn   chan struct{} // holds a token while the source is read

	mu   sync.Mutex // for all that follows; not held while the source is read
	head []byte     // the first bytes, up to inMemory
	tail *os.File   // the rest
	size int64      // of both
	err  error      // that the source ended with; io.EOF at its end
	gone bool       // nobody will read any more
}

// readAt fills p from offset at, from what is kept or else from the source.
func (s *spool) readAt(p []byte, at int64) (int, error) {
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
func (s *spool) kept(p []byte, at int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.gone:
		return 0, io.ErrClosedPipe
	case at < int64(len(s.head)):
		return copy(p, s.head[at:]), nil
	case at < s.size:
		return s.tail.ReadAt(p[:min(int64(len(p)), s.size-at)], at-int64(len(s.head)))
	default:
		return 0, s.err
	}
}

// keep appends p, which the source returned with err.
func (s *spool) keep(p []byte, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return io.ErrClosedPipe
	}
	s.err = err
	room := min(inMemory-len(s.head), len(p))
	s.head = append(s.head, p[:room]...)
	s.size += int64(room)
	if p = p[room:]; len(p) == 0 {
		return err
	}
	if s.tail == nil {
		if s.tail, s.err = temporary(); s.err != nil {
			return s.err
		}
	}
	n, failed := s.tail.WriteAt(p, s.size-int64(len(s.head)))
	s.size += int64(n)
	if failed != nil {
		s.err = failed
		return failed
	}
	return err
}

func (s *spool) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = true
	if s.tail != nil {
		discard(s.tail)
	}
}

// A cursor reads a spool from its beginning.
type cursor struct {
	spool *spool
	at    int64
}

func (c *cursor) Read(p []byte) (int, error) {
	n, err := c.spool.readAt(p, c.at)
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
	f, err := temporary()
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
		discard(o.file)
		o.file = nil
	}
}

// temporary returns a file that nobody else can read. On systems where that is
// possible it has no name, and so goes with the process however that ends.
func temporary() (*os.File, error) {
	f, err := os.CreateTemp("", "perdure-")
	if err == nil {
		_ = os.Remove(f.Name())
	}
	return f, err
}

func discard(f *os.File) {
	_ = f.Close()
	_ = os.Remove(f.Name())
}
