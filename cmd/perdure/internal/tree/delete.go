package tree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"

	"golang.org/x/text/unicode/norm"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
)

// MaxDelete is how many files a sync deletes unless it is told otherwise; and never more than half of those that the
// destination has.
const MaxDelete = 1000

// errDisorder is the error of a listing by which nothing can be deleted.
var errDisorder = errors.New("nothing is deleted: the store lists its objects out of order")

// errReplaced is the error of a directory by which nothing can be deleted.
var errReplaced = errors.New("nothing is deleted: another directory was moved or mounted there during the copy")

// errEmptied is the error of a source that has lost its files, such as a directory that is no longer mounted.
var errEmptied = errors.New("nothing is deleted: SRC had files when the copy began, and now has none")

// prune deletes the files that the destination has and the source has not. Both are listed again, after all files were
// copied, so that what appeared meanwhile stays.
func (r *run) prune(ctx context.Context) error {
	r.pruning = true
	if err := r.ready(ctx); err != nil {
		return err
	}
	if r.To == nil && r.dir == nil {
		return nil // a dry run, and DST does not exist
	}
	extra, total, err := r.extra(ctx)
	if err != nil {
		return err
	}
	limit := r.MaxDelete
	if limit < 0 {
		limit = min(MaxDelete, total/2)
	}
	if len(extra) > limit {
		return &exit.Error{Code: exit.Failed, Err: fmt.Errorf("nothing is deleted: %d of the %d files in DST are not in SRC, and at most %d may be deleted; check SRC, or use --max-delete %d", len(extra), total, limit, len(extra))}
	}
	for rel, err := range r.remove(ctx, extra) {
		if err != nil && ctx.Err() != nil {
			break // what the store has deleted of the last batch is not known
		}
		e := Entry{Action: Deleted}
		if r.DryRun {
			e.Action, e.Reason = WouldDelete, "not in SRC"
		}
		at := filepath.Join(r.Dir, filepath.FromSlash(rel))
		if r.To == nil {
			e.Path = at
		} else if place, _ := r.To.Join(rel); place != nil {
			e.Key, at = place.Key(), place.Where()
		}
		if err != nil {
			err = endpoint.Explain("delete", at, err)
		}
		r.record(e, err)
	}
	return context.Cause(ctx)
}

// ready opens what was not opened because there was nothing to copy. It returns an error if the directory has been replaced.
func (r *run) ready(ctx context.Context) error {
	if r.From == nil && !r.connected {
		if err := r.connect(ctx); err != nil {
			return err
		}
	}
	if r.To == nil && r.dir == nil {
		if err := r.begin(); err != nil {
			return endpoint.Explain("write", r.Dir, endpoint.Denied(err))
		}
	}
	if r.dir == nil {
		return nil
	}
	if same, err := r.dir.Current(); err != nil || !same {
		return endpoint.Explain("read", r.Dir, cmp.Or(err, errReplaced))
	}
	return nil
}

// extra returns the files that the destination has and the source has not, and how many the destination has.
func (r *run) extra(ctx context.Context) (extra []string, total int, err error) {
	var from, to listing
	had := r.listed.Load()+r.unchosen.Load() > 0
	has, end, err := r.names(r.side(ctx, r.From, r.Links, &from))
	if err != nil {
		return nil, 0, r.unread(r.From, err)
	}
	defer end()
	for i, err := range r.side(ctx, r.To, Skip, &to) { // a link below DST is deleted itself
		if err != nil {
			return nil, 0, r.unread(r.To, err)
		}
		if i.Dir && r.From == nil || i.Link && r.Links == Skip || r.reserved(i.Rel) {
			continue
		}
		total++
		found, err := has(i.Rel)
		if err != nil {
			return nil, 0, r.unread(r.From, err)
		}
		if !found && !from.belowLink(i.Rel) {
			extra = append(extra, i.Rel)
		}
	}
	return extra, total, r.doubt(ctx, had && !from.begun, from.disorder || to.disorder)
}

// doubt returns an error if nothing can be deleted by the two listings.
func (r *run) doubt(ctx context.Context, emptied, disorder bool) error {
	switch {
	case ctx.Err() != nil: // a listing may have ended early
		return context.Cause(ctx)
	case disorder:
		return errDisorder
	case emptied:
		return endpoint.Explain("read", r.source(), errEmptied)
	}
	return nil
}

// side lists the chosen files of one side: of a store, or of the directory if store is nil. A file that cannot be listed is an
// error, unless it is a special file below DST.
func (r *run) side(ctx context.Context, store endpoint.Endpoint, links Links, l *listing) iter.Seq2[endpoint.Item, error] {
	list := Walked(ctx, r.Dir, links)
	if store != nil {
		list = l.ordered(store.List(ctx))
	}
	return func(yield func(endpoint.Item, error) bool) {
		for i, err := range list {
			l.begun = l.begun || err == nil
			if i.Link {
				l.skipped(i.Rel)
			}
			if err == nil && errors.Is(i.Err, errSpecial) || err == nil && !r.chosen(i) {
				continue
			}
			if !yield(i, cmp.Or(err, i.Err)) {
				return
			}
		}
	}
}

// names returns a function that reports whether a listing has a name. It must be called with names in order, unless the
// file system of the destination has several names for one file: then names keeps the whole listing.
func (r *run) names(list iter.Seq2[endpoint.Item, error]) (has func(rel string) (bool, error), end func(), err error) {
	if r.fold == nil {
		m, err := newMerge(list)
		return func(rel string) (bool, error) {
			_, found, _, err := m.find(rel)
			return found, err
		}, m.stop, err
	}
	all := make(map[string]bool)
	for i, err := range list {
		if err != nil {
			return nil, nil, err
		}
		all[norm.NFC.String(r.fold(i.Rel))] = true
	}
	return func(rel string) (bool, error) { return all[norm.NFC.String(r.fold(rel))], nil }, func() {}, nil
}

// unread returns the error of the listing of one side.
func (r *run) unread(store endpoint.Endpoint, err error) error {
	if store != nil {
		return r.unlisted(store, err)
	}
	return endpoint.Explain("read", r.Dir, err)
}

// remove deletes files of the destination, unless this is a dry run, and yields each with its result.
func (r *run) remove(ctx context.Context, rels []string) iter.Seq2[string, error] {
	if r.To != nil && !r.DryRun {
		return r.To.Remove(ctx, rels)
	}
	return func(yield func(string, error) bool) {
		for _, rel := range rels {
			var err error
			if !r.DryRun {
				if ctx.Err() != nil {
					return
				}
				err = r.dir.Remove(rel)
			}
			if !yield(rel, err) {
				return
			}
		}
	}
}
