// Package pieces shares a large object out among the connections that fetch it:
// the first takes piece after piece from the beginning, and the others from the
// end, until they meet.
package pieces

import (
	"hash"
	"sync"

	"github.com/seed-0f2c7998/perdure/internal/checksum"
)

// A Piece is the CRC of a piece of an object, and its length.
type Piece struct {
	Sum  uint64
	Size int64
}

// Of returns what a hash of a piece has come to.
func Of(h hash.Hash, size int64) Piece { return Piece{checksum.CRC(h), size} }

// Pieces are those of one object, by number from 0. They are safe for concurrent
// use; the zero Pieces are none.
type Pieces struct {
	size, total int64 // bytes

	mu   sync.Mutex
	sums []Piece // guarded by mu, as all that follows
	have []bool  // which of them are there
	low  int     // the next from the beginning
	high int     // one more than the next from the end
}

// Cut returns the pieces of an object of total bytes, of size bytes each but the
// last.
func Cut(total, size int64) *Pieces {
	count := int((total + size - 1) / size)
	return &Pieces{size: size, total: total, sums: make([]Piece, count), have: make([]bool, count), high: count}
}

// Count returns how many there are.
func (p *Pieces) Count() int { return len(p.sums) }

// Span returns where a piece begins and ends.
func (p *Pieces) Span(n int) (begin, end int64) {
	begin = int64(n) * p.size
	return begin, min(begin+p.size, p.total)
}

// Add says that piece n is there.
func (p *Pieces) Add(n int, s Piece) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sums[n], p.have[n] = s, true
}

// Sums returns those of all, in their order, once all are there.
func (p *Pieces) Sums() []Piece {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sums
}

// First returns the next piece from the beginning that is missing and that nobody
// has taken, and takes it; -1: there is none.
func (p *Pieces) First() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.low < p.high {
		if p.low++; !p.have[p.low-1] {
			return p.low - 1
		}
	}
	return -1
}

// Last is First from the end.
func (p *Pieces) Last() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.low < p.high {
		if p.high--; !p.have[p.high] {
			return p.high
		}
	}
	return -1
}
