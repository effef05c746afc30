package transfer

import (
	"cmp"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"os"
	"sync"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/checksum"
)

// The bytes, and the time while bytes arrive, between two records of a piece in progress.
const (
	recordBytes = 1 << 20
	recordEvery = time.Second
)

// bufferSize is the size of one read in bytes.
const bufferSize = 512 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }} //nolint:gochecknoglobals // a pool

func newBuffer() *[bufferSize]byte { return buffers.Get().(*[bufferSize]byte) } //nolint:errcheck,forcetypeassert // as New makes them

// An output is a part and what has been written to it. Each written byte is added to the CRC of its piece; the CRC of
// all bytes is combined from those. Checksums that need the bytes in order are computed from the page cache, behind
// the writers. Methods that are safe for concurrent use say so.
type output struct {
	part     *os.File
	progress func(done, total int64)
	want     checksum.Sum
	record   func(any) error // appends a record to the state; nil if no later process can resume

	version   Version  // of the resource
	algorithm string   // of the pieces' CRCs
	stream    *stretch // the bytes of File.Write
	ordered   ordered

	mu     sync.Mutex
	pieces map[int64]piece // what has been written, by From; guarded by mu, as all that follows
	front  int64           // From of a piece up to whose beginning all bytes have been written
	bytes  int64           // the number of written bytes
	grew   chan struct{}   // receives a value after a piece has grown; nil while no follower waits for it
}

// An ordered computes the checksums that need the bytes in order.
type ordered struct {
	hashes map[string]hash.Hash // by the expected Sum
	at     int64                // of the next byte
	inline bool                 // the bytes arrive in order
}

// begin discards all bytes and prepares for those of a version, with the given CRC algorithm; "" means the one that
// suits.
func (o *output) begin(v Version, algorithm string) {
	sums := []checksum.Sum{v.Checksum, o.want}
	for _, sum := range sums {
		if sum.Combines() {
			algorithm = cmp.Or(algorithm, sum.Name)
		}
	}
	o.algorithm = cmp.Or(algorithm, "crc32c")
	o.version, o.record, o.front, o.bytes, o.pieces = v, nil, 0, 0, make(map[int64]piece)
	o.ordered = ordered{hashes: make(map[string]hash.Hash), inline: true}
	for _, sum := range sums {
		if !sum.IsZero() && (!sum.Combines() || sum.Name != o.algorithm) {
			o.ordered.hashes[sum.String()] = sum.New()
		}
	}
	o.stream = o.newStretch(0)
}

// reread keeps those pieces whose bytes in the part match their CRCs, and returns their total size.
func (o *output) reread(pieces []piece) (int64, error) {
	buffer := newBuffer()
	defer buffers.Put(buffer)
	for _, p := range pieces {
		h := checksum.New(o.algorithm)
		w := io.MultiWriter(h, &o.ordered)
		if o.ordered.at != p.From {
			w = h
		}
		n, err := io.CopyBuffer(w, struct{ io.Reader }{io.NewSectionReader(o.part, p.From, p.To-p.From)}, buffer[:])
		if err != nil {
			return 0, err
		}
		if n == p.To-p.From && checksum.CRC(h) == p.CRC {
			o.pieces[p.From] = p
			o.bytes += n
		} else if o.ordered.at > p.From {
			o.ordered.reset()
		}
	}
	return o.bytes, nil
}

func (w *ordered) Write(p []byte) (int, error) {
	for _, h := range w.hashes {
		_, _ = h.Write(p)
	}
	w.at += int64(len(p))
	return len(p), nil
}

func (w *ordered) reset() {
	for _, h := range w.hashes {
		h.Reset()
	}
	w.at = 0
}

// A stretch is a run of bytes written one after the other, which are one piece.
type stretch struct {
	o        *output
	from, at int64
	crc      hash.Hash
	recorded int64     // the end of the recorded bytes
	when     time.Time // the time of the last record
}

func (o *output) newStretch(from int64) *stretch {
	return &stretch{o: o, from: from, at: from, crc: checksum.New(o.algorithm), recorded: from, when: time.Now()}
}

