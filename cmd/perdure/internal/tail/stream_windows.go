package tail

import (
	"os"
	"time"
)

// open returns a stream to a file.
func open(to *os.File) (*stream, error) {
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	return &stream{in: in, out: out, to: to, ended: make(chan struct{})}, nil
}

// pass passes on until no process has in.
func (s *stream) pass() {
	defer close(s.ended)
	defer func() { _ = s.out.Close() }()
	buffer := make([]byte, 32<<10)
	for {
		n, err := s.out.Read(buffer)
		s.mu.Lock()
		if failed := s.add(buffer[:n]); err == nil {
			err = failed
		}
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// settle waits for the end of the stream, for at most a second: a process that was left
// behind may have it.
func (s *stream) settle() {
	select {
	case <-s.ended:
	case <-time.After(time.Second):
	}
}
