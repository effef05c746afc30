// Package source cuts what is to be sent into parts.
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

// The limits of S3, in bytes: of each part but the last, and of any part and of
// an object that is not in parts; and how many parts there may be.
const (
	MinPart  = 5 << 20
	MaxPart  = 5 << 30
	MaxParts = 10_000
)

// The size of a part if none is given: a stream's are held in memory.
const (
	filePart   = 8 << 20
	streamPart = MinPart
)

// A Growth says how the parts of a stream, whose length nobody knows, grow with
// their number.
type Growth struct {
	After  int   // how many have the first size
	Every  int   // how many have each size after that
	By     int64 // bytes by which each of those is larger than the one before
	Memory int64 // bytes that parts which have grown take in all, unless it is one
}

// StreamGrowth makes 5 TiB fit in MaxParts parts, of which the first are of
// MinPart. The largest is of 1157 MiB.
func StreamGrowth() Growth { return Growth{After: 1000, Every: 125, By: 16 << 20, Memory: 1 << 30} }

// Part returns the size of part n, from 0, if the first is of that size.
func (g Growth) Part(first int64, n int) int64 {
	if n < g.After {
		return first
	}
	return min(first+int64((n-g.After)/g.Every+1)*g.By, MaxPart)
}

// width returns how many parts as part n are held in memory at a time.
func (g Growth) width(n int, size int64, parallel int) int {
	if n < g.After {
		return parallel
	}
	return max(1, min(parallel, int(g.Memory/size)))
}

// A Source is what is sent, part by part. Next is for one goroutine; what it
// returns is for others.
type Source struct {
	at     io.ReaderAt // nil: a stream
	offset int64       // of the next part, in at
	end    int64       // of at
	stream io.Reader
	broken error // the stream's end

	Size     int64 // of all; -1: not known
	PartSize int64 // of each but the last; the first of a stream, see Growth
	Drained  bool  // there is no next part

	growth Growth
	number int // of the next part of a stream, from 0
	width  int // how many of a stream are held at a time

	slots  *slots.Slots
	memory chan []byte // of a stream's parts that are released
}

// New returns the Source of what r holds from its position on. At most so many
// parts are under way at a time, and as many again wait for their next attempt,
// unless r is a stream, whose parts are held in memory. A partSize of 0 is what
// suits r. The parts of a stream grow by g.
func New(r io.Reader, partSize int64, parallel int, g Growth) (*Source, error) {
	s := &Source{stream: r, Size: -1, growth: g, width: parallel}
	if at, ok := r.(interface {
		io.ReaderAt
		io.Seeker
	}); ok {
		offset, err := at.Seek(0, io.SeekCurrent)
		if err == nil { // else a pipe, say
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

// All returns everything that the source has, or nil if it is a stream.
func (s *Source) All() *io.SectionReader {
	if s.at == nil {
		return nil
	}
	return io.NewSectionReader(s.at, s.end-s.Size, s.Size)
}

// Rewind goes back to the first part, once all parts are released, and reports
// whether that is possible: not with a stream.
func (s *Source) Rewind() bool {
	if s.at == nil {
		return false
	}
	s.offset, s.Drained = s.end-s.Size, false
	return true
}

// A Part is a piece of a Source. Release it when it is done with.
type Part struct {
	*io.SectionReader

	Slot *slots.Slot

	memory []byte // nil: it needs none
	free   chan<- []byte
}

// Release lets another part take its place.
func (p *Part) Release() {
	if p.memory != nil {
		p.free <- p.memory
	}
	p.Slot.Release()
}

// Read reads from the part. That the source can't be read, or is shorter than it
// was, is no fault of the store's: it is not tried again, and counts for nothing.
func (p *Part) Read(b []byte) (int, error) {
	n, err := p.SectionReader.Read(b)
	if err == nil {
		return n, nil
	}
	at, _ := p.Seek(0, io.SeekCurrent) // it only counts
	switch {
	case err != io.EOF: //nolint:errorlint // a Reader's end is io.EOF itself
		err = retry.Permanent(err)
	case at < p.Size():
		err = retry.Permanent(fmt.Errorf("the source has become shorter meanwhile: a part has %d bytes where it had %d", at, p.Size()))
	}
	return n, err
}

// Sums returns the part's CRC-32 and, if it is to be signed, its SHA-256 in hex,
// and rewinds the part.
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

// Next returns the next part, when there is a slot for it, or io.EOF.
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

// narrow keeps slots from the parts of a stream that have grown, with the memory
// of one each.
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

// readFull reads until b is full or the stream ends or fails, and returns the
// stream's own error: io.ReadFull's would make a stream that broke, with
// io.ErrUnexpectedEOF, look like one that ended.
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

// bytesAt reads from memory.
type bytesAt []byte

func (b bytesAt) ReadAt(p []byte, off int64) (int, error) {
	n := copy(p, b[min(off, int64(len(b))):])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
