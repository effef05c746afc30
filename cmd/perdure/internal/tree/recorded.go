package tree

import (
	"context"
	"os"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/sums"
	"github.com/seed-0f2c7998/perdure/internal/checksum"
)

// Recorded is a From that records what was copied, for a later run.
type Recorded interface {
	endpoint.Endpoint
	// Known returns what an earlier run has recorded of an item.
	Known(rel string) (Known, bool)
	// Record records that an item was copied.
	Record(rel string, got endpoint.Stored) error
}

// Known is what an earlier run has copied to the destination of an item.
type Known struct {
	endpoint.Stored

	Want    string                              // checksum that was required
	Current func(context.Context) (bool, error) // asks the source whether it is still that; nil if it cannot be asked
}

// Why a recorded item is copied again.
const (
	changed     = "changed in SRC"
	noValidator = "SRC has neither ETag nor Last-Modified"
)

// known returns what is recorded of an item.
func (r *run) known(i item) (Known, bool) {
	if from, ok := r.From.(Recorded); ok {
		return from.Known(i.Rel)
	}
	return Known{}, false
}

// remember records that an item was copied.
func (r *run) remember(i item, got endpoint.Stored) {
	from, ok := r.From.(Recorded)
	if !ok {
		return
	}
	if err := from.Record(i.Rel, got); err != nil && r.Warn != nil {
		r.unrecorded.Do(func() {
			r.Warn("What was copied cannot be recorded, and the next run copies it again: " + endpoint.Brief(err))
		})
	}
}

// byRecord returns whether the destination, which has what is recorded, has the source's present content.
func byRecord(ctx context.Context, k Known) (verdict, error) {
	if k.Current == nil {
		return differs(noValidator), nil
	}
	current, err := k.Current(ctx)
	switch {
	case err != nil:
		return verdict{}, err
	case !current:
		return differs(changed), nil
	}
	return verdict{same: true, sum: k.Checksum, why: "not changed in SRC"}, nil
}

// sameFile compares a file of the destination and an item: by the checksum that it must have, by the record of an earlier run, or
// as same does.
func (r *run) sameFile(ctx context.Context, f *os.File, i item, from endpoint.Endpoint) (verdict, error) {
	_, versioned := from.(endpoint.Versioned)
	if !versioned && i.Want.IsZero() {
		return r.same(ctx, f, i, from), nil
	}
	info, err := f.Stat()
	if err != nil {
		return differs(otherSize), nil //nolint:nilerr // the file is replaced
	}
	c := comparison{f, info, r.Sums.File(i.Rel, info)}
	has := func(sum checksum.Sum) bool { return c.cached.Has(sums.Of(sum)) || c.has(ctx, sum) }
	if !i.Want.IsZero() {
		if has(i.Want) {
			return equalSum(i.Want.String()), nil
		}
		return differs(otherSum), nil
	}
	k, ok := r.known(i)
	if !ok {
		return differs(noSum), nil
	}
	if sum, err := checksum.Parse(k.Checksum); err != nil || k.Bytes != info.Size() || !has(sum) {
		return differs(otherSum), nil //nolint:nilerr // it is copied again
	}
	return byRecord(ctx, k)
}

// sameRecorded compares an object of the destination and an item, by the checksum that it must have, or by the record of an
// earlier run.
func (r *run) sameRecorded(ctx context.Context, i item, to endpoint.Endpoint) (verdict, error) {
	existing := i.existing
	if !i.exists {
		info, err := to.Stat(ctx)
		if err != nil {
			return differs(missing), nil //nolint:nilerr // the copy reports the error
		}
		existing = existing.Described(info)
	}
	k, ok := r.known(i)
	ok = ok && k.ETag != "" && k.ETag == existing.ETag && k.Bytes == existing.Size
	switch want := i.Want.String(); {
	case want == "" && !ok:
		return differs(noSum), nil
	case want == "":
		return byRecord(ctx, k)
	case ok && k.Want == want || existing.Sum.String() == want:
		return equalSum(want), nil
	}
	info, err := to.Stat(ctx)
	if err == nil && info.Checksum.String() == i.Want.String() {
		return equalSum(i.Want.String()), nil
	}
	return differs(otherSum), nil
}
