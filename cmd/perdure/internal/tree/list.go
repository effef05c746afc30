package tree

import (
	"cmp"
	"fmt"
	"iter"
	"path"
	"slices"
	"strings"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
)

// window is how many items a listing remembers, to recognize repeated ones.
const window = 4_000

// A listing is a store's listing with each Rel once, and in order up to the first item out of order. All later items are
// buffered and sorted.
type listing struct {
	disorder bool            // an item was out of order
	links    map[string]bool // the Rels of skipped links

	last   string          // the greatest Rel so far
	begun  bool            // last is set
	recent map[string]bool // the last window Rels
	ring   []string        // the keys of recent, the oldest at next
	next   int
}

// ordered yields the items of a listing, each Rel once.
func (l *listing) ordered(list iter.Seq2[endpoint.Item, error]) iter.Seq2[endpoint.Item, error] {
	return func(yield func(endpoint.Item, error) bool) {
		var held []endpoint.Item
		for i, err := range list {
			switch {
			case err != nil:
				yield(i, err)
				return
			case l.begun && i.Rel == l.last || l.recent[i.Rel]:
				continue
			case l.begun && i.Rel < l.last:
				l.disorder = true
			}
			l.remember(i.Rel)
			if l.disorder {
				held = append(held, i)
			} else if !yield(i, nil) {
				return
			}
		}
		slices.SortStableFunc(held, func(a, b endpoint.Item) int { return cmp.Compare(a.Rel, b.Rel) })
		held = slices.CompactFunc(held, func(a, b endpoint.Item) bool { return a.Rel == b.Rel })
		for _, i := range held {
			if !yield(i, nil) {
				return
			}
		}
	}
}

// skipped remembers a link that is skipped.
func (l *listing) skipped(rel string) {
	if l.links == nil {
		l.links = make(map[string]bool)
	}
	l.links[rel] = true
}

// belowLink reports whether a Rel is below a link that was skipped.
func (l *listing) belowLink(rel string) bool {
	for above := path.Dir(rel); above != "." && above != "/"; above = path.Dir(above) {
		if l.links[above] {
			return true
		}
	}
	return false
}

func (l *listing) remember(rel string) {
	if l.recent == nil {
		l.recent = make(map[string]bool)
	}
	if len(l.ring) < window {
		l.ring = append(l.ring, rel)
	} else {
		delete(l.recent, l.ring[l.next])
		l.ring[l.next] = rel
		l.next = (l.next + 1) % window
	}
	l.recent[rel] = true
	if !l.begun || rel > l.last {
		l.last, l.begun = rel, true
	}
}

// apart yields sorted items. It sets Err on an item whose file would also have to be a directory, or would be the same file
// as that of another item by fold. If fold is not nil, all items are buffered.
//
// apart holds an item while a later item may be below it: while the next Rel begins with the item's Rel. In order, all items
// below "a/" come before "a0".
func apart(items iter.Seq2[endpoint.Item, error], fold func(string) string) iter.Seq2[endpoint.Item, error] {
	if fold != nil {
		items = folded(items, fold)
	} else {
		fold = func(name string) string { return name }
	}
	return func(yield func(endpoint.Item, error) bool) {
		var open []endpoint.Item // each begins with the one before
		release := func(keep func(endpoint.Item) bool) bool {
			for len(open) > 0 && !keep(open[len(open)-1]) {
				i := open[len(open)-1]
				open = open[:len(open)-1]
				if !yield(i, nil) {
					return false
				}
			}
			return true
		}
		for i, err := range items {
			if err != nil {
				if release(func(endpoint.Item) bool { return false }) {
					yield(i, err)
				}
				return
			}
			name := fold(i.Rel)
			if !release(func(o endpoint.Item) bool {
				rest, below := strings.CutPrefix(name, fold(o.Rel))
				return below && (rest == "" || rest[0] <= '/')
			}) {
				return
			}
			for n := range open {
				if o := &open[n]; strings.HasPrefix(name, fold(o.Rel)+"/") && !o.Dir && o.Err == nil {
					o.Err = fmt.Errorf("the file would also have to be a directory, for %s", i.Rel)
				}
			}
			open = append(open, i)
		}
		release(func(endpoint.Item) bool { return false })
	}
}

// folded yields all items sorted by fold. It sets Err on items that fold maps to the same name.
func folded(items iter.Seq2[endpoint.Item, error], fold func(string) string) iter.Seq2[endpoint.Item, error] {
	return func(yield func(endpoint.Item, error) bool) {
		var all []endpoint.Item
		for i, err := range items {
			if err != nil {
				yield(i, err)
				return
			}
			all = append(all, i)
		}
		slices.SortStableFunc(all, func(a, b endpoint.Item) int { return cmp.Compare(fold(a.Rel), fold(b.Rel)) })
		for n := range all {
			for _, near := range []int{n - 1, n + 1} {
				if i := &all[n]; near >= 0 && near < len(all) && !i.Dir && i.Err == nil && fold(all[near].Rel) == fold(i.Rel) {
					i.Err = fmt.Errorf("the file would be the same as that of %s", all[near].Rel)
				}
			}
		}
		for _, i := range all {
			if !yield(i, nil) {
				return
			}
		}
	}
}

// A merge finds the items of a listing for names that come in order.
type merge struct {
	listing

	next func() (endpoint.Item, error, bool)
	stop func()
	at   endpoint.Item // the next item of the listing
	more bool          // at is set
}

// newMerge reads the first item of a listing.
func newMerge(list iter.Seq2[endpoint.Item, error]) (*merge, error) {
	m := &merge{}
	m.next, m.stop = iter.Pull2(m.ordered(list))
	return m, m.advance()
}

func (m *merge) advance() (err error) {
	m.at, err, m.more = m.next()
	m.more = m.more && err == nil
	return err
}

// find returns the item of rel, which must be greater than that of the call before. known is false if the listing was out of
// order.
func (m *merge) find(rel string) (i endpoint.Item, found, known bool, err error) {
	for m.more && m.at.Rel < rel {
		if err := m.advance(); err != nil {
			return i, false, false, err
		}
	}
	if m.more && m.at.Rel == rel && m.at.Err == nil {
		return m.at, true, true, nil
	}
	return i, false, !m.disorder, nil
}
