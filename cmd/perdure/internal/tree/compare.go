package tree

import (
	"context"
	"errors"
	"hash"
	"io"
	"os"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/sums"
	"github.com/seed-0f2c7998/perdure/internal/checksum"
)

// A verdict says whether the destination has an item.
type verdict struct {
	same bool
	sum  string // by which they are the same; "" if none was compared
	why  string // same is what it is

	time time.Time // that the object has as metadata and the file has not; zero means it is unknown, or the same
}

// The reasons of a verdict.
const (
	missing   = "not in DST"
	otherSize = "other size"
	otherSum  = "other checksum"
	noSum     = "no checksum to compare"

	sameSum  = "same checksum"
	sameSize = "same size"
	sameTime = "same size and time"
)

func equalSum(sum string) verdict { return verdict{same: true, sum: sum, why: sameSum} }
func differs(why string) verdict  { return verdict{why: why} }
func bySize(equal bool) verdict {
	if equal {
		return verdict{same: true, why: sameSize}
	}
	return differs(otherSize)
}

// same compares a file and the object, or the file, of an item, which is at place. It compares the sizes first. Then it compares the ETag in
// the listing, and, if that is no checksum or differs (the MD5 of an encrypted object does), the checksum of the object, which
// takes a request. If neither matches, the two are not the same. It does not read a file whose checksum is cached.
func (r *run) same(ctx context.Context, f *os.File, i item, place endpoint.Endpoint) verdict {
	listed, isListed, err := r.listedObject(ctx, i, place)
	if err != nil {
		return differs(noSum) // the copy reports the error
	}
	info, err := f.Stat()
	if err != nil || isListed && info.Size() != listed.Size {
		return differs(otherSize)
	}
	c := comparison{f, info, r.Sums.File(i.Rel, info)}
	if v := r.inListing(ctx, c, listed); isListed && v.same {
		return v
	}
	known, err := place.Stat(ctx)
	switch {
	case err != nil: // the copy reports the error
		return differs(missing)
	case known.Size != info.Size() || r.SizeOnly:
		return bySize(known.Size == info.Size())
	case r.Session.ModTimes && endpoint.SameTime(info.ModTime(), known.Modified):
		return verdict{same: true, why: sameTime}
	}
	if file, ok := place.(*endpoint.File); ok {
		known.Checksum = sumOf(ctx, file)
	}
	v := r.byObject(ctx, c, listed, known)
	v.time = known.Modified
	return v
}

// listedObject returns the object of an item as a listing has it, and whether one has.
func (r *run) listedObject(ctx context.Context, i item, place endpoint.Endpoint) (endpoint.Item, bool, error) {
	switch {
	case r.To != nil:
		return i.existing, i.exists, nil
	case i.Size >= 0:
		return i.Item, true, nil
	}
	info, err := place.Stat(ctx)
	return i.Described(info), true, err
}

// inListing compares a file with an object of the same size by what its listing says. If ModTimes is set, that is only whether
// the cache knows the ETag: the modification time of an object takes a request, but reads nothing.
func (r *run) inListing(ctx context.Context, c comparison, listed endpoint.Item) verdict {
	modTimes := r.Session.ModTimes
	switch {
	case r.SizeOnly:
		return bySize(true)
	case modTimes && r.To == nil: // the file gets the time of the object
		return verdict{}
	case c.cached.Has(sums.ETag(listed.ETag)) || !modTimes && c.has(ctx, listed.Sum):
		return equalSum(describe(listed))
	}
	return verdict{}
}

// byObject compares a file with the checksum of an object, and with its ETag, if inListing has not.
func (r *run) byObject(ctx context.Context, c comparison, listed endpoint.Item, known endpoint.Info) verdict {
	if r.Session.ModTimes {
		listed = listed.Described(known)
		if c.cached.Has(sums.ETag(listed.ETag)) || c.has(ctx, listed.Sum) {
			return equalSum(describe(listed))
		}
	}
	sum := known.Checksum
	switch {
	case sum.IsZero() && listed.Sum.IsZero():
		return differs(noSum)
	case !c.cached.Has(sums.Of(sum)) && !c.has(ctx, sum):
		return differs(otherSum)
	}
	c.remember(sums.ETag(known.ETag)) // so that the next run needs no request
	return equalSum(sum.String())
}

// describe returns the checksum in a listing.
func describe(listed endpoint.Item) string {
	if listed.Sum.IsZero() {
		return "etag:" + strings.Trim(listed.ETag, `"`)
	}
	return listed.Sum.String()
}

// A comparison is that of one file with an object.
type comparison struct {
	file   *os.File
	info   os.FileInfo // before it was read
	cached sums.File
}

// has reads the file and reports whether it has the checksum.
func (c comparison) has(ctx context.Context, sum checksum.Sum) bool {
	if sum.IsZero() || !c.read(ctx, sum) {
		return false
	}
	c.remember(sums.Of(sum))
	return true
}

// remember adds a checksum of the file to the cache.
func (c comparison) remember(sum sums.Sum) {
	if now, err := c.file.Stat(); err == nil {
		c.cached.Add(sum, now)
	}
}

func (c comparison) read(ctx context.Context, sum checksum.Sum) bool {
	h := sum.New()
	return hashed(ctx, c.file, c.info.Size(), h) && sum.Check(h.Sum(nil)) == nil
}

// sumOf returns the CRC-32C of a file, or no checksum if it cannot be read: the copy reports the error.
func sumOf(ctx context.Context, source *endpoint.File) (sum checksum.Sum) {
	f, err := source.Reader()
	if err != nil {
		return sum
	}
	defer func() { _ = f.Close() }()
	const name = "crc32c"
	h := checksum.New(name)
	if info, err := f.Stat(); err == nil && hashed(ctx, f, info.Size(), h) {
		sum = checksum.Of(name, h)
	}
	return sum
}

// hashed writes a file of about that size to h, and reports whether it was read to its end.
func hashed(ctx context.Context, f *os.File, size int64, h hash.Hash) bool {
	buffer := make([]byte, min(256<<10, size+1)) // one more, to see the end
	for at := int64(0); ctx.Err() == nil; {
		n, err := f.ReadAt(buffer, at)
		_, _ = h.Write(buffer[:n])
		at += int64(n)
		if err != nil {
			return errors.Is(err, io.EOF)
		}
	}
	return false
}

// learn remembers the checksum of a file that was copied, unless the file has changed. now is its info after the copy.
func learn(cached sums.File, now os.FileInfo, got endpoint.Stored) {
	if tag := sums.ETag(got.ETag); !tag.IsZero() {
		cached.Add(tag, now)
		return
	}
	if sum, err := checksum.Parse(got.Checksum); err == nil {
		cached.Add(sums.Of(sum), now)
	}
}
