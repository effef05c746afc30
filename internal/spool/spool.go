// Package spool buffers a stream of unknown length so that it can be read again: the beginning in memory, the rest in
// a temporary file.
package spool

import (
	"errors"
	"os"
	"sync/atomic"
)

// A Quota is how many bytes several Spools may hold together. It is safe for concurrent use. A nil Quota has no limit.
type Quota struct {
	limit int64
	taken atomic.Int64
}

// NewQuota returns a Quota of that many bytes.
func NewQuota(limit int64) *Quota { return &Quota{limit: limit} }

// take takes n bytes, or gives them back if n is negative. It reports whether there was room for them.
func (q *Quota) take(n int64) bool {
	if q == nil {
		return true
	}
	if q.taken.Add(n) > q.limit && n > 0 {
		q.taken.Add(-n)
		return false
	}
	return true
}

// ErrFull is returned by a Write that would exceed the limit.
var ErrFull = errors.New("spool: limit reached")

// A Spool buffers what is written to it. It is not safe for concurrent use. The zero Spool has a limit of 0 bytes.
type Spool struct {
	Memory int64  // bytes in memory; the first Write beyond that moves everything to a file
	Limit  int64  // bytes in all; less than Memory means Memory
	Quota  *Quota // shared with other Spools; nil means no such limit

	memory []byte
	file   *os.File
	length int64
}

// Len returns the number of bytes written.
func (s *Spool) Len() int64 { return s.length }

// Write buffers all of p, or nothing and returns an error: ErrFull, or that of the file. Earlier bytes stay readable.
func (s *Spool) Write(p []byte) (int, error) {
	length := s.length + int64(len(p))
	if length > max(s.Memory, s.Limit) {
		return 0, ErrFull
	}
	if !s.Quota.take(int64(len(p))) {
		return 0, ErrFull
	}
	n, err := s.write(p, length)
	if err != nil {
		s.Quota.take(-int64(len(p)))
	}
	return n, err
}

// write is Write within the limits. length is the length with p.
func (s *Spool) write(p []byte, length int64) (int, error) {
	if s.file == nil && length <= s.Memory {
		s.memory = append(s.memory, p...)
		s.length = length
		return len(p), nil
	}
	if err := s.open(); err != nil {
		return 0, err
	}
	if _, err := s.file.WriteAt(p, s.length); err != nil {
		return 0, err
	}
	s.length = length
	return len(p), nil
}

// open creates the file, and moves the bytes in memory to it.
func (s *Spool) open() error {
	if s.file != nil {
		return nil
	}
	file, err := Temporary()
	if err != nil {
		return err
	}
	if _, err := file.Write(s.memory); err != nil {
		return errors.Join(err, Discard(file))
	}
	s.file, s.memory = file, nil
	return nil
}

// ReadAt reads at offset, which must be less than Len.
func (s *Spool) ReadAt(p []byte, offset int64) (int, error) {
	p = p[:min(int64(len(p)), s.length-offset)]
	if s.file != nil {
		return s.file.ReadAt(p, offset)
	}
	return copy(p, s.memory[offset:]), nil
}

// Close frees the memory and the file. The Spool then has no bytes and a limit of 0.
func (s *Spool) Close() error {
	file := s.file
	s.Quota.take(-s.length)
	*s = Spool{}
	if file == nil {
		return nil
	}
	return Discard(file)
}

// Temporary creates a file that only this user can read. Where the system can unlink an open file, nothing is left
// even if the process is killed. Close the file with [Discard].
func Temporary() (*os.File, error) {
	file, err := os.CreateTemp("", "perdure-*")
	if err == nil {
		_ = os.Remove(file.Name())
	}
	return file, err
}

// Discard closes a file of [Temporary], and removes it where it still has a name.
func Discard(file *os.File) error {
	err := file.Close()
	if gone := os.Remove(file.Name()); gone != nil && !os.IsNotExist(gone) {
		err = errors.Join(err, gone)
	}
	return err
}
