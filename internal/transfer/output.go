package transfer

import (
	"cmp"
	"errors"
	"fmt"
	"hash"
	"io"
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
	stream    *stretch // the bytes of append; nil before the first
	ordered   ordered

	mu     sync.Mutex
	have   set             // the written bytes; guarded by mu, as all that follows
	pieces map[int64]piece // the recorded ones, by From
	bytes  int64           // the number of written bytes
	grew   chan struct{}   // receives a value after have has grown
}

// An ordered computes the checksums that need the bytes in order.
type ordered struct {
	sums   []checksum.Sum // expected
	hashes []hash.Hash
	at     int64 // of the next byte
	inline bool  // the bytes arrive in order
}

// begin discards all bytes and prepares for those of a version, with the given CRC algorithm; "" means the one that
// suits.
func (o *output) begin(v Version, algorithm string) {
	o.algorithm = algorithm
	for _, sum := range []checksum.Sum{v.Checksum, o.want} {
		if sum.Combines() {
			o.algorithm = cmp.Or(o.algorithm, sum.Name)
		}
	}
	o.algorithm = cmp.Or(o.algorithm, "crc32c")
	o.version, o.record, o.stream, o.have, o.bytes, o.ordered = v, nil, nil, nil, 0, ordered{inline: true}
	o.pieces, o.grew = make(map[int64]piece), make(chan struct{}, 1)
	for _, sum := range []checksum.Sum{v.Checksum, o.want} {
		if !sum.IsZero() && (!sum.Combines() || sum.Name != o.algorithm) {
			o.ordered.sums = append(o.ordered.sums, sum)
			o.ordered.hashes = append(o.ordered.hashes, sum.New())
		}
	}
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
			o.have.add(p.Range)
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

// wrote counts p, which has been written.
func (s *stretch) wrote(p []byte) error {
	_, _ = s.crc.Write(p)
	o := s.o
	if o.ordered.inline && o.ordered.at == s.at && len(o.ordered.hashes) > 0 {
		_, _ = o.ordered.Write(p)
	}
	from := s.at
	s.at += int64(len(p))
	o.mu.Lock()
	o.have.add(Range{from, s.at})
	o.bytes += s.at - from
	if o.progress != nil {
		o.progress(o.bytes, o.version.Size)
	}
	o.mu.Unlock()
	select {
	case o.grew <- struct{}{}:
	default:
	}
	if o.record == nil || s.at-s.recorded < recordBytes && (s.at-s.recorded < recordBytes/64 || time.Since(s.when) < recordEvery) {
		return nil
	}
	return s.end()
}

// end records the stretch as a piece.
func (s *stretch) end() error {
	if s.at == s.recorded {
		return nil
	}
	p := piece{Range{s.from, s.at}, checksum.CRC(s.crc)}
	s.recorded, s.when = s.at, time.Now()
	s.o.mu.Lock()
	defer s.o.mu.Unlock()
	s.o.pieces[s.from] = p
	if s.o.record == nil {
		return nil
	}
	return s.o.record(p)
}

// append counts p, which has been written at the end.
func (o *output) append(p []byte) {
	if o.stream == nil {
		o.stream = o.newStretch(0)
	}
	_ = o.stream.wrote(p) // nothing is recorded
}

// write writes the bytes of body to r, or up to the end of body if r.To is -1. It is safe for concurrent use.
func (o *output) write(body io.Reader, r Range) (err error) {
	buffer := newBuffer()
	defer buffers.Put(buffer)
	s := o.newStretch(r.From)
	defer func() { err = errors.Join(err, wrapWrite(s.end())) }()
	for r.To < 0 || s.at < r.To {
		into := buffer[:]
		if r.To >= 0 {
			into = buffer[:min(bufferSize, r.To-s.at)]
		}
		n, err := body.Read(into)
		if n > 0 {
			if _, err := o.part.WriteAt(into[:n], s.at); err != nil {
				return wrapWrite(err)
			}
			if err := s.wrote(into[:n]); err != nil {
				return wrapWrite(err)
			}
		}
		switch {
		case err == io.EOF && (r.To < 0 || s.at == r.To):
			return nil
		case err == io.EOF:
			return io.ErrUnexpectedEOF
		case err != nil && s.at != r.To:
			return err
		}
	}
	flush(o.part, r.From, s.at-r.From)
	return nil
}

func wrapWrite(err error) error {
	if err == nil {
		return nil
	}
	return &WriteError{err}
}

// follow computes the ordered checksums behind the writers until stop is closed.
func (o *output) follow(stop <-chan struct{}) error {
	if len(o.ordered.hashes) == 0 {
		return nil
	}
	for {
		select {
		case <-stop:
			return nil
		case <-o.grew:
		}
		if err := o.catchUp(stop); err != nil {
			return err
		}
	}
}

// catchUp adds the contiguous bytes from the beginning to the ordered checksums.
func (o *output) catchUp(stop <-chan struct{}) error {
	buffer := newBuffer()
	defer buffers.Put(buffer)
	for {
		o.mu.Lock()
		end := int64(0)
		if len(o.have) > 0 && o.have[0].From == 0 {
			end = o.have[0].To
		}
		o.mu.Unlock()
		n := min(end-o.ordered.at, bufferSize)
		select {
		case <-stop:
			return nil
		default:
		}
		if n <= 0 {
			return nil
		}
		if _, err := o.part.ReadAt(buffer[:n], o.ordered.at); err != nil {
			return &WriteError{err}
		}
		_, _ = o.ordered.Write(buffer[:n])
	}
}

// verify compares all bytes with the checksum of their version and with the wanted one. It returns their checksum,
// and by which algorithm they were verified. It may be called once, after the last write.
func (o *output) verify() (sum checksum.Sum, by string, err error) {
	v := o.version
	if sum, err = o.whole(); err != nil {
		return sum, "", err
	}
	crc := sum
	by, err = v.Checksum.Verify(o.computed(v.Checksum, crc), v.Inconclusive)
	switch {
	case err != nil:
		return sum, "", err
	case by == "size" && v.Size < 0:
		by = ""
	case by != "size" && v.Checksum.PartSize == 0:
		sum = v.Checksum
	}
	if o.want.IsZero() {
		return sum, by, nil
	}
	return o.want, o.want.Kind(), o.want.Want(o.computed(o.want, crc))
}

// whole returns the CRC of all bytes, or an error if some are missing.
func (o *output) whole() (checksum.Sum, error) {
	if o.stream != nil {
		_ = o.stream.end()
	}
	if size := o.version.Size; size >= 0 && o.bytes != size {
		return checksum.Sum{}, fmt.Errorf("%w: received %d of %d bytes", io.ErrUnexpectedEOF, o.bytes, size)
	}
	if len(o.ordered.hashes) > 0 {
		if err := o.catchUp(nil); err != nil {
			return checksum.Sum{}, err
		}
	}
	crc, at := uint64(0), int64(0)
	for _, p := range sorted(o.pieces) {
		if p.From != at {
			return checksum.Sum{}, fmt.Errorf("%w: bytes %d to %d are missing", io.ErrUnexpectedEOF, at, p.From)
		}
		crc, at = checksum.Combine(o.algorithm, crc, p.CRC, p.To-p.From), p.To
	}
	return checksum.FromCRC(o.algorithm, crc), nil
}

// computed returns the checksum of the bytes of the kind of s; all is their CRC.
func (o *output) computed(s, all checksum.Sum) []byte {
	for i, other := range o.ordered.sums {
		if other.String() == s.String() {
			return o.ordered.hashes[i].Sum(nil)
		}
	}
	return all.Value
}
