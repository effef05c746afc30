package tree

import (
	"context"
	"strings"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/copying"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/sums"
	"github.com/seed-0f2c7998/perdure/internal/checksum"
)

// across copies one object, URL or file to a store, unless the store has it.
func (r *run) across(ctx context.Context, i item) (Entry, error) {
	from, err := r.From.Join(i.Rel)
	if err != nil {
		return Entry{}, endpoint.Explain("read", from.Where(), err)
	}
	to, err := r.To.Join(i.Rel)
	if err != nil {
		return Entry{}, endpoint.Explain("write", to.Where(), err)
	}
	why := missing
	if i.exists || i.unknown {
		v, err := r.sameSource(ctx, i, from, to)
		if err != nil {
			return Entry{}, err
		}
		if v.same {
			if !r.DryRun {
				to.Settle(ctx, from)
			}
			return r.skipped(i, v), nil
		}
		why = v.why
	}
	if r.DryRun {
		return r.would(i, why), nil
	}
	got, err := copying.One(ctx, r.copy(from, i), to)
	if err == nil {
		r.remember(i, got)
	}
	return r.copied(got, why, err)
}

// sameSource compares a source and the object of an item.
func (r *run) sameSource(ctx context.Context, i item, from, to endpoint.Endpoint) (verdict, error) {
	if _, versioned := from.(endpoint.Versioned); versioned || !i.Want.IsZero() {
		return r.sameRecorded(ctx, i, to)
	}
	file, ok := from.(*endpoint.File)
	if !ok {
		return r.sameObject(ctx, i, from, to), nil
	}
	f, err := file.Reader()
	if err != nil {
		return differs(missing), nil // the copy reports the error
	}
	defer func() { _ = f.Close() }()
	return r.same(ctx, f, i, to), nil
}

// sameObject compares two objects: the sizes, the ETags in the listings if they have the form of an MD5 or of that of an object
// in parts, and, if these differ, the checksums of the objects, which takes a request each.
func (r *run) sameObject(ctx context.Context, i item, from, to endpoint.Endpoint) verdict {
	if i.Size < 0 {
		info, err := from.Stat(ctx)
		if err != nil {
			return differs(noSum) // the copy reports the error
		}
		i.Item = i.Described(info)
	}
	switch {
	case i.exists && i.Size != i.existing.Size:
		return differs(otherSize)
	case i.exists && r.SizeOnly:
		return bySize(true)
	case i.exists && !sums.ETag(i.ETag).IsZero() && strings.Trim(i.ETag, `"`) == strings.Trim(i.existing.ETag, `"`):
		return equalSum(describe(i.Item))
	}
	v := r.requested(ctx, from, to)
	if v.why == noSum && !i.Sum.IsZero() && !i.existing.Sum.IsZero() {
		v.why = otherSum // the MD5s in the listings differ
	}
	return v
}

// requested compares two objects by their sizes, by their modification times if ModTimes is set, and by their checksums. It
// takes a request each.
func (r *run) requested(ctx context.Context, from, to endpoint.Endpoint) verdict {
	a, err := from.Stat(ctx)
	if err != nil {
		return differs(noSum) // the copy reports the error
	}
	b, err := to.Stat(ctx)
	switch {
	case err != nil:
		return differs(missing)
	case a.Size != b.Size || r.SizeOnly:
		return bySize(a.Size == b.Size)
	case r.Session.ModTimes && endpoint.SameTime(a.Modified, b.Modified):
		return verdict{same: true, why: sameTime}
	}
	return compareSums(a.Checksum, b.Checksum)
}

// compareSums compares the checksums of two objects.
func compareSums(a, b checksum.Sum) verdict {
	switch {
	case a.IsZero() || b.IsZero() || a.Kind() != b.Kind() || a.PartSize != b.PartSize:
		return differs(noSum)
	case a.String() != b.String():
		return differs(otherSum)
	}
	return equalSum(a.String())
}
