package transfer

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	"github.com/seed-0f2c7998/perdure/internal/record"
)

// stateFormat is the format's name in a state file. A part with another format is fetched from scratch.
const stateFormat = "perdure-part-3"

// maxState is the limit of a state file in bytes.
const maxState = 64 << 20

// A head is the first line of a state file.
type head struct {
	Format    string  `json:"format"`
	Source    string  `json:"source"`
	Inode     uint64  `json:"inode"` // of the part
	Algorithm string  `json:"algorithm"`
	Version   Version `json:"version"`
}

// A piece is a written range and its CRC.
type piece struct {
	Range

	CRC uint64 `json:"crc"`
}

// parseState parses the content of a state file: what a part is of, and which of its ranges are written, in order and
// without overlaps. Of two records with the same From the later one is longer. Truncated and altered records are
// ignored; ok is false if that is the first one, or if it has another format.
func parseState(text []byte) (h head, pieces []piece, ok bool) {
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
	for _, p := range sorted(longest) {
		if len(pieces) == 0 || p.From >= pieces[len(pieces)-1].To {
			pieces = append(pieces, p)
		}
	}
	return h, pieces, true
}

// sorted returns the pieces in order.
func sorted(pieces map[int64]piece) []piece {
	return slices.SortedFunc(maps.Values(pieces), func(a, b piece) int { return cmp.Compare(a.From, b.From) })
}
