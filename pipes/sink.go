package pipes

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
)

// A sink writes messages, one line at a time and in order. It is not safe for
// concurrent use.
type sink interface {
	write(line []byte) error // line ends with \n
	close() error
}

// A file appends messages to a file, with one write(2) for a message, because
// Dagster's reader takes a part of a line for the whole line.
//
// One write is not enough: a reader can see the part of a write that is on one page
// before the part that is on the next. Therefore spaces, which JSON ignores, fill the
// rest of a page after a message, and only a message longer than a page crosses the
// end of a page. Dagster's reader saw a part of one in a thousand messages of 60 KiB,
// so a long text is sent in parts, see part. In a large file the rest of a page is
// filled only if it is short.
type file struct {
	name string
	f    *os.File
	size int64 // bytes of the file
	torn error // set when the file ends with a part of a message: nothing may follow
}

const (
	page  = 4 << 10  // bytes; real pages are a multiple of it
	large = 16 << 20 // bytes of a large file
	room  = 1 << 10  // bytes of a page that a large file leaves to the next message
)

func (f *file) write(line []byte) error {
	if f.torn != nil {
		return f.torn
	}
	if err := f.open(); err != nil {
		return err
	}
	if left := page - (f.size+int64(len(line)))%page; left < page && (left < room || f.size < large) {
		line = append(line[:len(line)-1], strings.Repeat(" ", int(left))+"\n"...)
	}
	n, err := f.f.Write(line)
	if f.size += int64(n); err != nil && n > 0 && !f.takeBack(int64(n)) {
		f.torn = err
	}
	return err
}

// takeBack removes the n bytes of a message that was written in part, as on a full
// disk, and reports whether it did.
func (f *file) takeBack(n int64) bool {
	info, err := f.f.Stat()
	if err != nil || info.Size() != f.size || f.f.Truncate(f.size-n) != nil {
		return false // another process has written since
	}
	f.size -= n
	return true
}

func (f *file) open() error {
	if f.f != nil {
		return nil
	}
	opened, err := openRegular(f.name, os.O_WRONLY|os.O_APPEND|os.O_CREATE)
	if err != nil {
		return err
	}
	f.f = opened
	if info, err := opened.Stat(); err == nil {
		f.size = info.Size()
	}
	return nil
}

func (f *file) close() error {
	if f.f == nil {
		return nil
	}
	return f.f.Close()
}

// A standard stream takes messages and the program's own output.
type standard struct {
	name  string
	w     io.Writer
	pipes chan os.Signal // catches SIGPIPE, which would end a process that lost its reader
	torn  error          // set when a message was written in part: no message may follow

	mu  sync.Mutex // guards w and mid
	mid bool       // the program's output ends within a line
}

func newStandard(name string, w io.Writer) *standard {
	s := &standard{name: name, w: w, pipes: make(chan os.Signal, 1)}
	signal.Notify(s.pipes, syscall.SIGPIPE)
	return s
}

// write writes a message on a line of its own.
func (s *standard) write(line []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.torn != nil {
		return s.torn
	}
	if s.mid {
		line = append([]byte("\n"), line...)
	}
	n, err := s.w.Write(line)
	if s.mid = false; err != nil && n > 0 {
		s.torn = err
	}
	return err
}

// pass writes the program's own output.
func (s *standard) pass(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.w.Write(p)
	if n > 0 {
		s.mid = p[n-1] != '\n'
	}
	return n, err
}

func (s *standard) close() error {
	signal.Stop(s.pipes)
	return nil
}

// maxPending is the limit of unsent messages in memory, in bytes.
const maxPending = 16 << 20

var errFull = errors.New("too many messages are waiting to be sent")

// A buffered sink writes all messages at the end, for a stream of which Dagster reads
// only the end.
type buffered struct {
	to      *standard
	pending [][]byte
	size    int
}

func (b *buffered) write(line []byte) error {
	if b.size += len(line); b.size > maxPending {
		b.size -= len(line)
		return errFull
	}
	b.pending = append(b.pending, line)
	return nil
}

func (b *buffered) close() error {
	var failed error
	for _, line := range b.pending {
		if err := b.to.write(line); err != nil && failed == nil {
			failed = err
		}
	}
	return errors.Join(failed, b.to.close())
}
