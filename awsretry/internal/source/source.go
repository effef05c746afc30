// Package source cuts the bytes of an upload into parts.
package source

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/seed-0f2c7998/perdure/awsretry/internal/slots"
	"github.com/seed-0f2c7998/perdure/retry"
)

// The limits of S3: the least size of each part but the last and the largest
// size of a part or of an object in one request, in bytes; and the number of parts.
const (
	MinPart  = 5 << 20
	MaxPart  = 5 << 30
	MaxParts = 10_000
)

// The default sizes of a part in bytes. The parts of a stream are held in memory.
const (
	filePart   = 8 << 20
	streamPart = MinPart
)

// A Growth describes how the parts of a stream, whose length is unknown, grow with their number.
type Growth struct {
	After  int   // number of parts of the first size
	Every  int   // number of parts of each size after that
	By     int64 // growth from one size to the next, in bytes
	Memory int64 // limit of the memory for parts that have grown, unless one part needs more
}

// StreamGrowth returns a Growth by which 5 TiB fit in MaxParts parts, the first of MinPart bytes and the largest of
// 1157 MiB.
func StreamGrowth() Growth { return Growth{After: 1000, Every: 125, By: 16 << 20, Memory: 1 << 30} }

// Part returns the size of part n, from 0, if the first part has the size first.
func (g Growth) Part(first int64, n int) int64 {
	if n < g.After {
		return first
	}
	return min(first+int64((n-g.After)/g.Every+1)*g.By, MaxPart)
}

// width returns how many parts like part n are held in memory at a time.
func (g Growth) width(n int, size int64, parallel int) int {
	if n < g.After {
		return parallel
	}
	return max(1, min(parallel, int(g.Memory/size)))
}

// A Source is the bytes of an upload, part by part. Next is for one goroutine; the parts may be used by others.
type Source struct {
	at     io.ReaderAt // nil for a stream
	offset int64       // of the next part in at
	end    int64       // of at
	stream io.Reader
	broken error // the error that ended the stream

	Size     int64 // in bytes; -1: unknown
	PartSize int64 // of each part but the last; of the first part of a stream, see Growth
	Drained  bool  // no part follows

	growth Growth
	number int // of the next part of a stream, from 0
	width  int // number of parts of a stream that are held at a time

	slots  *slots.Slots
	memory chan []byte // of released parts of a stream
}

// New returns the Source of the bytes of r from its position on. At most parallel parts are in progress, and as many
// again wait for their next attempt, unless r is a stream, whose parts are held in memory. A partSize of 0 means the
// default for r. The parts of a stream grow by g.
func New(r io.Reader, partSize int64, parallel int, g Growth) (*Source, error) {
	s := &Source{stream: r, Size: -1, growth: g, width: parallel}
	if at, ok := r.(interface {
		io.ReaderAt
		io.Seeker
	}); ok {
		offset, err := at.Seek(0, io.SeekCurrent)
		if err == nil { // an error means a stream, such as a pipe
			if s.end, err = at.Seek(0, io.SeekEnd); err != nil {
				return nil, err
			}
			s.at, s.offset, s.Size = at, offset, max(s.end-offset, 0)
		}
	}
	s.PartSize = cmp.Or(partSize, streamPart)
	s.slots, s.memory = slots.New(parallel, 0), make(chan []byte, parallel)
	if s.at != nil {
		s.slots = slots.New(parallel, parallel)
		least := (s.Size + MaxParts - 1) / MaxParts
		const mib = 1 << 20
		s.PartSize = max(cmp.Or(partSize, filePart), (least+mib-1)/mib*mib)
	}
	return s, nil
}

// All returns a reader of all bytes, or nil for a stream.
func (s *Source) All() *io.SectionReader {
	if s.at == nil {
		return nil
	}
	return io.NewSectionReader(s.at, s.end-s.Size, s.Size)
}

// Rewind makes Next return the first part again, once all parts are released. It returns false for a stream.
func (s *Source) Rewind() bool {
	if s.at == nil {
		return false
	}
	s.offset, s.Drained = s.end-s.Size, false
	return true
}

// A Part is a piece of a Source. Release it in the end.
type Part struct {
	*io.SectionReader

	Slot *slots.Slot

	memory []byte // nil if the part is not in memory
	free   chan<- []byte
}

