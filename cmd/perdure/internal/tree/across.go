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
	why := missing
	if i.exists || i.unknown {
		var sum string
		if sum, why = sameObject(ctx, i, from, to); why == "" {
			return r.skipped(i, sum), nil
		}
	}
	if r.DryRun {
		return r.would(i, why), nil
	}
	return r.copied(copying.One(ctx, r.copy(from, i), to))
}

// sameObject returns the checksum by which two objects are the same, or why they are not. It compares the checksums in the
// listings, and, if these are missing or differ, those of the objects, which takes a request each.
func sameObject(ctx context.Context, i item, from, to endpoint.Endpoint) (sum, why string) {
	if i.exists && i.Size != i.existing.Size {
		return "", otherSize
	}
	if sum = i.Sum.String(); i.exists && !i.Sum.IsZero() && sum == i.existing.Sum.String() {
		return sum, ""
	}
	a, err := from.Stat(ctx)
	if err != nil || a.Checksum.IsZero() {
		return "", noSum // the copy reports the error
	}
	b, err := to.Stat(ctx)
	switch sum = a.Checksum.String(); {
	case err != nil:
		return "", missing
	case a.Size != b.Size:
		return "", otherSize
	case sum != b.Checksum.String():
		return "", otherSum
	}
	return sum, ""
}
