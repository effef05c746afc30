package transfer

import (
	"math"
	"slices"
)

// A set is a set of bytes: ascending ranges with gaps between them.
type set []Range

// add adds r.
func (s *set) add(r Range) {
	if r.To <= r.From {
		return
	}
	i, _ := slices.BinarySearchFunc(*s, r.From, func(have Range, from int64) int {
		if have.To < from {
			return -1
		}
		return 1
	})
	j := i
	for ; j < len(*s) && (*s)[j].From <= r.To; j++ {
		r = Range{min(r.From, (*s)[j].From), max(r.To, (*s)[j].To)}
	}
	*s = slices.Replace(*s, i, j, r)
}

// cut removes r, which is within one range of the set.
func (s *set) cut(r Range) {
	for i, have := range *s {
		if have.From > r.From || have.To < r.To {
			continue
		}
		var rest []Range
		if have.From < r.From {
			rest = append(rest, Range{have.From, r.From})
		}
		if r.To < have.To {
			rest = append(rest, Range{r.To, have.To})
		}
		*s = slices.Replace(*s, i, i+1, rest...)
		return
	}
}

// gaps returns the bytes from 0 to size that are not in the set.
func (s set) gaps(size int64) set {
	var missing set
	from := int64(0)
	for _, have := range s {
		if from < have.From {
			missing = append(missing, Range{from, have.From})
		}
		from = have.To
	}
	if from < size {
		missing = append(missing, Range{from, size})
	}
	return missing
}

// first removes and returns up to piece bytes that begin at from, if the set begins there.
func (s *set) first(from, piece int64) (Range, bool) {
	if len(*s) == 0 || (*s)[0].From != from {
		return Range{}, false
	}
	r := Range{from, min((*s)[0].To, pieceEnd(from, piece))}
	s.cut(r)
	return r, true
}

// last removes and returns up to piece bytes from the end of the set or, if window is not 0, from the end of its
// first window bytes.
func (s *set) last(piece, window int64) (Range, bool) {
	if len(*s) == 0 {
		return Range{}, false
	}
	limit := int64(math.MaxInt64)
	if window > 0 {
		limit = (*s)[0].From/piece*piece + max(window, piece)
	}
	for _, have := range slices.Backward(*s) {
		if have.From < limit {
			to := min(have.To, limit)
			r := Range{max(have.From, (to-1)/piece*piece), to}
			s.cut(r)
			return r, true
		}
	}
	return Range{}, false
}

// pieceEnd returns the end of the piece with the byte at from.
func pieceEnd(from, piece int64) int64 { return (from/piece + 1) * piece }