// Write writes p, and records the stretch from time to time.
func (s *stretch) Write(p []byte) (int, error) {
	o := s.o
	if _, err := o.part.WriteAt(p, s.at); err != nil {
		return 0, &WriteError{err}
	}
	_, _ = s.crc.Write(p)
	if o.ordered.inline && o.ordered.at == s.at {
		_, _ = o.ordered.Write(p)
	}
	s.at += int64(len(p))
	o.mu.Lock()
	o.pieces[s.from] = s.piece()
	o.bytes += int64(len(p))
	if o.progress != nil {
		o.progress(o.bytes, o.version.Size)
	}
	o.mu.Unlock()
	select {
	case o.grew <- struct{}{}:
	default:
	}
	if fresh := s.at - s.recorded; o.record != nil && (fresh >= recordBytes || fresh >= recordBytes/64 && time.Since(s.when) >= recordEvery) {
		if err := s.end(); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

func (s *stretch) piece() piece { return piece{Range{s.from, s.at}, checksum.CRC(s.crc)} }

// end records the stretch.
func (s *stretch) end() error {
	if s.o.record == nil || s.at == s.recorded {
		return nil
	}
	s.recorded, s.when = s.at, time.Now()
	return wrapWrite(s.o.record(s.piece()))
}

// write writes the bytes of body to r, or up to the end of body if r.To is -1. It is safe for concurrent use.
func (o *output) write(body io.Reader, r Range) error {
	limit := int64(math.MaxInt64)
	if r.To >= 0 {
		limit = r.To - r.From
	}
	buffer := newBuffer()
	defer buffers.Put(buffer)
	s := o.newStretch(r.From)
	n, err := io.CopyBuffer(s, io.LimitReader(body, limit), buffer[:])
	switch {
	case n == limit: // whatever follows
		err = nil
		flush(o.part, r.From, n)
	case err == nil && r.To >= 0:
		err = io.ErrUnexpectedEOF
	}
	return errors.Join(err, s.end())
}

func wrapWrite(err error) error {
	if err == nil {
		return nil
	}
	return &WriteError{err}
}

// catchUp adds the contiguous bytes from the beginning to the ordered checksums, unless ended returns an error.
func (o *output) catchUp(ended func() error) error {
	buffer := newBuffer()
	defer buffers.Put(buffer)
	for ended() == nil {
		n := min(o.contiguous()-o.ordered.at, bufferSize)
		if n <= 0 {
			return nil
		}
		if _, err := o.part.ReadAt(buffer[:n], o.ordered.at); err != nil {
			return &WriteError{err}
		}
		_, _ = o.ordered.Write(buffer[:n])
	}
	return nil
}

// contiguous returns how many bytes from the beginning are written.
func (o *output) contiguous() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		end := o.pieces[o.front].To
		if _, more := o.pieces[end]; !more || end <= o.front {
			return max(end, o.front)
		}
		o.front = end
	}
}

// missing returns the bytes of the version that are not written.
func (o *output) missing() (missing set) {
	missing.add(Range{0, o.version.Size})
	for _, p := range sorted(o.pieces) {
		missing.cut(len(missing)-1, p.Range)
	}
	return missing
}

// whole returns the CRC of all bytes, or an error if some are missing.
func (o *output) whole() (checksum.Sum, error) {
	if len(o.ordered.hashes) > 0 {
		if err := o.catchUp(func() error { return nil }); err != nil {
			return checksum.Sum{}, err
		}
	}
	crc, at := uint64(0), int64(0)
	for _, p := range sorted(o.pieces) {
		if p.From != at {
			break
		}
		crc, at = checksum.Combine(o.algorithm, crc, p.CRC, p.To-p.From), p.To
	}
	if size := o.version.Size; at != o.bytes || size >= 0 && at != size {
		return checksum.Sum{}, fmt.Errorf("%w: received %d of %d bytes", io.ErrUnexpectedEOF, at, max(size, o.bytes))
	}
	return checksum.FromCRC(o.algorithm, crc), nil
}

// computed returns the checksum of the bytes of the kind of s; all is their CRC.
func (o *output) computed(s, all checksum.Sum) []byte {
	if h := o.ordered.hashes[s.String()]; h != nil {
		return h.Sum(nil)
	}
	return all.Value
}
