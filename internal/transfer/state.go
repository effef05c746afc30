package transfer

import (
	"bytes"
	"io"
	"os"

	"github.com/seed-0f2c7998/perdure/internal/record"
)

// stateFormat is what the state of a part calls itself. A part of another format is fetched from scratch.
const stateFormat = "perdure-part-3"

// maxState is how many bytes of a state file are read.
const maxState = 64 << 20

// A head is the first line of a state file.
type head struct {
	Format    string  `json:"format"`
	Source    string  `json:"source"`
	Inode     uint64  `json:"inode"` // of the part
	Algorithm string  `json:"algorithm"`
	Version   Version `json:"version"`
}

// A piece is a range that has been written, and its CRC.
type piece struct {
	Range

	CRC uint64 `json:"crc"`
}

// A state is the file of records that say what a part is of and which of its ranges are there. A record that is written
// later about the same From holds more. One that is not whole was being written when the process was killed, and is
// ignored, as is one that was altered.
type state struct {
	file *os.File
	size int64 // bytes in it
}

// begin makes the state that of a new part.
func (s *state) begin(h head) error {
	if err := s.file.Truncate(0); err != nil {
		return err
	}
	s.size = 0
	return s.append(h)
}

// append writes a line. Beyond what is read again nothing is written.
func (s *state) append(line any) error {
	text, err := record.Encode(line)
	if err != nil || s.size+int64(len(text)) > maxState {
		return err
	}
	n, err := s.file.WriteAt(text, s.size)
	s.size += int64(n)
	return err
}

// load reads the state. ok is false if its head is damaged, or of another format.
func (s *state) load() (h head, pieces []piece, ok bool) {
	text, err := io.ReadAll(io.NewSectionReader(s.file, 0, maxState))
	if err != nil {
		return h, nil, false
	}
	s.size = int64(bytes.LastIndexByte(text, '\n') + 1)
	first := bytes.IndexByte(text, '\n') + 1
	if !record.Decode(text[:first], &h) || h.Format != stateFormat || !h.Version.Resumable() {
		return h, nil, false
	}
	longest := make(map[int64]piece)
	for line := range bytes.Lines(text[first:]) {
		var p piece
		if record.Decode(line, &p) && p.From >= 0 && p.To > longest[p.From].To && p.To > p.From && p.To <= h.Version.Size {
			longest[p.From] = p
		}
	}
	return h, disjoint(longest), true
}

// disjoint returns the pieces in order, without those that overlap others.
func disjoint(longest map[int64]piece) []piece {
	pieces := sorted(longest)
	kept := pieces[:0]
	for _, p := range pieces {
		if len(kept) == 0 || p.From >= kept[len(kept)-1].To {
			kept = append(kept, p)
		}
	}
	return kept
}
