package objects

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
)

// A source is what is sent, part by part. next is for one goroutine; what it
// returns is for others.
type source struct {
	at     io.ReaderAt // nil: a stream
	offset int64       // of the next part, in at
	end    int64       // of at
	stream io.Reader

	size     int64 // of all; -1: not known
	partSize int64
	drained  bool // there is no next part

	// slots limits the parts under way. With a stream the slot is the part's
	// memory, made when it is first used.
	slots chan []byte
}

func (s *Store) newSource(r io.Reader) (*source, error) {
	src := &source{stream: r, size: -1, slots: make(chan []byte, s.parallel)}
	for range s.parallel {
		src.slots <- nil
	}
	if at, ok := r.(interface {
		io.ReaderAt
		io.Seeker
	}); ok {
		offset, err := at.Seek(0, io.SeekCurrent)
		if err == nil { // else a pipe, say
			if src.end, err = at.Seek(0, io.SeekEnd); err != nil {
				return nil, err
			}
			src.at, src.offset, src.size = at, offset, max(src.end-offset, 0)
		}
	}
	src.partSize = cmp.Or(s.partSize, int64(minPart))
	if src.at != nil {
		least := (src.size + maxParts - 1) / maxParts
		src.partSize = max(cmp.Or(s.partSize, 8*mib), (least+mib-1)/mib*mib)
	}
	return src, nil
}

// A part is a piece of a source. Release it when it is done with.
type part struct {
	*io.SectionReader

	slot  []byte
	slots chan []byte
}

func (p *part) release() {
	if p.slots != nil {
		p.slots <- p.slot
	}
}

// sum returns the part's CRC-32, and rewinds it.
func (p *part) sum() (uint32, error) {
	crc, n, err := crcOf(p)
	if err == nil && n != p.Size() {
		err = fmt.Errorf("the source has become shorter meanwhile: %d bytes where there were %d", n, p.Size())
	}
	return crc, err
}

// next returns the next part, when there is a slot for it, or io.EOF.
func (s *source) next(ctx context.Context) (*part, error) {
	if s.drained {
		return nil, io.EOF
	}
	p := &part{slots: s.slots}
	select {
	case p.slot = <-s.slots:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if err := s.fill(p); err != nil {
		p.release()
		return nil, err
	}
	return p, nil
}

func (s *source) fill(p *part) error {
	if s.at != nil {
		length := min(s.partSize, s.end-s.offset)
		if length <= 0 {
			s.drained = true
			return io.EOF
		}
		p.SectionReader = io.NewSectionReader(s.at, s.offset, length)
		s.offset += length
		s.drained = s.offset == s.end
		return nil
	}
	if p.slot == nil {
		p.slot = make([]byte, s.partSize)
	}
	n, err := io.ReadFull(s.stream, p.slot)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		s.drained, err = true, nil
	}
	if err != nil {
		s.drained = true
		return err
	}
	p.SectionReader = io.NewSectionReader(bytesAt(p.slot[:n]), 0, int64(n))
	return nil
}

// bytesAt reads from memory.
type bytesAt []byte

func (b bytesAt) ReadAt(p []byte, off int64) (int, error) {
	n := copy(p, b[min(off, int64(len(b))):])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
