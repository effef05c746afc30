package tree

import (
	"context"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/copying"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
)

// across copies one object from store to store, unless the destination has it.
func (r *run) across(ctx context.Context, i item) (Entry, error) {
	from, err := r.From.Join(i.Rel)
	if err != nil {
		return Entry{}, endpoint.Explain("read", from.Where(), err)
	}
	to, err := r.To.Join(i.Rel)
	if err != nil {
		return Entry{}, endpoint.Explain("write", to.Where(), err)
	}
	if i.exists || i.unknown {
		if sum, same := sameObject(ctx, i, from, to); same {
			r.moved.Add(i.Size)
			return Entry{Bytes: i.Size, Checksum: sum, Action: Skipped}, nil
		}
	}
	return r.copied(copying.One(ctx, r.copy(from, i), to))
}

// sameObject reports whether two objects are the same, and by which checksum. It compares the checksums in the listings, and,
// if these are missing or differ, those of the objects, which takes a request each.
func sameObject(ctx context.Context, i item, from, to endpoint.Endpoint) (string, bool) {
	if i.exists && i.Size != i.existing.Size {
		return "", false
	}
	if i.exists && !i.Sum.IsZero() && i.Sum.String() == i.existing.Sum.String() {
		return i.Sum.String(), true
	}
	a, err := from.Stat(ctx)
	if err != nil || a.Checksum.IsZero() {
		return "", false // the copy reports the error
	}
	b, err := to.Stat(ctx)
	return a.Checksum.String(), err == nil && a.Size == b.Size && a.Checksum.String() == b.Checksum.String()
}