// Release frees the part's slot and memory.
func (p *Part) Release() {
	if p.memory != nil {
		p.free <- p.memory
	}
	p.Slot.Release()
}

// Read reads from the part. An error of the source, or a source that became shorter, is permanent: the store is not
// the cause.
func (p *Part) Read(b []byte) (int, error) {
	n, err := p.SectionReader.Read(b)
	if err == nil {
		return n, nil
	}
	at, _ := p.Seek(0, io.SeekCurrent) // cannot fail
	switch {
	case err != io.EOF: //nolint:errorlint // a Reader's end is io.EOF itself
		err = retry.Permanent(err)
	case at < p.Size():
		err = retry.Permanent(fmt.Errorf("the source shrank during the upload: a part has %d of %d bytes", at, p.Size()))
	}
	return n, err
}

// Sums returns the part's CRC-32 and, if signed, its SHA-256 in hex, and rewinds the part.
func (p *Part) Sums(signed bool) (crc uint32, sha string, err error) {
	c, h := crc32.NewIEEE(), sha256.New()
	both := io.Writer(c)
	if signed {
		both = io.MultiWriter(c, h)
	}
	_, err = io.CopyBuffer(both, struct{ io.Reader }{p}, make([]byte, min(p.Size()+1, 64<<10)))
	if err != nil {
		return 0, "", err
	}
	if signed {
		sha = hex.EncodeToString(h.Sum(nil))
	}
	_, err = p.Seek(0, io.SeekStart)
	return c.Sum32(), sha, err
}

// Next waits for a slot and returns the next part, or io.EOF.
func (s *Source) Next(ctx context.Context) (*Part, error) {
	if s.Drained {
		return nil, io.EOF
	}
	if err := s.narrow(ctx); err != nil {
		return nil, err
	}
	slot, err := s.slots.Take(ctx)
	if err != nil {
		return nil, err
	}
	p := &Part{Slot: slot, free: s.memory}
	if err := s.fill(p); err != nil {
		p.Release()
		return nil, err
	}
	return p, nil
}

// narrow takes slots, and their memory, away from the parts of a stream that have grown.
func (s *Source) narrow(ctx context.Context) error {
	if s.at != nil {
		return nil
	}
	for width := s.growth.width(s.number, s.growth.Part(s.PartSize, s.number), s.width); s.width > width; s.width-- {
		if _, err := s.slots.Take(ctx); err != nil {
			return err
		}
		select {
		case <-s.memory:
		default:
		}
	}
	return nil
}

func (s *Source) fill(p *Part) error {
	if s.at != nil {
		length := min(s.PartSize, s.end-s.offset)
		if length <= 0 {
			s.Drained = true
			return io.EOF
		}
		p.SectionReader = io.NewSectionReader(s.at, s.offset, length)
		s.offset += length
		s.Drained = s.offset == s.end
		return nil
	}
	size := s.growth.Part(s.PartSize, s.number)
	s.number++
	select {
	case p.memory = <-s.memory:
	default:
	}
	if int64(len(p.memory)) != size {
		p.memory = make([]byte, size)
	}
	n, err := s.readFull(p.memory)
	if err == io.EOF && n > 0 { //nolint:errorlint // a Reader's end is io.EOF itself
		s.Drained, err = true, nil
	}
	if err != nil {
		s.Drained = true
		return err
	}
	p.SectionReader = io.NewSectionReader(bytesAt(p.memory[:n]), 0, int64(n))
	return nil
}

// readFull reads until b is full or the stream ends or fails, and returns the stream's own error: io.ReadFull would
// return io.ErrUnexpectedEOF both for a stream that ended and for one that broke with that error.
func (s *Source) readFull(b []byte) (n int, err error) {
	for n < len(b) && s.broken == nil {
		var k int
		k, s.broken = s.stream.Read(b[n:])
		n += k
	}
	if n == len(b) {
		return n, nil
	}
	return n, s.broken
}

// Empty returns a part of no bytes.
func Empty() *Part { return &Part{SectionReader: io.NewSectionReader(bytesAt(nil), 0, 0)} }

// A bytesAt is an io.ReaderAt of memory.
type bytesAt []byte

func (b bytesAt) ReadAt(p []byte, off int64) (int, error) {
	n := copy(p, b[min(off, int64(len(b))):])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
