package transfer

import (
	"math"
	"slices"
	"sort"
)

// A set is a set of bytes: ascending ranges with gaps between them.
type set []Range

// add adds r.
func (s *set) add(r Range) {
	if r.To <= r.From {
		return
	}
	i := sort.Search(len(*s), func(i int) bool { return (*s)[i].To >= r.From })
	j := i
	for ; j < len(*s) && (*s)[j].From <= r.To; j++ {
		r = Range{min(r.From, (*s)[j].From), max(r.To, (*s)[j].To)}
	}
	*s = slices.Replace(*s, i, j, r)
}

// cut removes r, which is within the range at index i.
func (s *set) cut(i int, r Range) {
	have := (*s)[i]
	rest := set{{have.From, r.From}, {r.To, have.To}}
	rest = slices.DeleteFunc(rest, func(r Range) bool { return r.From == r.To })
	*s = slices.Replace(*s, i, i+1, rest...)
}

// first removes and returns up to piece bytes that begin at from, if the set begins there.
func (s *set) first(from, piece int64) (Range, bool) {
	if len(*s) == 0 || (*s)[0].From != from {
		return Range{}, false
	}
	r := Range{from, min((*s)[0].To, (from/piece+1)*piece)}
	s.cut(0, r)
	return r, true
}

// last removes and returns up to piece bytes from the end of the set or, if window is not 0, from the end of its
// first window bytes.
func (s *set) last(piece, window int64) (Range, bool) {
	limit := int64(math.MaxInt64)
	if window > 0 && len(*s) > 0 {
		limit = (*s)[0].From/piece*piece + max(window, piece)
	}
	for i, have := range slices.Backward(*s) {
		if have.From < limit {
			to := min(have.To, limit)
			r := Range{max(have.From, (to-1)/piece*piece), to}
			s.cut(i, r)
			return r, true
		}
	}
	return Range{}, false
}
